/*
 * What an administrator's command looks at page by page: a message with a hundred thousand
 * recipients is read and understood once, not for each page. One of them is kept for all; a command
 * that finds another there reads its own again.
 *
 * Where a file is so large that reading it would keep others waiting, it is read beside the loop
 * (qmgr/beside.h), and the request is put off until then. It begins anew with what was read at
 * hand; the message may have gone meanwhile, or changed. Who only looks gets what was true while it
 * was read; who acts needs what the file says now, and waits again, but not for ever.
 */
#include <stdlib.h>

#include "qmgr/admin.h"
#include "qmgr/history.h"

enum {
    ATTEMPTS_MAX = 2 * HISTORY_MOST,
    LARGE = 128 * 1024, /* behind the body, bytes: read and understood in less than a millisecond */
    TRIES = 3           /* with a message that changes all the time */
};

/* Whether a message's file is what it was. */
struct stamp {
    uint64_t end;
    uint32_t changes;
    bool quiet; /* nothing is being written */
};

struct look {
    const struct peer *peer;
    uint64_t qid;
    struct message *copy; /* NULL, or without content: it is in memory, or could not be read */
    struct error error;
    struct buf attempts; /* packed queue_attempt, all of them */
    bool told;           /* attempts are there */
    bool partial;        /* not all of them */
    bool fresh;          /* it was read beside the loop for what is being answered now */
    unsigned tries;
    struct stamp stamp;
};

/* A look that is being read, and what is to go on with it. */
struct awaited {
    struct beside_job job;
    struct list link;
    struct qmgr *q;
    struct look *look;
    struct disk *disk;
    struct peer *peer; /* whose request it is; NULL: he has gone, or it is nobody's */
    struct buf request;
    bool attempts;             /* they are wanted, too */
    void (*resume)(void *arg); /* instead of a request */
    void *arg;
};

static struct look *look_new(const struct peer *peer, uint64_t qid)
{
    struct look *l = NEW(struct look);
    l->peer = peer;
    l->qid = qid;
    buf_init(&l->attempts, ATTEMPTS_MAX);
    return l;
}

static void look_free(struct look *l)
{
    if (!l)
        return;
    message_free(l->copy);
    buf_clear(&l->attempts);
    free(l);
}

static void keep(struct qmgr *q, struct look *l)
{
    look_free(q->look);
    q->look = l;
}

static struct stamp stamp_of(const struct message *m)
{
    return (struct stamp){
        .end = m->parked_end, .changes = m->changes, .quiet = !m->moving && !m->updates};
}

static bool is_current(const struct look *l, const struct message *m)
{
    struct stamp now = stamp_of(m);
    return l->stamp.quiet && now.quiet && l->stamp.end == now.end &&
           l->stamp.changes == now.changes;
}

static bool in_memory(const struct message *m)
{
    return m->content && !m->content->roster;
}

/* What was read for the request that is being answered. */
static struct look *fresh_look(const struct qmgr *q, const struct message *m)
{
    return q->look && q->look->fresh && q->look->qid == m->qid ? q->look : NULL;
}

void admin_look_down(struct peer *peer)
{
    struct qmgr *q = peer->daemon->data;
    if (q->look && q->look->peer == peer)
        keep(q, NULL);
    LIST_EACH(it, &q->awaited)
    {
        struct awaited *a = LIST_ENTRY(it, struct awaited, link);
        if (a->peer == peer)
            a->peer = NULL;
    }
}

/* --- attempts -------------------------------------------------------------------------------- */

static const char *result_name(const struct parked_state *st)
{
    switch (st->state) {
    case RCPT_WAITING:
        return "deferred";
    case RCPT_FAILED:
        return "bounced";
    case RCPT_DELIVERED:
        return "delivered";
    default:
        return st->status == DELIVERED || st->status == RELAYED_NO_DSN ? "delivered" : "done";
    }
}

struct telling {
    const struct content *content;
    struct buf *out;
    bool partial;
};

static void add_attempt(const struct parked_state *st, void *arg)
{
    struct telling *t = arg;
    const struct content *c = t->content;
    struct queue_attempt a = {
        .address = c && st->index < c->count ? c->rcpts[st->index].to.address : SLICE_LIT(""),
        .at = st->last,
        .attempts = st->attempts,
        .result = slice_of(result_name(st)),
        .dsn = st->dsn,
        .mta = st->mta,
        .text = st->text};
    size_t before = buf_len(t->out);
    if (record_put(t->out, &queue_attempt_record, &a) != OK) {
        buf_truncate(t->out, before);
        t->partial = true;
    }
}

