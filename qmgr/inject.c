#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "libmail/proto/inject.h"
#include "qmgr/admin.h"

enum { TXNS_MAX = 20000, ROOM_MS = 5000, ROOM_LOOK_MS = 20 };

/* What a client has sent ahead under a number of its own. */
struct txn {
    uint64_t number;
    struct buf recipients;
    size_t count; /* of them */
    bool wrong;   /* some are malformed */
    char big[LOGREC_BIG_NAME];
};

/* A client: one peer of INJECT. */
struct injector {
    struct qmgr *q;
    struct map txns; /* number -> struct txn */
    struct list accepts;
};

/* A message on its way to the disk, and who waits for the answer. */
struct accept {
    struct list link; /* in injector->accepts while the client lives */
    struct list room; /* in q->room.accepts while there is none in the log, with its job */
    struct spool_job *job;
    struct qmgr *q;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    int64_t begun;    /* us */
    int64_t until;    /* loop time: so long it may wait for room */
    int64_t importer; /* the user who put it in by hand; -1: a daemon did */
    struct message *m;
    bool large; /* its recipients are so many that it is parked beside the loop */
};

static struct injector *injector_of(struct peer *peer)
{
    if (!peer->data) {
        struct injector *inj = NEW(struct injector);
        inj->q = peer->daemon->data;
        map_init(&inj->txns);
        list_init(&inj->accepts);
        peer->data = inj;
    }
    return peer->data;
}

static void txn_free(struct injector *inj, struct txn *t, bool keep_big)
{
    if (!t)
        return;
    map_remove_id(&inj->txns, t->number);
    if (t->big[0] && !keep_big) {
        char path[SPOOL_BIG_PATH];
        spool_big_path(t->big, path);
        inj->q->disk->ops->unlink(inj->q->disk, path);
    }
    buf_clear(&t->recipients);
    free(t);
}

static struct txn *find_txn(struct injector *inj, uint64_t number)
{
    struct txn *t = map_get_id(&inj->txns, number);
    if (t || map_count(&inj->txns) >= TXNS_MAX)
        return t;
    t = NEW(struct txn);
    t->number = number;
    buf_init(&t->recipients, spool_record_max(inj->q->spool));
    map_set_id(&inj->txns, number, t);
    return t;
}

void inject_down(struct peer *peer)
{
    struct injector *inj = peer->data;
    void *value;
    admin_sweep_peer_down(peer);
    if (!inj)
        return;
    for (size_t pos = 0; map_next(&inj->txns, &pos, NULL, &value);)
        txn_free(inj, value, false);
    LIST_EACH(it, &inj->accepts)
    {
        LIST_ENTRY(it, struct accept, link)->peer = NULL;
        list_remove(it);
    }
    map_clear(&inj->txns);
    free(inj);
    peer->data = NULL;
}

/* False: some are malformed. Adds their number. Each message brings whole ones. */
static bool count_recipients(struct slice packed, size_t *n)
{
    struct reader r = reader_of(packed);
    for (; r.rest.n > 0; ++*n) {
        struct recipient to;
        if (record_get(&r, &recipient_record, &to) != OK || to.transport.n == 0)
            return false;
    }
    return true;
}

static void on_more(struct peer *peer, struct ipc_in *in)
{
    const struct inject_more *msg = in->msg;
    struct txn *t = find_txn(injector_of(peer), msg->txn);
    if (!t)
        return;
    t->wrong |= !count_recipients(msg->recipients, &t->count);
    buf_put(&t->recipients, msg->recipients); /* too many show at inject_accept */
}

static void on_drop(struct peer *peer, struct ipc_in *in)
{
    const struct inject_drop *msg = in->msg;
    struct injector *inj = injector_of(peer);
    txn_free(inj, map_get_id(&inj->txns, msg->txn), false);
}

