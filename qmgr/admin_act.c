#include <inttypes.h>
#include <stdlib.h>

#include "libmail/proto/inject.h"
#include "libmail/proto/queue.h"
#include "qmgr/admin.h"
#include "qmgr/filter.h"

enum { WHY_MAX = 160 };

bool admin_idle(const struct message *m)
{
    return !m->busy && !m->moving && !m->reporting && !m->updates;
}

/* What is asked of one message; why says so when nothing was done. */
struct act {
    struct qmgr *q;
    struct message *m;
    struct slice argument;
    bool all;   /* every message is meant */
    bool later; /* it has to be read beside the loop first; nothing was done */
    bool load;  /* later: and to be loaded */
    char why[WHY_MAX];
};

static bool refuse(struct act *a, const char *why)
{
    snprintf(a->why, sizeof(a->why), "%.*s", WHY_MAX - 1, why);
    return false;
}

/* Others work on it, or it cannot be loaded: nothing is to be done with it now, or later. Otherwise
 * it has content. */
static bool unavailable(struct act *a)
{
    struct message *m = a->m;
    struct error err = {.text = "it is being worked on"};
    if (m->committing || m->routing || m->giving_up) {
        refuse(a, err.text);
        return true;
    }
    if (large_file(a->q, m))
        return a->later = a->load = true;
    if (queue_load(a->q, m, &err) == OK)
        return false;
    refuse(a, err.text);
    return true;
}

/* Only moves the due time: a message is read when it comes up, or goes on when what is under way
 * with it is over. */
static bool flush_all(struct act *a)
{
    struct message *m = a->m;
    m->flush = true;
    m->report_after = 0;
    if (admin_idle(m))
        queue_wake_in(a->q, m, 0);
    return true;
}

/* Some recipients of the message are in the domain, others not. */
static bool flush_some(struct act *a)
{
    struct message *m = a->m;
    struct error err;
    if (queue_load(a->q, m, &err) != OK)
        return refuse(a, err.text);
    if (m->content->roster) /* only some of them are here to be asked */
        return flush_all(a);
    for (size_t i = 0; i < m->content->count; i++) {
        struct rcpt *r = &m->content->rcpts[i];
        if (r->st.state == RCPT_WAITING && filter_in_domain(r->to.address, a->argument))
            r->st.next = 0;
    }
    m->changes++;
    if (admin_idle(m))
        queue_wake_in(a->q, m, 0);
    return true;
}

/* Which recipients of the message wait, and which of them are meant. Their destinations are tried
 * again, however dead; others are left alone. */
static void look_for(struct act *a, const struct content *c, size_t *open, size_t *inside)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct rcpt *r = &c->rcpts[i];
        if (r->st.state != RCPT_WAITING)
            continue;
        ++*open;
        if (a->argument.n > 0 && !filter_in_domain(r->to.address, a->argument))
            continue;
        ++*inside;
        schedule_revive_one(a->q->schedule, r->to.transport, r->to.nexthop);
    }
}

static bool flush_one(struct act *a)
{
    struct message *m = a->m;
    struct peek p;
    struct error err = {.text = ""};
    size_t inside = 0, open = 0;
    bool future = false, some = false;
    if (m->held)
        return refuse(a, "it is on hold");
    if (m->deleted || m->committing || m->busy || m->routing || m->giving_up)
        return refuse(a, "it is being worked on");
    if (a->all && a->argument.n == 0)
        return flush_all(a);
    if (peek_begin(a->q, m, NULL, &p, &err)) {
        look_for(a, p.m->content, &open, &inside);
        future = queue_awaits_release(a->q, p.m);
        /* of a message with very many, only some are in memory to be told */
        some = inside < open && p.m->content->total <= a->q->set.portion;
    }
    peek_end(&p);
    if (err.code == ERR_AGAIN)
        return !(a->later = true);
    if (future)
        return refuse(a, "its sender does not want it delivered yet: release it");
    if (a->argument.n > 0 && inside == 0)
        return refuse(a, "no recipient in that domain waits");
    return some ? flush_some(a) : flush_all(a);
}

static bool delete_one(struct act *a)
{
    struct message *m = a->m;
    if (m->deleted || m->committing)
        return refuse(a, "it is being worked on");
    m->deleted = true;
    queue_unschedule(a->q, m);
    if (admin_idle(m))
        queue_settle(a->q, m);
    return true;
}

static bool hold_one(struct act *a)
{
    struct message *m = a->m;
    if (m->held)
        return refuse(a, "it is on hold already");
    if (unavailable(a))
        return false;
    m->held = true;
    m->changes++;
    queue_unschedule(a->q, m);
    if (admin_idle(m))
        queue_settle(a->q, m);
    return true;
}

static bool release_one(struct act *a)
{
    struct message *m = a->m;
    if (m->damaged)
        return refuse(a, "it is damaged");
    if (unavailable(a))
        return false;
    if (!m->held && !queue_awaits_release(a->q, m))
        return refuse(a, "it is not on hold");
    m->held = false;
    m->changes++;
    queue_hurry(m);
    if (admin_idle(m))
        queue_wake_in(a->q, m, 0);
    return true;
}

