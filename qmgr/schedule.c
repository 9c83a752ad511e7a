#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/buf.h"
#include "qmgr/schedule_private.h"

enum {
    LOCAL_WINDOW = 64,
    FORGET_SITE_MS = 3600000, /* that failed */
    FORGET_GOOD_MS = 600000,  /* that worked */
    NO_AGENT_MS = 1000,
    KEY_MAX = 4096 /* of a destination */
};

bool schedule_is_local(struct slice transport)
{
    return slice_is(transport, "virtual") || slice_is(transport, "local");
}

static void dispatch(void *arg);

void dispatch_soon(struct schedule *s)
{
    if (s->deferred)
        return;
    s->deferred = true;
    loop_defer(s->loop, dispatch, s);
}

static void no_agent_over(void *arg)
{
    dispatch_soon(arg);
}

struct schedule *schedule_new(struct loop *loop, const struct schedule_policy *policy,
    const struct schedule_ops *ops, void *arg)
{
    struct schedule *s = NEW(struct schedule);
    s->loop = loop;
    s->policy = *policy;
    s->ops = *ops;
    s->arg = arg;
    map_init(&s->destinations);
    map_init(&s->sites);
    list_init(&s->transports);
    timer_init(&s->no_agent, loop, no_agent_over, s);
    return s;
}

struct slice destination_transport(const struct destination *d)
{
    return slice_of(d->transport->name);
}

static struct slice destination_nexthop(const struct destination *d)
{
    struct slice key = {d->key, d->key_len};
    return slice_from_index(key, strlen(d->transport->name) + 1);
}

/* --- rates ----------------------------------------------------------------------------------- */

void pace_used(struct schedule *s, struct pace *p, unsigned per_minute)
{
    int64_t now_us = loop_now(s->loop) * 1000;
    if (per_minute == 0)
        return;
    p->next_us = MAX(p->next_us, now_us) + 60000000 / (int64_t)per_minute;
    if (p->next_us > now_us)
        timer_start(&p->timer, (p->next_us - now_us) / 1000);
}

static void transport_may_start(void *arg)
{
    struct transport *t = arg;
    dispatch_soon(t->schedule);
}

static void destination_may_start(void *arg);

static void set_transport(struct transport *t)
{
    struct schedule *s = t->schedule;
    t->set.limits = t->local ? (struct sched_limits){LOCAL_WINDOW, 0} : s->policy.remote;
    t->set.dead_ms = s->policy.dead_ms;
    if (s->ops.transport_of)
        s->ops.transport_of(slice_of(t->name), &t->set, s->arg);
}

static void set_limits(struct schedule *s, struct destination *d)
{
    if (d->transport->local) {
        d->limits = (struct sched_limits){d->transport->set.limits.concurrency, 0};
        d->window = d->limits.concurrency;
        return;
    }
    d->limits = s->policy.each;
    if (s->ops.limits_of)
        s->ops.limits_of(destination_nexthop(d), &d->limits, s->arg);
}

/* --- destinations ---------------------------------------------------------------------------- */

void destination_remember(struct destination *d)
{
    if (!timer_active(&d->timer))
        timer_start(&d->timer, FORGET_GOOD_MS);
}

static struct transport *find_transport(struct schedule *s, struct slice name)
{
    LIST_EACH(it, &s->transports)
    {
        struct transport *t = LIST_ENTRY(it, struct transport, all);
        if (slice_is(name, t->name))
            return t;
    }
    struct transport *t = NEW(struct transport);
    snprintf(t->name, sizeof(t->name), "%.*s", SLICE_FMT(name));
    t->local = schedule_is_local(name);
    t->schedule = s;
    set_transport(t);
    list_init(&t->ready[PROVEN]);
    list_init(&t->ready[DOUBTFUL]);
    timer_init(&t->pace.timer, s->loop, transport_may_start, t);
    list_append(&s->transports, &t->all);
    return t;
}

static void destination_free(struct destination *d)
{
    for (int i = 0; i < SCHED_CLASSES; i++)
        heap_clear(&d->jobs[i]);
    timer_stop(&d->timer);
    timer_stop(&d->pace.timer);
    list_remove(&d->ready);
    site_forget(d);
    map_remove(&d->schedule->destinations, (struct slice){d->key, d->key_len});
    free(d->key);
    free(d);
}