static void on_open(struct peer *peer, struct ipc_in *in)
{
    const struct inject_open *msg = in->msg;
    struct injector *inj = injector_of(peer);
    struct txn *t = find_txn(inj, msg->txn);
    char name[LOGREC_BIG_NAME];
    int fd = !t || t->big[0] ? -EBUSY : spool_big_create(inj->q->disk, name);
    struct inject_file reply = {.code = 250, .dsn = SLICE_LIT("2.0.0"), .text = SLICE_LIT("")};
    if (fd < 0) {
        struct error err;
        disk_error(&err, fd, "cannot create a file for a message body in big/");
        bool full = err.code == ERR_NO_SPACE;
        reply.code = full ? 452 : 451;
        reply.dsn = full ? SLICE_LIT("4.3.1") : SLICE_LIT("4.3.0");
        reply.text = full ? SLICE_LIT("Insufficient system storage")
                          : SLICE_LIT("Local error in processing");
        log_event(inj->q->log, spool_failed, .what = SLICE_LIT("a message was refused"),
            .reason = slice_of(err.text));
        ipc_reply(peer->ipc, in->id, in->trace, inject_file_type, &reply, -1);
        return;
    }
    snprintf(t->big, sizeof(t->big), "%s", name);
    ipc_reply(peer->ipc, in->id, in->trace, inject_file_type, &reply, fd);
    fd_close(&fd);
}

/* The answer for a failure before or at the commit (I7). */
static struct inject_result failure(int code)
{
    struct inject_result r = {.code = 451,
        .dsn = SLICE_LIT("4.3.0"),
        .text = SLICE_LIT("Local error in processing, try again later")};
    if (code == ERR_NO_SPACE) {
        r.code = 452;
        r.dsn = SLICE_LIT("4.3.1");
        r.text = SLICE_LIT("Insufficient system storage");
    } else if (code == ERR_LIMIT) {
        r.code = 452;
        r.dsn = SLICE_LIT("4.5.3");
        r.text = SLICE_LIT("Too many recipients");
    }
    return r;
}

static void answer(struct accept *a, const struct inject_result *r)
{
    if (a->peer && a->peer->ipc)
        ipc_reply(a->peer->ipc, a->id, r->qid, inject_result_type, r, -1);
}

/* Every segment is in use, and messages are about to leave the oldest: who sends this one waits for
 * that, and is not told to come again. */
static bool wait_for_room(struct accept *a, struct spool_job *job)
{
    struct qmgr *q = a->q;
    bool leaving = committer_figures(q->committer)->full && loop_now(q->loop) >= q->park_after;
    if (job->code != ERR_NO_SPACE || !leaving || q->draining || loop_now(q->loop) >= a->until)
        return false;
    a->job = job;
    list_append(&q->room.accepts, &a->room);
    if (!timer_active(&q->room.timer))
        timer_start(&q->room.timer, ROOM_LOOK_MS);
    return true;
}

void inject_again(void *arg)
{
    struct qmgr *q = arg;
    timer_stop(&q->room.timer);
    while (!list_empty(&q->room.accepts)) {
        struct accept *a = LIST_ENTRY(q->room.accepts.next, struct accept, room);
        list_remove(&a->room);
        committer_submit(q->committer, a->job);
    }
}

/* Once for all that are refused. */
static void tell_full(struct qmgr *q)
{
    bool full = committer_figures(q->committer)->full;
    if (full && !q->pressed)
        log_event(q->log, spool_failed, .what = SLICE_LIT("new mail is refused for now"),
            .reason = SLICE_LIT("every segment of the spool log holds undelivered mail"));
    q->pressed = full;
}

static void committed(struct spool_job *job, void *arg)
{
    struct accept *a = arg;
    struct qmgr *q = a->q;
    if (wait_for_room(a, job))
        return;
    struct message *m = a->m;
    struct inject_result r = {.code = 250,
        .dsn = SLICE_LIT("2.0.0"),
        .text = SLICE_LIT("queued"),
        .qid = m->qid,
        .commit_us = (uint32_t)MIN(monotonic_us() - a->begun, INT64_C(3600000000))};
    struct error err;
    m->committing = false;
    m->generation = job->generation;
    if (m->generation)
        list_append(&q->young, &m->young);
    if (a->importer >= 0)
        admin_log(q, &m->log, a->importer, SLICE_LIT("import"), SLICE_LIT(""),
            job->code == OK ? "done" : job->error.text, job->code == OK);
    if (job->code == OK && a->large) {
        large_park(q, m, &job->record);
        answer(a, &r);
        list_remove(&a->link);
        free(a);
        spool_job_free(job);
        return;
    }
    if (job->code == OK && message_load_record(m, &job->record, &err) != OK)
        job->code = err.code;
    if (job->code == OK) {
        q->loaded++;
        report_accepted(q, &m->content->envelope);
        answer(a, &r);
        list_append(&q->fresh.messages, &m->fresh);
        q->fresh.count++;
    } else {
        if (job->code == ERR_NO_SPACE)
            tell_full(q);
        log_event(&m->log, spool_failed, .what = SLICE_LIT("a message was refused"),
            .reason = slice_of(job->error.text));
        r = failure(job->code);
        r.qid = m->qid;
        answer(a, &r);
        if (job->big[0]) {
            char path[SPOOL_BIG_PATH];
            spool_big_path(job->big, path);
            q->disk->ops->unlink(q->disk, path);
        }
        queue_remove(q, m);
    }
    list_remove(&a->link);
    free(a);
    spool_job_free(job);
}