/* The same with very many recipients, which takes a while. */
static bool give_up(struct act *a, struct slice text)
{
    struct message *m = a->m;
    m->giving_up = xmemdup0(text.p, text.n);
    m->report_after = 0;
    queue_unschedule(a->q, m);
    if (admin_idle(m))
        queue_wake_in(a->q, m, 0);
    return true;
}

/* Gives up on what waits: the sender gets a report now. */
static bool bounce_one(struct act *a)
{
    struct message *m = a->m;
    struct error err = {.text = "it is being worked on"};
    struct slice text = a->argument.n ? a->argument : SLICE_LIT("returned by the administrator");
    size_t n = 0;
    if (m->committing || m->deleted || m->routing || m->giving_up)
        return refuse(a, err.text);
    if (m->content ? m->content->roster != NULL : large_file(a->q, m))
        return give_up(a, text);
    if (admin_must_wait(a->q, m, false))
        return !(a->later = true);
    queue_unschedule(a->q, m);
    if (queue_load_whole(a->q, m, &err) != OK)
        return refuse(a, err.text);
    for (size_t i = 0; i < m->content->count; i++) {
        struct rcpt *r = &m->content->rcpts[i];
        if (r->st.state != RCPT_WAITING || r->busy)
            continue;
        rcpt_note(r, FAILED, SLICE_LIT("5.3.0"), text, SLICE_LIT(""));
        r->st.last = loop_wall(a->q->loop);
        queue_rcpt_failed(a->q, m, r);
        n++;
    }
    if (n > 0) {
        m->held = false;
        m->report_after = 0;
        m->changes++;
    }
    if (admin_idle(m))
        queue_settle(a->q, m);
    return n > 0 || refuse(a, "no recipient of it waits");
}

static const struct verb {
    const char *name;
    bool (*act)(struct act *); /* NULL: needs lookupd */
} verbs[] = {
    {"flush", flush_one},
    {"retry", flush_one},
    {"delete", delete_one},
    {"hold", hold_one},
    {"release", release_one},
    {"bounce", bounce_one},
    {"requeue", NULL},
    {"redirect", NULL},
    {"drain", NULL},
};

