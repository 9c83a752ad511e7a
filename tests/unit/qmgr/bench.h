/* A scheduler on a fake clock, for tests: attempts are noted and end when the test says so. */
#pragma once

#include "qmgr/schedule.h"

enum { STARTS_MAX = 65536 };

struct bench {
    struct loop *loop;
    struct schedule *schedule;
    struct list siblings;
    bool no_agent;
    size_t most; /* taken per start */
    struct {
        void *message;
        struct sched_ticket ticket;
        size_t n;
    } started[STARTS_MAX];
    size_t nstarted, over, refused;
};

static inline size_t start(struct sched_job *job, const struct sched_ticket *ticket,
    const uint32_t *recipients, size_t n, void *arg)
{
    struct bench *b = arg;
    (void)recipients;
    if (b->no_agent)
        return 0;
    n = MIN(n, b->most);
    b->started[b->nstarted].message = job->message;
    b->started[b->nstarted].ticket = *ticket;
    b->started[b->nstarted++].n = n;
    return n;
}

static inline void refuse(struct sched_job *job, const uint32_t *recipients, size_t n,
    int64_t wait_ms, struct slice reason, void *arg)
{
    struct bench *b = arg;
    (void)job, (void)recipients;
    assert_int_equal(wait_ms, 300000);
    assert_true(slice_is(reason, "connection refused"));
    b->refused += n;
}

static inline void limits_of(struct slice nexthop, struct sched_limits *limits, void *arg)
{
    (void)arg;
    if (slice_is(nexthop, "gentle.test"))
        *limits = (struct sched_limits){1, 60};
}

static inline void setup(struct bench *b)
{
    static const struct schedule_policy policy = {
        .initial = 5, .each = {20, 0}, .host = {8, 0}, .remote = {200, 0}, .dead_ms = 300000};
    static const struct schedule_ops ops = {
        .start = start, .refuse = refuse, .limits_of = limits_of};
    *b = (struct bench){.most = 50};
    b->loop = loop_new_fake(1000);
    list_init(&b->siblings);
    b->schedule = schedule_new(b->loop, &policy, &ops, b);
}

static inline void teardown(struct bench *b)
{
    schedule_free(b->schedule);
    loop_free(b->loop);
}

static inline void add_ordered(struct bench *b, const char *transport, const char *nexthop,
    void *message, size_t n, const struct sched_order *order)
{
    static const uint32_t indexes[2000];
    schedule_add(b->schedule, slice_of(transport), slice_of(nexthop), message, &b->siblings,
        indexes, n, order);
    loop_poll(b->loop);
}

static inline void add_class(struct bench *b, const char *transport, const char *nexthop,
    void *message, size_t n, bool report)
{
    struct sched_order order = {.report = report};
    add_ordered(b, transport, nexthop, message, n, &order);
    loop_poll(b->loop);
}

static inline void add(
    struct bench *b, const char *transport, const char *nexthop, void *message, size_t n)
{
    add_class(b, transport, nexthop, message, n, false);
}

static inline void finish_one(struct bench *b, bool site_failed)
{
    schedule_finished(b->schedule, &b->started[b->over++].ticket,
        site_failed ? SCHED_SITE_FAILED : SCHED_WORKED, SLICE_LIT("connection refused"));
    loop_poll(b->loop);
}

/* How many of starts [from, to) were for this message. */
static inline size_t starts_of(const struct bench *b, const void *message, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from; i < to && i < b->nstarted; i++)
        n += b->started[i].message == message;
    return n;
}