void destination_update(struct destination *d)
{
    bool open = d->busy < d->window && !timer_active(&d->pace.timer);
    bool ready = d->waiting > 0 && (d->dead || open);
    bool in = !list_empty(&d->ready);
    /* A dead one needs no place: its work goes back. */
    enum lane lane = d->doubtful && !d->dead ? DOUBTFUL : PROVEN;
    if (ready && !in)
        list_append(&d->transport->ready[lane], &d->ready);
    else if (!ready && in)
        list_remove(&d->ready);
}

static void set_doubtful(struct destination *d, bool doubtful)
{
    if (d->doubtful == doubtful)
        return;
    d->doubtful = doubtful;
    if (doubtful)
        d->transport->doubtful_busy += d->busy;
    else
        d->transport->doubtful_busy -= d->busy;
    list_remove(&d->ready);
    destination_update(d);
}

static void on_timer(void *arg)
{
    struct destination *d = arg;
    if (d->dead) {
        d->dead = false;
        list_remove(&d->ready);
        d->probing = true;
        d->window = 1;
        d->failed_cohorts = 0;
        timer_start(&d->timer, FORGET_SITE_MS);
        destination_update(d);
        dispatch_soon(d->schedule);
        return;
    }
    if (d->busy == 0 && d->waiting == 0)
        destination_free(d);
    else
        timer_start(&d->timer, FORGET_SITE_MS);
}

/* The key of a destination, into out. */
static void put_key(struct buf *out, struct slice transport, struct slice nexthop)
{
    buf_put(out, transport);
    buf_putc(out, '\0');
    if (!schedule_is_local(transport))
        buf_put(out, nexthop);
}

static struct destination *find_destination(
    struct schedule *s, struct slice transport, struct slice nexthop)
{
    struct transport *t = find_transport(s, transport);
    char space[KEY_MAX] __attribute__((uninitialized));
    struct buf key;
    buf_over(&key, space, sizeof(space));
    put_key(&key, slice_of(t->name), nexthop);
    struct destination *d = map_get(&s->destinations, buf_slice(&key));
    if (!d) {
        d = NEW(struct destination);
        d->schedule = s;
        d->transport = t;
        d->key_len = buf_len(&key);
        d->key = xmemdup0(buf_slice(&key).p, d->key_len);
        list_init(&d->ready);
        for (int i = 0; i < SCHED_CLASSES; i++)
            heap_init(&d->jobs[i]);
        set_limits(s, d);
        d->doubtful = !t->local;
        if (!t->local)
            d->window = MIN(s->policy.initial, d->limits.concurrency);
        timer_init(&d->pace.timer, s->loop, destination_may_start, d);
        timer_init(&d->timer, s->loop, on_timer, d);
        map_set(&s->destinations, buf_slice(&key), d);
    }
    return d;
}

static void job_free(struct sched_job *job)
{
    heap_remove(&job->destination->jobs[job->class], &job->turn);
    list_remove(&job->sibling);
    free(job);
}

/* The first in line; NULL: none. */
static struct sched_job *first_job(const struct destination *d, enum sched_class class)
{
    struct heap_node *node = heap_min(&d->jobs[class]);
    return node ? CONTAINER_OF(node, struct sched_job, turn) : NULL;
}

/* A site with nothing to do is forgotten, unless it taught us something. */
static void release_idle(struct destination *d)
{
    if (d->busy == 0 && d->waiting == 0 && !timer_active(&d->timer) &&
        !timer_active(&d->pace.timer))
        destination_free(d);
}

static void destination_may_start(void *arg)
{
    struct destination *d = arg;
    dispatch_soon(d->schedule);
    destination_update(d);
    release_idle(d);
}

static enum sched_class class_of(const struct sched_job *job)
{
    const struct sched_order *o = &job->order;
    if (o->report)
        return SCHED_REPORT;
    if (o->priority > 0)
        return SCHED_URGENT;
    bool list = o->bulk || o->priority < 0 || job->count - job->next > SCHED_SHORT_MAX;
    return list ? SCHED_LIST : SCHED_SHORT;
}

/* Where the job stands in line: behind its like, so that messages take turns. */
static void enqueue(struct destination *d, struct sched_job *job)
{
    enum { PRIORITY_SHIFT = 48, PRIORITY_MOST = 9 };
    int64_t behind = PRIORITY_MOST - job->order.priority;
    heap_remove(&d->jobs[job->class], &job->turn);
    job->class = class_of(job);
    heap_set(&d->jobs[job->class], &job->turn, (behind << PRIORITY_SHIFT) + d->schedule->turn++);
}

