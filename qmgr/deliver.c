/* Which recipients of a message are due, and their way into the scheduler, by destination. */
#include <stdlib.h>
#include <string.h>

#include "qmgr/qmgr.h"
#include "qmgr/roster.h"

/* Before its release a recipient is due only when it was released by hand: next is 0 then. */
static bool awaits_release(const struct qmgr *q, const struct message *m, const struct rcpt *r)
{
    int64_t wall = loop_wall(q->loop), until = m->content->envelope.hold_until;
    return r->st.state == RCPT_WAITING && r->st.next > wall && r->st.next <= until;
}

static bool is_due(const struct qmgr *q, const struct message *m, const struct rcpt *r, int64_t now)
{
    return !r->busy && r->st.state == RCPT_WAITING && !awaits_release(q, m, r) &&
           (r->st.next <= now || r->st.next > now + queue_longest_wait(q));
}

bool queue_awaits_release(const struct qmgr *q, const struct message *m)
{
    const struct content *c = m->content;
    if (c->envelope.hold_until <= loop_wall(q->loop))
        return false;
    for (size_t i = 0; i < c->count; i++)
        if (awaits_release(q, m, &c->rcpts[i]))
            return true;
    return c->roster && roster_next(c->roster) > 0 && roster_next(c->roster) != INT64_MAX;
}

void queue_hurry(struct message *m)
{
    struct content *c = m->content;
    for (size_t i = 0; i < c->count; i++)
        c->rcpts[i].st.next = 0;
    if (c->roster)
        roster_hurry(c->roster);
}

static bool same_destination(const struct recipient *a, const struct recipient *b)
{
    return slice_eq(a->transport, b->transport) &&
           (schedule_is_local(a->transport) || slice_ieq(a->nexthop, b->nexthop));
}

/* A recipient by its place in the content, and a sum that those of the same destination share. */
struct bound {
    uint64_t where;
    uint32_t place;
};

static uint64_t destination_sum(const struct recipient *to)
{
    char nexthop[256];
    struct slice host = slice_first(to->nexthop, sizeof(nexthop));
    uint64_t sum = slice_hash(to->transport);
    if (schedule_is_local(to->transport))
        return sum;
    memcpy(nexthop, host.p, host.n);
    ascii_lower(nexthop, host.n);
    return sum * 31 + slice_hash((struct slice){nexthop, host.n});
}

static int compare_bound(const void *one, const void *other)
{
    const struct bound *a = one, *b = other;
    if (a->where != b->where)
        return a->where < b->where ? -1 : 1;
    return a->place < b->place ? -1 : 1;
}

/* lookupd named an agent that this system does not have. */
static void defer_unknown(struct qmgr *q, struct message *m, struct rcpt *r)
{
    rcpt_note(r, DEFERRED, SLICE_LIT("4.3.5"), SLICE_LIT("no delivery agent for this transport"),
        SLICE_LIT(""));
    attempt_deferred(q, m, r, 0);
}

/* Nothing is to be delivered: that the alias was expanded, or the list has it, is what there is to
 * tell. */
static void settle_expanded(struct qmgr *q, struct message *m, struct rcpt *r)
{
    bool list = slice_is(r->to.nexthop, EXPANDED_LIST);
    rcpt_note(r, list ? DELIVERED : EXPANDED, SLICE_LIT("2.0.0"),
        list ? SLICE_LIT("the list has it, and sends it on as its owner")
             : SLICE_LIT("the address stands for several others"),
        SLICE_LIT(""));
    r->st.last = loop_wall(q->loop);
    r->st.state = RCPT_DELIVERED;
    m->changes++;
}

/* Hands over those at the front that go to the same destination. Returns how many. */
static size_t schedule_group(struct qmgr *q, struct message *m, const struct bound *some, size_t n)
{
    struct rcpt *rcpts = m->content->rcpts;
    const struct recipient *to = &rcpts[some->place].to;
    uint32_t one, *indexes = n > 1 ? xcalloc(n, sizeof(*indexes)) : &one;
    size_t same = 0;
    for (; same < n && same_destination(to, &rcpts[some[same].place].to); same++) {
        rcpts[some[same].place].busy = true;
        indexes[same] = some[same].place;
    }
    m->busy += same;
    struct sched_order order = queue_order(m);
    schedule_add(q->schedule, to->transport, to->nexthop, m, &m->jobs, indexes, same, &order);
    if (indexes != &one)
        free(indexes);
    return same;
}

/* Hands over all recipients that are due, but for those that need no agent, or have none. */
static void schedule_due(struct qmgr *q, struct message *m, int64_t now)
{
    struct content *c = m->content;
    struct bound one, *due = c->count > 1 ? xcalloc(c->count, sizeof(*due)) : &one;
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++) {
        struct rcpt *r = &c->rcpts[i];
        if (!is_due(q, m, r, now))
            continue;
        if (slice_is(r->to.transport, TRANSPORT_EXPANDED))
            settle_expanded(q, m, r);
        else if (attempt_agent(r->to.transport) < 0)
            defer_unknown(q, m, r);
        else
            due[n++] = (struct bound){c->count > 1 ? destination_sum(&r->to) : 0, (uint32_t)i};
    }
    if (n > 1)
        qsort(due, n, sizeof(*due), compare_bound);
    for (size_t at = 0; at < n;)
        at += schedule_group(q, m, due + at, n - at);
    if (due != &one)
        free(due);
}

/* RFC 4865: not before the time that the sender gave. */
void queue_postpone(struct message *m, int64_t now)
{
    struct content *c = m->content;
    if (c->envelope.hold_until <= now)
        return;
    for (size_t i = 0; i < c->count; i++)
        if (c->rcpts[i].st.state == RCPT_WAITING && c->rcpts[i].st.attempts == 0)
            c->rcpts[i].st.next = c->envelope.hold_until;
}

void queue_deliver(struct qmgr *q, struct message *m)
{
    /* Recipients due soon go along, so that a message does not wake for each of them. */
    int64_t now = loop_wall(q->loop) + q->set.retry.from / 8;
    heap_remove(&q->due, &m->due);
    if (!m->parked && !m->moving)
        queue_postpone(m, loop_wall(q->loop));
    if (q->draining || m->held || m->deleted || m->giving_up) {
        m->flush = m->flush && !m->held && !m->deleted;
        queue_settle(q, m);
        return;
    }
    if (portion_split(q, m))
        return;
    if (m->flush && !queue_awaits_release(q, m))
        queue_hurry(m);
    m->flush = false;
    schedule_due(q, m, now);
    report_watch(q, m);
    if (m->busy == 0)
        queue_settle(q, m);
}

void queue_unschedule(struct qmgr *q, struct message *m)
{
    (void)q;
    LIST_EACH(it, &m->jobs)
    {
        struct sched_job *job = LIST_ENTRY(it, struct sched_job, sibling);
        for (size_t i = job->next; i < job->count; i++) {
            m->content->rcpts[job->recipients[i]].busy = false;
            m->busy--;
        }
        schedule_drop(job);
    }
}
