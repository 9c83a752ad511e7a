/*
 * Acting on every message: some at a time, so that mail goes on meanwhile, and no more than may be
 * in memory. Messages that come while it runs are left alone.
 */
#include <stdlib.h>

#include "qmgr/admin.h"

enum { AT_ONCE = 500, AT_ONCE_FULL = 50, FULL_PAUSE_MS = 20 };

struct sweep {
    struct list link;
    struct qmgr *q;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    int64_t uid;
    struct sweep_ops ops;
    char *argument;
    uint64_t at, last, count; /* serials */
    struct timer timer;
};

static void over(struct sweep *s)
{
    struct sweep_end end = {
        s->q, s->peer, s->id, s->uid, slice_of(s->argument), s->count, s->ops.arg};
    s->ops.done(&end);
    list_remove(&s->link);
    free(s->argument);
    free(s);
}

static void some(void *arg)
{
    struct sweep *s = arg;
    struct qmgr *q = s->q;
    unsigned n = 0;
    bool more = false;
    bool full = q->loaded >= q->set.max_loaded / 2;
    unsigned most = full ? AT_ONCE_FULL : AT_ONCE;
    LIST_EACH(it, &q->all)
    {
        struct message *m = LIST_ENTRY(it, struct message, all);
        if (m->serial <= s->at)
            continue;
        more = m->serial <= s->last && !q->draining;
        if (!more || n++ == most)
            break;
        int did = s->ops.act(q, m, slice_of(s->argument), s->ops.arg);
        if (did < 0) {
            (did == SWEEP_LOAD ? admin_load_for : admin_wait_for)(q, m, some, s);
            return;
        }
        s->at = m->serial;
        s->count += (unsigned)did;
        more = false;
    }
    if (more)
        timer_start(&s->timer, full ? FULL_PAUSE_MS : 0);
    else
        over(s);
}

void admin_sweep(struct qmgr *q, struct peer *peer, uint32_t id, struct slice argument,
    const struct sweep_ops *ops)
{
    struct sweep *s = NEW(struct sweep);
    *s = (struct sweep){
        .q = q, .peer = peer, .id = id, .uid = peer->uid, .ops = *ops, .last = q->serial};
    s->argument = xmemdup0(argument.p, argument.n);
    timer_init(&s->timer, q->loop, some, s);
    list_append(&q->sweeps, &s->link);
    some(s);
}

void admin_sweep_peer_down(struct peer *peer)
{
    struct qmgr *q = peer->daemon->data;
    LIST_EACH(it, &q->sweeps)
    {
        struct sweep *s = LIST_ENTRY(it, struct sweep, link);
        if (s->peer == peer)
            s->peer = NULL;
    }
}