/* The class whose turn it is; at least one job waits. */
static enum sched_class next_class(struct destination *d)
{
    static const unsigned share[SCHED_CLASSES] = {
        0, SCHED_SHORT_SHARE, SCHED_LIST_SHARE, SCHED_REPORT_SHARE};
    enum sched_class chosen = SCHED_CLASSES;
    for (int i = SCHED_CLASSES - 1; i >= 0; i--) {
        if (!first_job(d, (enum sched_class)i))
            d->since[i] = 0;
        else if (chosen == SCHED_CLASSES || d->since[chosen] + 1 < share[chosen])
            chosen = (enum sched_class)i;
    }
    for (int i = 0; i < SCHED_CLASSES; i++)
        d->since[i]++;
    d->since[chosen] = 0;
    return chosen;
}

/* Urgent mail does not wait until its destination's turn comes round. */
static void hurry(struct destination *d)
{
    struct list *lane = &d->transport->ready[d->doubtful ? DOUBTFUL : PROVEN];
    if (list_empty(&d->ready) || d->dead || (d->site && !site_open(d->site)))
        return;
    list_remove(&d->ready);
    list_append(lane->next, &d->ready); /* before the first */
}

void schedule_add(struct schedule *s, struct slice transport, struct slice nexthop, void *message,
    struct list *siblings, const uint32_t *recipients, size_t count,
    const struct sched_order *order)
{
    struct destination *d = find_destination(s, transport, nexthop);
    struct sched_job *job = xcalloc(1, sizeof(*job) + count * sizeof(*recipients));
    job->destination = d;
    job->message = message;
    memcpy(job->recipients, recipients, count * sizeof(*recipients));
    job->count = count;
    job->order = *order;
    enqueue(d, job);
    list_append(siblings, &job->sibling);
    d->waiting += count;
    destination_update(d);
    if (job->class == SCHED_URGENT)
        hurry(d);
    dispatch_soon(s);
}

size_t schedule_drop(struct sched_job *job)
{
    struct destination *d = job->destination;
    size_t left = job->count - job->next;
    d->waiting -= left;
    job_free(job);
    destination_update(d);
    release_idle(d);
    return left;
}

/* Everything waiting for a dead site goes back with the reason. */
static void refuse_all(struct schedule *s, struct destination *d)
{
    for (int i = 0; i < SCHED_CLASSES; i++) {
        struct sched_job *job;
        while ((job = first_job(d, (enum sched_class)i)) != NULL) {
            size_t left = job->count - job->next;
            d->waiting -= left;
            heap_remove(&d->jobs[i], &job->turn);
            list_remove(&job->sibling);
            s->ops.refuse(job, job->recipients + job->next, left, d->transport->set.dead_ms,
                slice_of(d->reason), s->arg);
            job_free(job);
        }
    }
    destination_update(d);
}

/* One attempt of the destination whose turn it is. False: no agent. */
static bool start_one(struct schedule *s, struct destination *d)
{
    struct transport *t = d->transport;
    struct sched_job *job = first_job(d, next_class(d));
    struct sched_ticket ticket = {.destination = d};
    size_t left = job->count - job->next;
    if (d->site)
        site_enter(d->site, &ticket);
    size_t taken = s->ops.start(job, &ticket, job->recipients + job->next, left, s->arg);
    if (taken == 0) {
        site_leave(&ticket, SCHED_UNTRIED);
        return false;
    }
    assert(taken <= left);
    job->next += taken;
    d->waiting -= taken;
    d->busy++;
    t->busy++;
    t->doubtful_busy += d->doubtful;
    pace_used(s, &d->pace, d->limits.rate);
    pace_used(s, &t->pace, t->set.limits.rate);
    if (taken == left)
        job_free(job);
    else
        enqueue(d, job); /* other messages first */
    list_remove(&d->ready);
    destination_update(d);
    return true;
}

/* The destination whose turn it is, or NULL. The lanes alternate. */
static struct destination *next_destination(struct transport *t)
{
    bool proven = !list_empty(&t->ready[PROVEN]);
    bool doubtful = !list_empty(&t->ready[DOUBTFUL]) &&
                    t->doubtful_busy < MAX(t->set.limits.concurrency / 2, 1u);
    if (!proven && !doubtful)
        return NULL;
    t->doubtful_turn = !t->doubtful_turn;
    enum lane lane = doubtful && (t->doubtful_turn || !proven) ? DOUBTFUL : PROVEN;
    return LIST_ENTRY(t->ready[lane].next, struct destination, ready);
}

