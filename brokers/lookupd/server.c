#include "brokers/lookupd/server.h"

#include "brokers/lookupd/events.h"
#include "brokers/lookupd/marks.h"
#include "brokers/lookupd/route.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/quota.h"

struct server {
    struct daemon *daemon;
    struct maps *maps;
    struct list requests;
    struct marks marks;
};

struct request {
    struct list link;
    struct server *server;
    struct peer *peer; /* NULL: gone */
    struct route *route;
    uint32_t id;
    uint64_t trace, size;   /* size: of the message as declared, or 0 */
    uint64_t epoch, beyond; /* of the marks and the maps, when it began */
    bool unsteady;          /* the answer depends on more than tables */
    char address[321];
    char mail[1025]; /* of a user, while an agent is asked */
};

int server_configure(struct daemon *d, struct error *err)
{
    struct server *s = NEW(struct server);
    d->data = s;
    s->daemon = d;
    list_init(&s->requests);
    marks_init(&s->marks, d);
    s->maps = maps_new(d->conf, "/etc", err);
    if (!s->maps)
        return err->code;
    d->paths.read = s->maps->read;
    return OK;
}

int server_start(struct daemon *d, struct error *err)
{
    struct server *s = d->data;
    struct buf out;
    buf_init(&out, TABLE_VALUE_MAX);
    int rc = maps_virtual_alias(s->maps, SLICE_LIT("x"), SLICE_LIT("invalid"), &out, err);
    if (rc == OK || rc == ERR_NOT_FOUND)
        rc = maps_alias(s->maps, SLICE_LIT("x.invalid"), &out, err);
    if (rc == OK || rc == ERR_NOT_FOUND)
        rc = maps_transport(s->maps, SLICE_LIT("x@invalid"), SLICE_LIT("invalid"), &out, err);
    if (rc == OK || rc == ERR_NOT_FOUND)
        rc = maps_hold(s->maps, SLICE_LIT("x@invalid"), err);
    if (rc == OK || rc == ERR_NOT_FOUND)
        rc = maps_account(s->maps, SLICE_LIT("x.invalid"), err);
    buf_clear(&out);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

void server_peer_down(struct peer *peer)
{
    struct server *s = peer->daemon->data;
    LIST_EACH(it, &s->requests)
    {
        struct request *q = LIST_ENTRY(it, struct request, link);
        if (q->peer == peer)
            q->peer = NULL;
    }
}

static void on_room(struct ipc_in *in, void *arg)
{
    struct request *q = arg;
    const struct quota_answer *answer = in ? in->msg : NULL;
    uint32_t verdict = answer ? answer->verdict : QUOTA_UNKNOWN;
    /* When nobody can tell, the delivery will. */
    route_known(q->route,
        verdict == QUOTA_FULL         ? ERR_QUOTA
        : verdict == QUOTA_FULL_DEFER ? ERR_AGAIN
                                      : OK,
        slice_of(q->mail));
}

static void on_known(struct ipc_in *in, void *arg)
{
    struct request *q = arg;
    const struct auth_known *known = in ? in->msg : NULL;
    uint32_t code = known ? known->code : AUTH_TEMPORARY;
    if (!known || known->quota.n || !marks_know_users(&q->server->marks, known->generation))
        q->unsteady = true;
    if (code == AUTH_OK && slice_to_cstr(known->mail, q->mail, sizeof(q->mail))) {
        /* That there are none has to be told, too: the agent may remember some. */
        struct quota_ask ask = {.mail = known->mail,
            .coexist = known->coexist,
            .folder = route_folder(q->route),
            .limits = known->quota.n ? known->quota : SLICE_LIT(" "),
            .size = q->size};
        daemon_call(q->server->daemon, CONV_QUOTA, ROLE_VIRTUAL, quota_ask_type, q->trace, &ask, -1,
            on_room, q);
        return;
    }
    route_known(q->route,
        code == AUTH_OK       ? OK
        : code == AUTH_FAILED ? ERR_NOT_FOUND
                              : ERR_TEMP,
        known ? known->mail : (struct slice){NULL, 0});
}

/* Only local may become the account and look. */
static void ask_local(struct request *q, struct slice account)
{
    const struct quota_ask ask = {
        .mail = account, .folder = route_folder(q->route), .size = q->size};
    q->mail[0] = '\0';
    q->unsteady = true;
    daemon_call(
        q->server->daemon, CONV_QUOTA, ROLE_LOCAL, quota_ask_type, q->trace, &ask, -1, on_room, q);
}

static void ask_others(struct route *r, enum route_question what, struct slice name, void *arg)
{
    struct request *q = arg;
    struct auth_user msg = {name};
    (void)r;
    if (what == ROUTE_ACCOUNT) {
        ask_local(q, name);
        return;
    }
    daemon_call(
        q->server->daemon, CONV_AUTH, ROLE_AUTHD, auth_user_type, q->trace, &msg, -1, on_known, q);
}

static void log_verdict(
    const struct request *q, const struct route_verdict *v, bool fault, const char *reason)
{
    struct log ids, *log = &ids;
    log_set_id(log, &q->server->daemon->log, "qid", q->trace);
    struct recipient to = {0};
    struct reader in = reader_of(v->recipients);
    uint32_t n = 0;
    if (v->code == 250) {
        struct recipient other;
        for (; in.rest.n; n++)
            if (record_get(&in, &recipient_record, n ? &other : &to))
                break;
        log_event(log, route_done, .address = slice_of(q->address), .recipients = n,
            .transport = to.transport, .nexthop = to.nexthop);
    } else if (fault) {
        log_event(log, route_trouble, .address = slice_of(q->address), .code = v->code,
            .dsn = v->dsn, .rule = v->rule, .reason = slice_of(reason));
    } else {
        log_event(log, route_refused, .address = slice_of(q->address), .code = v->code,
            .dsn = v->dsn, .rule = v->rule, .reason = slice_of(reason));
    }
}

/* Nothing went into it but tables that are as they were when it began. */
static bool may_be_kept(const struct request *q, const struct route_verdict *v)
{
    struct server *s = q->server;
    if (v->code != 250 || q->unsteady || s->maps->hold || s->maps->beyond != q->beyond)
        return false;
    marks_update(&s->marks, s->maps);
    return !s->marks.incomplete && s->marks.epoch == q->epoch;
}

static void on_done(
    struct route *r, const struct route_verdict *v, bool fault, const char *reason, void *arg)
{
    struct request *q = arg;
    struct route_verdict verdict = *v;
    (void)r;
    log_verdict(q, v, fault, reason);
    verdict.keep = q->peer && marks_known_to(q->peer) && may_be_kept(q, v);
    if (q->peer)
        ipc_reply(q->peer->ipc, q->id, q->trace, route_verdict_type, &verdict, -1);
    list_remove(&q->link);
    free(q);
}

static void on_words(struct peer *peer, const struct ipc_in *in)
{
    const struct route_words *ask = in->msg;
    struct server *s = peer->daemon->data;
    struct error err;
    struct buf subject, text;
    buf_init(&subject, REPORT_SUBJECT_MAX);
    buf_init(&text, REPORT_TEXT_MAX);
    if (maps_report_text(s->maps, ask->kind, REPORT_TEXT_SUBJECT, ask->languages, &subject, &err))
        buf_reset(&subject);
    if (maps_report_text(s->maps, ask->kind, REPORT_TEXT_TEXT, ask->languages, &text, &err))
        buf_reset(&text);
    struct route_worded reply = {.subject = buf_slice(&subject), .text = buf_slice(&text)};
    ipc_reply(peer->ipc, in->id, in->trace, route_worded_type, &reply, -1);
    buf_clear(&subject);
    buf_clear(&text);
}

static void on_check(struct peer *peer, const struct ipc_in *in)
{
    const struct route_check *check = in->msg;
    struct server *s = peer->daemon->data;
    struct request *q = NEW(struct request);
    q->server = s;
    q->peer = peer;
    q->id = in->id;
    q->trace = in->trace;
    q->size = check->size;
    if (!slice_to_cstr(check->address, q->address, sizeof(q->address)))
        q->address[0] = '\0';
    list_append(&s->requests, &q->link);
    if (peer->role == ROLE_SMTPD)
        marks_update(&s->marks, s->maps);
    q->epoch = s->marks.epoch;
    q->beyond = s->maps->beyond;
    q->route = route_new(s->maps, check, ask_others, on_done, q);
    route_run(q->route);
}

void server_message(struct peer *peer, struct ipc_in *in)
{
    const struct route_words *words = in->msg;
    if (in->type == route_check_type)
        on_check(peer, in);
    else if (words->kind <= REPORT_SUCCESS)
        on_words(peer, in);
}

void server_peer_up(struct peer *peer)
{
    struct server *s = peer->daemon->data;
    if (peer->role == ROLE_SMTPD)
        marks_tell(&s->marks, peer);
}

void server_authd(struct peer *peer, struct ipc_in *in)
{
    struct server *s = peer->daemon->data;
    if (in->type == auth_mark_type)
        marks_users(&s->marks, in->msg, &in->fd);
}

void server_authd_change(struct peer *peer)
{
    struct server *s = peer->daemon->data;
    marks_users(&s->marks, NULL, NULL);
}
