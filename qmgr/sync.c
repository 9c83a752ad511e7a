#include <stdlib.h>

#include "qmgr/qmgr.h"

enum { CONCLUDE_AT_ONCE = 50, CONCLUDE_PAUSE_MS = 1 };

struct sync_item {
    struct message *m; /* busy, so it stays */
    uint32_t index;
};

struct sync_items {
    struct sync_item *items;
    size_t n, cap;
};

/* Deliveries of one agent process that it has not made durable yet. */
struct sync_batch {
    struct qmgr *q;
    struct peer *peer;
    struct timer timer;
    struct sync_items waiting, flying;
    bool asked;
};

static void items_clear(struct sync_items *l)
{
    free(l->items);
    *l = (struct sync_items){0};
}

static void batch_free(struct sync_batch *b)
{
    timer_stop(&b->timer);
    items_clear(&b->waiting);
    items_clear(&b->flying);
    free(b);
}

/* Marks one delivery and lets the message go on once its last one of this batch is through. */
static void conclude(struct qmgr *q, const struct sync_item *item, bool durable)
{
    struct message *m = item->m;
    struct rcpt *r = &m->content->rcpts[item->index];
    if (durable && forward_begin(m, item->index)) {
        q->unsynced--;
        return;
    }
    if (durable) {
        queue_delivered(q, m, r);
    } else {
        forward_drop(r);
        rcpt_note(r, DEFERRED, SLICE_LIT("4.3.0"),
            SLICE_LIT("the delivery agent was interrupted before the mailbox was synced"),
            SLICE_LIT(""));
        attempt_deferred(q, m, r, AGENT_AWAY_MS);
    }
    r->busy = false;
    m->busy--;
    q->unsynced--;
    if (r->st.state == RCPT_DONE)
        queue_note_done(q, m, &item->index, 1);
    queue_settle(q, m);
}

/* The end of many deliveries at once, a few at a time: each is a log line or two, and the loop has
 * others to serve. */
struct conclusion {
    struct qmgr *q;
    struct sync_items items;
    size_t next;
    bool durable;
    struct timer timer;
};

static void conclude_some(void *arg)
{
    struct conclusion *c = arg;
    for (int i = 0; i < CONCLUDE_AT_ONCE && c->next < c->items.n; i++)
        conclude(c->q, &c->items.items[c->next++], c->durable);
    if (c->next < c->items.n) {
        timer_start(&c->timer, CONCLUDE_PAUSE_MS);
        return;
    }
    items_clear(&c->items);
    free(c);
}

static void conclude_all(struct qmgr *q, struct sync_items *l, bool durable)
{
    struct conclusion *c = NEW(struct conclusion);
    c->q = q;
    c->items = *l;
    c->durable = durable;
    *l = (struct sync_items){0};
    timer_init(&c->timer, q->loop, conclude_some, c);
    conclude_some(c);
}

static int64_t wait_of(const struct sync_batch *b)
{
    return queue_crowded(b->q) || b->waiting.n >= SYNC_MESSAGES ? 0 : SYNC_DELAY_MS;
}

static void on_synced(struct ipc_in *in, void *arg)
{
    struct sync_batch *b = arg;
    const struct deliver_synced *done = in ? in->msg : NULL;
    bool durable = done && done->code == OK;
    b->asked = false;
    if (done && b->peer)
        agent_heard(b->peer);
    if (done && !durable)
        log_event(b->q->log, agent_trouble,
            .agent = slice_of(b->peer ? role_info(b->peer->role)->program : ""),
            .reason = done->text);
    conclude_all(b->q, &b->flying, durable);
    if (b->waiting.n > 0 && in)
        timer_start(&b->timer, wait_of(b));
}

static void ask(void *arg)
{
    struct sync_batch *b = arg;
    if (b->asked || b->waiting.n == 0)
        return;
    timer_stop(&b->timer);
    b->flying = b->waiting;
    b->waiting = (struct sync_items){0};
    b->asked = true;
    struct deliver_sync request;
    ipc_call(b->peer->ipc, deliver_sync_type, 0, &request, -1, on_synced, b);
}

void sync_add(struct qmgr *q, struct peer *peer, struct message *m, uint32_t index)
{
    struct agent *agent = agent_of(peer);
    struct sync_batch *b = agent->sync;
    if (!b) {
        b = agent->sync = NEW(struct sync_batch);
        b->q = q;
        b->peer = peer;
        timer_init(&b->timer, q->loop, ask, b);
    }
    struct sync_items *l = &b->waiting;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->items = xrealloc(l->items, l->cap, sizeof(*l->items));
    }
    l->items[l->n++] = (struct sync_item){m, index};
    q->unsynced++;
    if (l->n >= SYNC_MESSAGES)
        ask(b);
    else if (!timer_active(&b->timer) && !b->asked)
        timer_start(&b->timer, wait_of(b));
}

void sync_hurry(struct qmgr *q)
{
    LIST_EACH(it, &q->daemon->peers)
    {
        struct peer *p = LIST_ENTRY(it, struct peer, link);
        struct agent *a = p->conv == CONV_DELIVER && p->ipc ? p->data : NULL;
        if (a && a->sync)
            ask(a->sync);
    }
}

void sync_down(struct sync_batch *b)
{
    if (!b)
        return;
    b->peer = NULL;
    conclude_all(b->q, &b->flying, false);
    conclude_all(b->q, &b->waiting, false);
    batch_free(b);
}