static void dispatch_transport(struct schedule *s, struct transport *t)
{
    struct destination *d;
    while (t->busy < t->set.limits.concurrency && (d = next_destination(t)) != NULL) {
        if (d->dead) {
            refuse_all(s, d);
            continue;
        }
        if (d->site && !site_open(d->site)) {
            site_block(d);
            continue;
        }
        if (timer_active(&t->pace.timer))
            return;
        if (!start_one(s, d)) {
            timer_start(&s->no_agent, NO_AGENT_MS);
            return;
        }
    }
}

static void dispatch(void *arg)
{
    struct schedule *s = arg;
    s->deferred = false;
    LIST_EACH(it, &s->transports)
    dispatch_transport(s, LIST_ENTRY(it, struct transport, all));
}

static void site_worked(struct schedule *s, struct destination *d)
{
    unsigned limit = d->limits.concurrency;
    d->failed_cohorts = 0;
    if (d->probing) {
        d->probing = false;
        d->window = MIN(s->policy.initial, limit);
    } else if (d->window < limit && d->window < d->busy + s->policy.initial) {
        d->window++;
    } else if (d->window > limit) {
        d->window--;
    }
    set_doubtful(d, false);
    destination_remember(d);
}

static void site_failed(struct schedule *s, struct destination *d, struct slice reason)
{
    set_doubtful(d, true);
    d->failed_cohorts += 1.0 / d->window;
    if (d->window > 1)
        d->window--;
    if (d->failed_cohorts < 1.0)
        return;
    d->dead = true;
    list_remove(&d->ready);
    snprintf(d->reason, sizeof(d->reason), "%.*s", SLICE_FMT(slice_first(reason, 255)));
    timer_start(&d->timer, d->transport->set.dead_ms);
    refuse_all(s, d);
}

void schedule_finished(
    struct schedule *s, struct sched_ticket *ticket, enum sched_result result, struct slice reason)
{
    struct destination *d = ticket->destination;
    d->busy--;
    d->transport->busy--;
    d->transport->doubtful_busy -= d->doubtful;
    site_leave(ticket, result);
    if (!d->transport->local) {
        if (result == SCHED_WORKED)
            site_worked(s, d);
        else if (result == SCHED_SITE_FAILED && !d->dead)
            site_failed(s, d, reason);
    }
    destination_update(d);
    release_idle(d);
    dispatch_soon(s);
}

void schedule_wake(struct schedule *s)
{
    timer_stop(&s->no_agent);
    dispatch_soon(s);
}

void schedule_revive(struct schedule *s)
{
    void *value;
    for (size_t pos = 0; map_next(&s->destinations, &pos, NULL, &value);) {
        struct destination *d = value;
        if (d->dead)
            on_timer(d);
    }
}

void schedule_revive_one(struct schedule *s, struct slice transport, struct slice nexthop)
{
    char space[KEY_MAX] __attribute__((uninitialized));
    struct buf key;
    buf_over(&key, space, sizeof(space));
    put_key(&key, transport, nexthop);
    struct destination *d = map_get(&s->destinations, buf_slice(&key));
    if (d && d->dead)
        on_timer(d);
}

int64_t schedule_retry_ms(int64_t from, int64_t most, uint32_t attempts, uint64_t random)
{
    int64_t wait = from;
    for (uint32_t i = 1; i < attempts && wait < most; i++)
        wait *= 2;
    wait = MIN(wait, most);
    return wait + (int64_t)(random % (uint64_t)(wait / 4 + 1));
}

void schedule_set_policy(struct schedule *s, const struct schedule_policy *policy)
{
    void *value;
    s->policy = *policy;
    LIST_EACH(it, &s->transports)
    set_transport(LIST_ENTRY(it, struct transport, all));
    for (size_t pos = 0; map_next(&s->destinations, &pos, NULL, &value);) {
        set_limits(s, value);
        destination_update(value);
    }
    sites_set_limits(s);
    dispatch_soon(s);
}

void schedule_free(struct schedule *s)
{
    if (!s)
        return;
    void *value;
    timer_stop(&s->no_agent);
    sites_clear(s);
    for (size_t pos = 0; map_next(&s->destinations, &pos, NULL, &value);) {
        struct destination *d = value;
        struct sched_job *job;
        for (int i = 0; i < SCHED_CLASSES; i++)
            while ((job = first_job(d, (enum sched_class)i)) != NULL)
                job_free(job);
        destination_free(d);
    }
    LIST_EACH(it, &s->transports)
    {
        struct transport *t = LIST_ENTRY(it, struct transport, all);
        timer_stop(&t->pace.timer);
        free(t);
    }
    map_clear(&s->destinations);
    loop_cancel(s->loop, s);
    free(s);
}