static int tell(
    struct look *l, struct message *m, size_t most, struct disk *disk, struct error *err)
{
    struct telling t = {.content = m->content,
        .out = &l->attempts,
        .partial = m->parked && m->parked_end > m->size + HISTORY_MOST};
    int rc = history_each(m, most, disk, add_attempt, &t, err);
    l->told = rc == OK;
    l->partial = t.partial;
    return rc;
}

/* --- beside the loop ------------------------------------------------------------------------- */

static void read_look(struct beside_job *job)
{
    struct awaited *a = CONTAINER_OF(job, struct awaited, job);
    struct look *l = a->look;
    int rc = message_load_parked(l->copy, a->disk, &l->error);
    if (rc == OK && a->attempts)
        rc = tell(l, l->copy, HISTORY_MOST, a->disk, &l->error);
    l->error.code = rc;
}

static void awaited_free(struct awaited *a)
{
    list_remove(&a->link);
    look_free(a->look);
    buf_clear(&a->request);
    free(a);
}

static void again(struct awaited *a)
{
    struct ipc_in in;
    struct error err;
    void *value = xcalloc(1, ipc_proto_max_size(&queue_proto));
    if (ipc_decode(&queue_proto, IPC_SERVER, buf_slice(&a->request), false, &in, value, &err) == OK)
        admin_message(a->peer, &in);
    free(value);
}

static void look_read(struct beside_job *job, bool ran)
{
    struct awaited *a = CONTAINER_OF(job, struct awaited, job);
    struct qmgr *q = a->q;
    if (!ran || (!a->peer && !a->resume)) {
        awaited_free(a);
        return;
    }
    a->look->peer = a->peer;
    a->look->fresh = true;
    keep(q, a->look);
    a->look = NULL;
    if (a->resume)
        a->resume(a->arg);
    else
        again(a);
    if (q->look)
        q->look->fresh = false;
    if (q->look && !q->look->peer)
        keep(q, NULL);
    awaited_free(a);
}

static struct awaited *await(struct qmgr *q, const struct message *m)
{
    const struct look *before = fresh_look(q, m);
    struct awaited *a = NEW(struct awaited);
    *a = (struct awaited){.job = {.work = read_look, .done = look_read}, .q = q, .disk = q->disk};
    a->look = look_new(NULL, m->qid);
    a->look->copy = message_new(m->qid, m->size);
    a->look->copy->parked = true;
    memcpy(&a->look->copy->told, &m->told, sizeof(m->told));
    a->look->tries = before ? before->tries + 1 : 1;
    a->look->stamp = stamp_of(m);
    buf_init(&a->request, IPC_MAX_PAYLOAD);
    list_append(&q->awaited, &a->link);
    return a;
}

static void keep_request(struct awaited *a, struct peer *peer, const struct ipc_in *in)
{
    a->peer = peer;
    if (ipc_encode(&queue_proto, in->type, in->id, in->trace, in->msg, &a->request) != OK)
        a->peer = NULL; /* cannot be: it came in such a record */
}

void admin_wait(struct peer *peer, const struct ipc_in *in, struct message *m)
{
    struct qmgr *q = peer->daemon->data;
    struct awaited *a = await(q, m);
    a->attempts = in->type == queue_show_type || in->type == queue_history_type;
    keep_request(a, peer, in);
    beside_run(q->beside, &a->job);
}

void admin_wait_for(struct qmgr *q, struct message *m, void (*resume)(void *), void *arg)
{
    struct awaited *a = await(q, m);
    a->resume = resume;
    a->arg = arg;
    beside_run(q->beside, &a->job);
}

static void loaded(void *arg, bool ran)
{
    struct awaited *a = arg;
    if (ran && a->resume)
        a->resume(a->arg);
    else if (ran && a->peer)
        again(a);
    awaited_free(a);
}

static struct awaited *await_load(struct qmgr *q)
{
    struct awaited *a = NEW(struct awaited);
    a->q = q;
    buf_init(&a->request, IPC_MAX_PAYLOAD);
    list_append(&q->awaited, &a->link);
    return a;
}