void inject_deliver(void *arg)
{
    struct qmgr *q = arg;
    timer_stop(&q->fresh.timer);
    if (q->draining)
        return; /* they lie in the log for the next start */
    q->fresh.count = q->fresh.before = 0;
    q->fresh.until = loop_now(q->loop) + GATHER_MS;
    while (!list_empty(&q->fresh.messages)) {
        struct message *m = LIST_ENTRY(q->fresh.messages.next, struct message, fresh);
        list_remove(&m->fresh);
        if (m->content && !m->moving) /* an administrator may have been quicker */
            queue_deliver(q, m);
    }
}

/* A message alone is on its way to its mailbox at once, and so are many that came together. Where
 * they come one by one, each would keep the agent and us waking each other, and slow down whoever
 * sends the next: those of a few milliseconds go together. Answers to clients leave before. */
void inject_on_batch(struct qmgr *q)
{
    const struct spool_figures *f = committer_figures(q->committer);
    if (!f->full && f->room >= q->set.spool.segment_size)
        inject_again(q);
    if (list_empty(&q->fresh.messages))
        return;
    int64_t wait = q->fresh.until - loop_now(q->loop);
    bool crowd = q->fresh.count - q->fresh.before >= CROWD;
    q->fresh.before = q->fresh.count;
    if (wait <= 0 || crowd || q->fresh.count >= GATHER_MOST)
        loop_defer(q->loop, inject_deliver, q);
    else if (!timer_active(&q->fresh.timer))
        timer_start(&q->fresh.timer, wait);
}

/* The record in the format that this spool is written in. */
static int put_record(struct qmgr *q, uint64_t qid, const struct envelope *envelope,
    struct logrec_accept *a, struct spool_job *job)
{
    unsigned format = spool_format(q->spool);
    struct buf e, to;
    if (format == SPOOL_FORMAT)
        return logrec_put_accept(&job->record, format, qid, a);
    if (format_lacks(format, envelope)) {
        log_event(q->log, spool_failed, .what = SLICE_LIT("a message was refused"),
            .reason = SLICE_LIT("a release time or a hold needs `veredus upgrade --commit`"));
        return ERR_TEMP;
    }
    buf_init(&e, spool_record_max(q->spool));
    buf_init(&to, spool_record_max(q->spool));
    int code = format_convert(a->envelope, &envelope_record, format_envelope(format), &e);
    if (code == OK)
        code = format_convert(a->recipients, &recipient_record, format_recipient(format), &to);
    a->envelope = buf_slice(&e);
    a->recipients = buf_slice(&to);
    if (code == OK)
        code = logrec_put_accept(&job->record, format, qid, a);
    buf_clear(&e);
    buf_clear(&to);
    return code;
}

/* Those that were sent ahead, if any, and the last ones; *n: how many. */
static int all_recipients(const struct qmgr *q, struct txn *t, const struct inject_accept *msg,
    struct slice *packed, size_t *n)
{
    *n = t ? t->count : 0;
    *packed = msg->recipients;
    if (!count_recipients(msg->recipients, n) || *n == 0 || (t && t->wrong))
        return ERR_SYNTAX;
    if (!t || t->count == 0)
        return *n > q->set.max_recipients ? ERR_LIMIT : OK;
    buf_put(&t->recipients, msg->recipients);
    *packed = buf_slice(&t->recipients);
    return t->recipients.failed || *n > q->set.max_recipients ? ERR_LIMIT : OK;
}

