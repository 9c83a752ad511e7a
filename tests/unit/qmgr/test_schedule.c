#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "qmgr/schedule.h"

enum { STARTS_MAX = 4096 };

struct bench {
    struct loop *loop;
    struct schedule *schedule;
    struct list siblings;
    bool no_agent;
    size_t most; /* taken per start */
    struct {
        void *message;
        struct destination *destination;
        size_t n;
    } started[STARTS_MAX];
    size_t nstarted, over, refused;
};

static size_t start(
    struct sched_job *job, struct destination *d, const uint32_t *recipients, size_t n, void *arg)
{
    struct bench *b = arg;
    (void)recipients;
    if (b->no_agent)
        return 0;
    n = MIN(n, b->most);
    b->started[b->nstarted].message = job->message;
    b->started[b->nstarted].destination = d;
    b->started[b->nstarted++].n = n;
    return n;
}

static void refuse(struct sched_job *job, const uint32_t *recipients, size_t n, int64_t wait_ms,
    struct slice reason, void *arg)
{
    struct bench *b = arg;
    (void)job, (void)recipients;
    assert_int_equal(wait_ms, 300000);
    assert_true(slice_is(reason, "connection refused"));
    b->refused += n;
}

static void setup(struct bench *b)
{
    static const struct schedule_policy policy = {.initial = 5, .limit = 20, .dead_ms = 300000};
    static const struct schedule_ops ops = {start, refuse};
    *b = (struct bench){.most = 50};
    b->loop = loop_new_fake(1000);
    list_init(&b->siblings);
    b->schedule = schedule_new(b->loop, &policy, &ops, b);
}

static void teardown(struct bench *b)
{
    schedule_free(b->schedule);
    loop_free(b->loop);
}

static void add(
    struct bench *b, const char *transport, const char *nexthop, void *message, size_t n)
{
    static const uint32_t indexes[1000];
    schedule_add(
        b->schedule, slice_of(transport), slice_of(nexthop), message, &b->siblings, indexes, n);
    loop_poll(b->loop);
}

static void finish_one(struct bench *b, bool site_failed)
{
    schedule_finished(b->schedule, b->started[b->over++].destination, site_failed,
        SLICE_LIT("connection refused"));
    loop_poll(b->loop);
}

static void test_a_new_site_gets_no_more_than_the_first_window(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int i = 0; i < 30; i++)
        add(&b, "remote", "x.test", &b, 1);
    assert_int_equal(b.nstarted, 5);
    teardown(&b);
}

static void test_success_opens_the_window_up_to_its_limit(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int i = 0; i < 200; i++)
        add(&b, "remote", "x.test", &b, 1);
    for (int i = 0; i < 60; i++)
        finish_one(&b, false);
    assert_int_equal(b.nstarted - b.over, 20);
    teardown(&b);
}

static void test_a_site_that_fails_is_left_alone_and_then_probed_by_one(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int i = 0; i < 30; i++)
        add(&b, "remote", "x.test", &b, 1);
    while (b.over < b.nstarted && b.refused == 0)
        finish_one(&b, true);
    size_t tried = b.nstarted;
    assert_true(tried < 12);
    assert_int_equal(b.refused, 30 - tried);
    add(&b, "remote", "x.test", &b, 3); /* while it is dead: straight back */
    assert_int_equal(b.nstarted, tried);
    assert_int_equal(b.refused, 33 - tried);
    while (b.over < b.nstarted)
        finish_one(&b, true);
    loop_advance(b.loop, 300001);
    b.most = 1;
    add(&b, "remote", "x.test", &b, 1);
    add(&b, "remote", "x.test", &b, 1);
    assert_int_equal(b.nstarted, tried + 1); /* one probe */
    finish_one(&b, false);
    assert_int_equal(b.nstarted, tried + 2);
    teardown(&b);
}

static void test_a_dead_site_does_not_hold_up_others(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    add(&b, "remote", "slow.test", &b, 400);
    size_t before = b.nstarted;
    add(&b, "remote", "fast.test", &b, 1);
    assert_int_equal(b.nstarted, before + 1);
    teardown(&b);
}

static void test_messages_to_one_site_take_turns(void **state)
{
    (void)state;
    struct bench b;
    int big, small;
    setup(&b);
    b.most = 10;
    add(&b, "remote", "x.test", &big, 500);
    add(&b, "remote", "x.test", &small, 1);
    finish_one(&b, false); /* two places come free: the big one's turn, then the small one's */
    size_t at = 0;
    while (at < b.nstarted && b.started[at].message != &small)
        at++;
    assert_true(at < b.nstarted && at <= 7);
    teardown(&b);
}

static void test_without_an_agent_work_waits_and_goes_on_when_it_is_back(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    b.no_agent = true;
    add(&b, "virtual", "example.test/alice", &b, 2);
    assert_int_equal(b.nstarted, 0);
    b.no_agent = false;
    schedule_wake(b.schedule);
    loop_poll(b.loop);
    assert_int_equal(b.nstarted, 1);
    finish_one(&b, false);
    teardown(&b);
}

static void test_dropped_work_is_not_started(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    b.no_agent = true;
    add(&b, "remote", "x.test", &b, 7);
    struct sched_job *job = LIST_ENTRY(b.siblings.next, struct sched_job, sibling);
    assert_int_equal(schedule_drop(job), 7);
    b.no_agent = false;
    schedule_wake(b.schedule);
    loop_poll(b.loop);
    assert_int_equal(b.nstarted, 0);
    teardown(&b);
}

static void test_waits_double_up_to_the_most_with_jitter(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 100; random++) {
        int64_t first = schedule_retry_ms(300000, 14400000, 1, random * 7919);
        int64_t third = schedule_retry_ms(300000, 14400000, 3, random * 7919);
        int64_t late = schedule_retry_ms(300000, 14400000, 60, random * 7919);
        assert_in_range(first, 300000, 375000);
        assert_in_range(third, 1200000, 1500000);
        assert_in_range(late, 14400000, 18000000);
    }
    assert_int_not_equal(
        schedule_retry_ms(300000, 14400000, 1, 1), schedule_retry_ms(300000, 14400000, 1, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_site_gets_no_more_than_the_first_window),
        cmocka_unit_test(test_success_opens_the_window_up_to_its_limit),
        cmocka_unit_test(test_a_site_that_fails_is_left_alone_and_then_probed_by_one),
        cmocka_unit_test(test_a_dead_site_does_not_hold_up_others),
        cmocka_unit_test(test_messages_to_one_site_take_turns),
        cmocka_unit_test(test_without_an_agent_work_waits_and_goes_on_when_it_is_back),
        cmocka_unit_test(test_dropped_work_is_not_started),
        cmocka_unit_test(test_waits_double_up_to_the_most_with_jitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