static const struct verb *find_verb(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (slice_is(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

/* An act on all messages: each is named in the log, of those flushed many in one line. */
struct bulk {
    const struct verb *verb;
    struct actor actor;
    struct buf qids;
};

enum { QIDS_BYTES = 600 };

static void name_flushed(struct qmgr *q, struct bulk *b, struct slice argument)
{
    if (buf_len(&b->qids) == 0)
        return;
    actor_log(
        q, NULL, &b->actor, slice_of(b->verb->name), argument, "done", 0, buf_slice(&b->qids));
    buf_reset(&b->qids);
}

static void name_one(
    struct qmgr *q, struct bulk *b, const struct log *log, uint64_t qid, struct slice argument)
{
    char id[ID_TEXT];
    if (b->verb->act != flush_one) {
        actor_log(q, log, &b->actor, slice_of(b->verb->name), argument, "done", 1, SLICE_LIT(""));
        return;
    }
    id_print(qid, id);
    buf_printf(&b->qids, "%s%s", buf_len(&b->qids) ? "," : "", id);
    if (buf_len(&b->qids) + ID_TEXT > QIDS_BYTES)
        name_flushed(q, b, argument);
}

static int sweep_act(struct qmgr *q, struct message *m, struct slice argument, void *arg)
{
    struct bulk *b = arg;
    struct act a = {.q = q, .m = m, .argument = argument, .all = true};
    struct log log = m->log; /* the message may be gone afterwards */
    uint64_t qid = m->qid;
    if (!b->verb->act(&a))
        return !a.later ? 0 : a.load ? SWEEP_LOAD : SWEEP_LOOK;
    name_one(q, b, &log, qid, argument);
    return 1;
}

static void sweep_over(const struct sweep_end *e)
{
    struct bulk *b = e->arg;
    name_flushed(e->q, b, e->argument);
    actor_log(e->q, NULL, &b->actor, slice_of(b->verb->name), e->argument, "done", e->count,
        SLICE_LIT(""));
    buf_clear(&b->qids);
    free(b);
}

static void sweep_done(const struct sweep_end *e)
{
    const struct queue_acted reply = {.code = OK, .count = e->count, .text = SLICE_LIT("")};
    if (e->peer)
        ipc_reply(e->peer->ipc, e->id, 0, queue_acted_type, &reply, -1);
    sweep_over(e);
}

static struct bulk *bulk_new(const struct verb *verb, struct actor actor)
{
    struct bulk *b = NEW(struct bulk);
    b->verb = verb;
    b->actor = actor;
    buf_init(&b->qids, QIDS_BYTES);
    return b;
}

/* All messages. The answer comes later. */
static void act_all(
    struct peer *peer, uint32_t id, const struct verb *verb, const struct queue_act *msg)
{
    struct qmgr *q = peer->daemon->data;
    struct actor actor = {.uid = peer->uid, .act = msg->act};
    const struct sweep_ops ops = {sweep_act, sweep_done, bulk_new(verb, actor)};
    if (verb->act == flush_one && msg->argument.n == 0)
        schedule_revive(q->schedule);
    admin_sweep(q, peer, id, msg->argument, &ops);
}

static void etrn_done(const struct sweep_end *e)
{
    const struct inject_etrned reply = {.count = e->count};
    if (e->peer)
        ipc_reply(e->peer->ipc, e->id, 0, inject_etrned_type, &reply, -1);
    sweep_over(e);
}

void admin_etrn(struct peer *peer, uint32_t id, struct slice domain)
{
    struct actor etrn = {.uid = -1, .by = "etrn"};
    const struct sweep_ops ops = {
        sweep_act, etrn_done, bulk_new(find_verb(SLICE_LIT("flush")), etrn)};
    admin_sweep(peer->daemon->data, peer, id, domain, &ops);
}

void admin_up(struct peer *peer)
{
    struct qmgr *q = peer->daemon->data;
    uint64_t key = (uint64_t)peer->uid + 1; /* 0 would be none */
    if (peer->role != ROLE_CTL || !peer->user[0])
        return;
    free(map_remove_id(&q->users, key));
    map_set_id(&q->users, key, xstrdup(peer->user));
}

void actor_log(struct qmgr *q, const struct log *log, const struct actor *who, struct slice verb,
    struct slice argument, const char *result, uint64_t count, struct slice qids)
{
    char by[24] = "", act[ID_TEXT] = "";
    const char *user = who->by;
    if (who->uid >= 0) {
        snprintf(by, sizeof(by), "%" PRId64, who->uid); /* as text: a 0 would be left out */
        user = map_get_id(&q->users, (uint64_t)who->uid + 1);
    }
    if (who->act)
        id_print(who->act, act);
    log_event(log ? log : q->log, queue_action, .by_uid = slice_of(by), .by = slice_of(user),
        .verb = verb, .argument = argument, .result = slice_of(result), .count = count,
        .act = slice_of(act), .qids = qids);
}

void admin_log(struct qmgr *q, const struct log *log, int64_t uid, struct slice verb,
    struct slice argument, const char *result, uint64_t count)
{
    struct actor who = {.uid = uid};
    actor_log(q, log, &who, verb, argument, result, count, SLICE_LIT(""));
}

/* Does it. Returns false when the answer comes later. */
static bool act(struct peer *peer, const struct ipc_in *in, const struct verb *verb,
    struct queue_acted *reply, char why[WHY_MAX])
{
    struct qmgr *q = peer->daemon->data;
    const struct queue_act *msg = in->msg;
    uint32_t id = in->id;
    struct message *m = msg->qid ? admin_find(q, msg->qid) : NULL;
    struct log log = m ? m->log : *q->log; /* the message may be gone afterwards */
    struct act a = {.q = q, .m = m, .argument = msg->argument};
    struct error err = {0};
    if (msg->qid && !m) {
        log_set_id(&log, q->log, "qid", msg->qid);
        error_set(&err, ERR_NOT_FOUND, "no such message in the queue");
    } else if (verb->act && !m) {
        act_all(peer, id, verb, msg);
        return false;
    } else if (verb->act) {
        reply->count = verb->act(&a);
        if (a.later) {
            (a.load ? admin_load : admin_wait)(peer, in, m);
            return false;
        }
        snprintf(why, WHY_MAX, "%s", a.why);
    } else if (!m) {
        error_set(&err, ERR_UNSUPPORTED, "this is done with one message at a time");
    } else if (admin_route(peer, id, m, msg, &err) == OK) {
        return false;
    }
    if (err.code)
        snprintf(why, WHY_MAX, "%.*s", WHY_MAX - 1, err.text);
    reply->code = err.code;
    struct actor who = {.uid = peer->uid, .act = msg->act};
    actor_log(q, &log, &who, msg->verb, msg->argument, why[0] ? why : "done", reply->count,
        SLICE_LIT(""));
    return true;
}

void admin_act(struct peer *peer, struct ipc_in *in)
{
    const struct queue_act *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    const struct verb *verb = find_verb(msg->verb);
    struct queue_acted reply = {.code = OK};
    char why[WHY_MAX] = "";
    if (!verb || !q->committer || q->draining) {
        reply.code = verb ? ERR_TEMP : ERR_UNSUPPORTED;
        reply.text = verb ? SLICE_LIT("the system is not running") : SLICE_LIT("unknown verb");
    } else if (!act(peer, in, verb, &reply, why)) {
        return;
    } else {
        reply.text = slice_of(why);
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_acted_type, &reply, -1);
}
