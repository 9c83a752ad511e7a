/*
 * What an administrator's command looks at page by page: a message with a hundred thousand
 * recipients is read and understood once, not for each page. One of them is kept for all; a command
 * that finds another there reads its own again.
 */
#include <stdlib.h>

#include "qmgr/admin.h"
#include "qmgr/history.h"

enum { ATTEMPTS_MAX = 256 * 1024 * 1024 };

struct look {
    struct peer *peer;
    uint64_t qid;
    struct peek peek;
    struct buf attempts; /* packed queue_attempt, all of them */
    bool told;           /* attempts are there */
};

static void look_free(struct qmgr *q)
{
    struct look *l = q->look;
    if (!l)
        return;
    peek_end(&l->peek);
    buf_clear(&l->attempts);
    free(l);
    q->look = NULL;
}

void admin_look_down(struct peer *peer)
{
    struct qmgr *q = peer->daemon->data;
    if (q->look && q->look->peer == peer)
        look_free(q);
}

/* What was read before, when it is the next page of the same; a message in memory is looked at
 * where it is, for it may be gone at the next page. */
static struct look *look_at(struct peer *peer, struct message *m, bool anew)
{
    struct qmgr *q = peer->daemon->data;
    struct look *l = q->look;
    if (l && !anew && l->peer == peer && l->qid == m->qid)
        return l;
    look_free(q);
    l = q->look = NEW(struct look);
    l->peer = peer;
    l->qid = m->qid;
    buf_init(&l->attempts, ATTEMPTS_MAX);
    return l;
}

static bool look_loaded(struct qmgr *q, struct look *l, struct message *m, struct error *err)
{
    return l->peek.copy || peek_begin(q, m, &l->peek, err);
}

/* Nothing of a message that is not ours outlives the request. */
static void look_rest(struct look *l)
{
    if (!l->peek.copy)
        l->peek.m = NULL;
}

struct message *admin_look(struct peer *peer, struct message *m, bool anew, struct error *err)
{
    struct look *l = look_at(peer, m, anew);
    struct message *seen = look_loaded(peer->daemon->data, l, m, err) ? l->peek.m : NULL;
    look_rest(l);
    return seen;
}

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

static void add_attempt(const struct parked_state *st, void *arg)
{
    struct look *l = arg;
    const struct content *c = l->peek.m->content;
    struct queue_attempt a = {
        .address = c && st->index < c->count ? c->rcpts[st->index].to.address : SLICE_LIT(""),
        .at = st->last,
        .attempts = st->attempts,
        .result = slice_of(result_name(st)),
        .dsn = st->dsn,
        .mta = st->mta,
        .text = st->text};
    size_t before = buf_len(&l->attempts);
    if (record_put(&l->attempts, &queue_attempt_record, &a) != OK)
        buf_truncate(&l->attempts, before);
}

int admin_look_attempts(
    struct peer *peer, struct message *m, bool anew, struct slice *attempts, struct error *err)
{
    struct qmgr *q = peer->daemon->data;
    struct look *l = look_at(peer, m, anew);
    int rc = OK;
    if (!l->told && look_loaded(q, l, m, err))
        rc = history_each(l->peek.m, q->disk, add_attempt, l, err);
    else if (!l->told)
        rc = ERR_NOT_FOUND;
    l->told = rc == OK;
    look_rest(l);
    *attempts = buf_slice(&l->attempts);
    return rc;
}
