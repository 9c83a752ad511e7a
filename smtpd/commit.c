/* The end of a transaction: everything to qmgr, and the answer once it is durable (I4). */
#include "libmail/proto/inject.h"
#include "smtpd/events.h"
#include "smtpd/session.h"

enum { ENVELOPE_PACKED_MAX = 4096 };

void commit_drop(struct session *s)
{
    struct transaction *t = s->txn;
    struct peer *qmgr = t->mentioned ? daemon_peer(s->server->daemon, CONV_INJECT, -1) : NULL;
    t->mentioned = false;
    if (qmgr && t->qmgr_epoch == s->server->qmgr_epoch)
        (void)ipc_send(
            qmgr->ipc, inject_drop_type, t->qid, &(struct inject_drop){.txn = t->qid}, -1);
}

/* One reply for the message; LMTP wants one for each accepted recipient (RFC 2033 §4.2). */
static unsigned replies_due(const struct session *s)
{
    return session_is_lmtp(s) ? s->txn->accepted : 1;
}

static void fail(
    struct session *s, unsigned code, const char *dsn, const char *rule, struct slice text)
{
    unsigned n = replies_due(s);
    commit_drop(s);
    for (unsigned i = 1; i < n; i++)
        session_reply(s, code, dsn, "%.*s", SLICE_FMT(text));
    session_refuse(s, "DATA", code, dsn, rule, text);
}

static void succeed(struct session *s, const struct inject_result *r)
{
    struct transaction *t = s->txn;
    char ms[24], qid[ID_TEXT];
    unsigned n = replies_due(s);
    id_print(t->qid, qid);
    snprintf(ms, sizeof(ms), "%u.%u", r->commit_us / 1000, r->commit_us % 1000 / 100);
    t->mentioned = false;
    s->messages++;
    s->recipients += t->accepted;
    while (n--)
        session_reply(s, 250, "2.0.0", "Ok: queued as %s", qid);
    log_event(&t->log, msg_accept, .from = t->sender.n ? t->sender : SLICE_LIT("<>"),
        .nrcpt = t->nrecipients, .size = t->size, .message_id = t->message_id,
        .commit_ms = slice_of(ms), .user = session_login(s), .priority = t->priority,
        .bulk = t->bulk,
        .rule = t->hold.n ? arena_printf(&t->arena, "hold:%.*s", SLICE_FMT(t->hold)) : t->hold,
        .hold_until = t->hold_until);
}

/* The rule behind a refusal of the queue: 4.5.3 is said of a message whose recipients do not fit
 * into half a log segment. */
static const char *rule_of(const struct inject_result *r)
{
    if (r->code != 452)
        return "queue-refused";
    return slice_is(r->dsn, "4.5.3") ? "segment-size" : "disk-full";
}

static void on_result(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct inject_result *r = in ? in->msg : NULL;
    char dsn[16];
    if (!session_answered(s))
        return;
    if (r && r->code == 250)
        succeed(s, r);
    else if (r && r->code >= 400 && r->code <= 599 && slice_to_cstr(r->dsn, dsn, sizeof(dsn)))
        fail(s, r->code, dsn, rule_of(r), r->text);
    else
        fail(s, 451, "4.3.0", "queue-away", SLICE_LIT("Queue is not available, try again later"));
    session_reset(s);
    session_resume(s, SESSION_COMMAND);
}

static int pack_envelope(struct session *s, struct buf *out)
{
    struct transaction *t = s->txn;
    struct envelope e = {.sender = t->sender,
        .envid = t->mail.envid,
        .ret = t->mail.ret,
        .body = t->mail.body,
        .smtputf8 = t->mail.smtputf8,
        .utf8_header = t->mail.smtputf8 && t->utf8_header,
        .bulk = t->bulk,
        .priority = t->priority,
        .hold_until = t->hold_until,
        .hold = t->hold,
        .received = loop_wall(s->server->daemon->loop),
        .session = s->sid,
        .client = slice_of(s->client),
        .client_name = slice_of(s->client_name),
        .helo = slice_of(s->helo),
        .login = session_login(s),
        .listener = slice_of(s->service->name),
        .message_id = t->message_id};
    return record_put(out, &envelope_record, &e);
}

/* Cuts whole records of at most max bytes off the front of *rest. */
static struct slice cut_records(struct slice *rest, size_t max)
{
    struct reader r = reader_of(*rest);
    struct recipient rcpt;
    size_t used = 0;
    while (r.rest.n && record_get(&r, &recipient_record, &rcpt) == OK && rest->n - r.rest.n <= max)
        used = rest->n - r.rest.n;
    struct slice part = slice_first(*rest, used);
    *rest = slice_from_index(*rest, used);
    return part;
}

/* The last part of the recipients travels with the message, what comes before ahead of it. */
static int send_recipients(struct session *s, struct peer *qmgr, struct slice *last)
{
    struct transaction *t = s->txn;
    struct slice rest = buf_slice(&t->recipients);
    while (rest.n > INJECT_RECIPIENTS) {
        struct inject_more more = {.txn = t->qid, .recipients = cut_records(&rest, INJECT_MORE)};
        t->mentioned = true;
        int rc = more.recipients.n ? OK : ERR_LIMIT;
        if (rc == OK)
            rc = ipc_send(qmgr->ipc, inject_more_type, t->qid, &more, -1);
        if (rc)
            return rc;
    }
    *last = rest;
    return OK;
}

/* 0 when the answer will come to on_result. */
static int send_message(struct session *s)
{
    struct transaction *t = s->txn;
    struct peer *qmgr = daemon_peer(s->server->daemon, CONV_INJECT, -1);
    struct inject_accept accept = {.txn = t->qid, .size = t->size, .qid = t->qid};
    char space[ENVELOPE_PACKED_MAX] __attribute__((uninitialized));
    struct buf envelope;
    /* A qmgr that was restarted knows nothing of the file it lent. */
    if (!qmgr || (t->opened && t->qmgr_epoch != s->server->qmgr_epoch))
        return ERR_CLOSED;
    t->qmgr_epoch = s->server->qmgr_epoch;
    transaction_settle(t);
    buf_over(&envelope, space, sizeof(space));
    int rc = pack_envelope(s, &envelope);
    if (rc == OK)
        rc = send_recipients(s, qmgr, &accept.recipients);
    if (rc == OK) {
        fd_close(&t->fd); /* qmgr's lease proves that nobody can write any more */
        accept.envelope = buf_slice(&envelope);
        accept.body = t->opened ? slice_of("") : buf_slice(&t->content);
        ipc_call(qmgr->ipc, inject_accept_type, t->qid, &accept, -1, on_result, s);
    }
    return rc;
}

void commit_start(struct session *s)
{
    struct transaction *t = s->txn;
    struct smtp_refusal f = t->failure;
    if (f.code) {
        fail(s, f.code, f.dsn, t->failure_rule, slice_of(f.text));
    } else {
        t->state = TXN_COMMIT;
        if (send_message(s) == OK) {
            session_wait(s);
            buf_clear(&t->content); /* it is with qmgr now */
            return;
        }
        fail(s, 451, "4.3.0", "queue-away", SLICE_LIT("Queue is not available, try again later"));
    }
    session_reset(s);
    if (s->state < SESSION_CLOSING)
        s->state = SESSION_COMMAND;
}