void admin_load(struct peer *peer, const struct ipc_in *in, struct message *m)
{
    struct awaited *a = await_load(peer->daemon->data);
    keep_request(a, peer, in);
    large_load(a->q, m, loaded, a);
}

void admin_load_for(struct qmgr *q, struct message *m, void (*resume)(void *), void *arg)
{
    struct awaited *a = await_load(q);
    a->resume = resume;
    a->arg = arg;
    large_load(q, m, loaded, a);
}

bool admin_must_wait(struct qmgr *q, const struct message *m, bool copy)
{
    const struct look *l = fresh_look(q, m);
    char path[PARKED_NAME];
    struct disk_stat st;
    if (!q->beside || !m->parked || m->committing || in_memory(m))
        return false;
    if (l && (copy || l->tries >= TRIES || is_current(l, m)))
        return false;
    parked_path(m->qid, m->size, path);
    return q->disk->ops->stat(q->disk, path, &st) == 0 && st.size > (int64_t)m->size + LARGE;
}

struct message *admin_look_take(struct qmgr *q, const struct message *m)
{
    struct look *l = fresh_look(q, m);
    if (!l || !l->copy || !l->copy->content || !is_current(l, m))
        return NULL;
    struct message *copy = l->copy;
    l->copy = NULL;
    return copy;
}

/* --- looking --------------------------------------------------------------------------------- */

/* Who reads while somebody writes may find half of it. */
static bool may_be_better_now(const struct look *l, const struct message *m)
{
    return l->fresh && l->error.code != OK && l->tries < TRIES && !is_current(l, m);
}

bool peek_begin(
    struct qmgr *q, struct message *m, const struct peer *again, struct peek *p, struct error *err)
{
    struct look *l = q->look;
    *p = (struct peek){.m = m};
    if (in_memory(m))
        return true;
    if (m->committing)
        return false;
    if (l && l->qid == m->qid && l->copy && (l->fresh || (again && l->peer == again))) {
        p->m = l->copy;
        *err = l->error;
        if (may_be_better_now(l, m))
            err->code = ERR_AGAIN;
        return err->code == OK && l->copy->content;
    }
    p->copy = p->m = message_new(m->qid, m->size);
    p->copy->parked = true;
    err->code = q->beside ? message_load_small(p->copy, LARGE, q->disk, err)
                          : message_load_parked(p->copy, q->disk, err);
    if (err->code == ERR_LIMIT && q->beside)
        err->code = ERR_AGAIN;
    if (err->code != OK)
        return false;
    p->read = p->copy->parked_end - m->size;
    /* Nobody has loaded it while the system is down: what is on hold may be known by its file only,
     * where a copy of the spool has lost the modification times. */
    if (!q->spool)
        m->held = p->copy->held;
    return true;
}

void peek_end(struct peek *p)
{
    message_free(p->copy);
}

struct message *admin_look(struct peer *peer, struct message *m, bool anew, struct error *err)
{
    struct qmgr *q = peer->daemon->data;
    struct peek p;
    if (!peek_begin(q, m, anew ? NULL : peer, &p, err)) {
        peek_end(&p);
        return NULL;
    }
    if (p.copy) {
        keep(q, look_new(peer, m->qid));
        q->look->copy = p.copy;
    }
    return p.m;
}

int admin_look_attempts(
    struct peer *peer, struct message *m, struct slice *attempts, bool *partial, struct error *err)
{
    struct qmgr *q = peer->daemon->data;
    struct look *l = q->look;
    int rc = OK;
    if (!l || l->peer != peer || l->qid != m->qid || !l->told) {
        struct message *seen = admin_look(peer, m, false, err);
        if (!seen)
            return err->code == ERR_AGAIN ? ERR_AGAIN : ERR_NOT_FOUND;
        l = q->look;
        if (!l || l->peer != peer || l->qid != m->qid)
            keep(q, l = look_new(peer, m->qid)); /* a message in memory may go at the next page */
        rc = tell(l, seen, q->beside ? LARGE : HISTORY_MOST, q->disk, err);
    }
    *attempts = buf_slice(&l->attempts);
    *partial = l->partial;
    return rc == ERR_LIMIT && q->beside ? ERR_AGAIN : rc;
}