/* Builds the record. Returns OK, or what is wrong with what the client sent. *n: recipients. */
static int build(struct peer *peer, struct txn *t, const struct inject_accept *msg,
    struct spool_job *job, size_t *n)
{
    struct qmgr *q = injector_of(peer)->q;
    struct envelope envelope;
    struct reader r = reader_of(msg->envelope);
    snprintf(job->big, sizeof(job->big), "%s", t ? t->big : "");
    struct logrec_accept accept = {.envelope = msg->envelope,
        .size = msg->size,
        .big = slice_of(job->big),
        .body = job->big[0] ? SLICE_LIT("") : msg->body};
    int code = all_recipients(q, t, msg, &accept.recipients, n);
    if (code == OK && !(record_get(&r, &envelope_record, &envelope) == OK && reader_done(&r) &&
                          (envelope.about == 0 || peer->role == ROLE_BOUNCE) &&
                          (job->big[0] ? msg->body.n == 0 : msg->body.n == msg->size) &&
                          msg->size <= q->set.message_size + 65536))
        code = ERR_SYNTAX;
    if (code == OK)
        code = put_record(q, msg->qid, &envelope, &accept, job);
    if (code == OK && buf_len(&job->record) > spool_record_max(q->spool))
        code = ERR_LIMIT;
    job->size = msg->size;
    return code;
}

static void on_accept(struct peer *peer, struct ipc_in *in)
{
    const struct inject_accept *msg = in->msg;
    struct injector *inj = injector_of(peer);
    struct qmgr *q = inj->q;
    struct txn *t = map_get_id(&inj->txns, msg->txn);
    struct spool_job *job = spool_job_new(SPOOL_ACCEPT, msg->qid);
    struct message *m = message_new(msg->qid, msg->size);
    size_t n;
    int code = build(peer, t, msg, job, &n);
    if (code == OK && q->draining)
        code = ERR_TEMP;
    if (code == OK)
        code = queue_add(q, m);
    if (code != OK) {
        struct inject_result r = failure(code);
        r.qid = msg->qid;
        ipc_reply(peer->ipc, in->id, msg->qid, inject_result_type, &r, -1);
        log_event(q->log, spool_failed, .what = SLICE_LIT("a message was refused"),
            .reason = slice_of(code == ERR_LIMIT
                                   ? "it is larger than half a segment of the log (segment-size)"
                                   : error_name(code)));
        txn_free(inj, t, false);
        spool_job_free(job);
        message_free(m);
        return;
    }
    txn_free(inj, t, true);
    m->committing = true;
    struct accept *a = NEW(struct accept);
    *a = (struct accept){.q = q,
        .peer = peer,
        .id = in->id,
        .begun = monotonic_us(),
        .until = loop_now(q->loop) + ROOM_MS,
        .importer = peer->role == ROLE_CTL ? peer->uid : -1,
        .m = m,
        .large = peer->role != ROLE_BOUNCE && large_count(q, n)};
    list_init(&a->room);
    list_append(&inj->accepts, &a->link);
    job->done = committed;
    job->arg = a;
    committer_submit(q->committer, job);
}

static void on_etrn(struct peer *peer, struct ipc_in *in)
{
    const struct inject_etrn *msg = in->msg;
    struct qmgr *q = injector_of(peer)->q;
    if (!q->draining)
        admin_etrn(peer, in->id, msg->domain);
    else
        ipc_reply(peer->ipc, in->id, in->trace, inject_etrned_type,
            &(struct inject_etrned){.count = 0}, -1);
}

void inject_message(struct peer *peer, struct ipc_in *in)
{
    static void (*const handlers[])(struct peer *, struct ipc_in *) = {
        [inject_more_type] = on_more,
        [inject_drop_type] = on_drop,
        [inject_open_type] = on_open,
        [inject_accept_type] = on_accept,
        [inject_etrn_type] = on_etrn,
    };
    if (in->type < ARRAY_LEN(handlers) && handlers[in->type])
        handlers[in->type](peer, in);
}
