/* MX hosts, priorities, limits of transports: which attempts the scheduler begins when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/bench.h"

/* --- MX hosts ------------------------------------------------------------------------------ */

/* Attempt i connects to the host. */
static bool enter(struct bench *b, size_t i, const char *host)
{
    return schedule_enter_host(b->schedule, &b->started[i].ticket, slice_of(host));
}

static void finish_as(struct bench *b, enum sched_result result)
{
    schedule_finished(
        b->schedule, &b->started[b->over++].ticket, result, SLICE_LIT("connection refused"));
    loop_poll(b->loop);
}

static void test_domains_behind_one_host_share_its_places(void **state)
{
    (void)state;
    struct bench b;
    char name[32];
    setup(&b);
    for (int i = 0; i < 40; i++) { /* one message each, and the next for when they are known */
        snprintf(name, sizeof(name), "x%d.test", i);
        add(&b, "remote", name, &b, 1);
        add(&b, "remote", name, &b, 1);
    }
    size_t first = b.nstarted, granted = 0;
    for (size_t i = 0; i < first; i++)
        granted += enter(&b, i, i % 2 ? "MX.provider.test" : "mx.provider.test");
    assert_int_equal(granted, 5); /* the first window; 8 would be the limit */
    for (size_t i = 0; i < first; i++)
        finish_as(&b, i < granted ? SCHED_WORKED : SCHED_UNTRIED);
    for (int i = 0; i < 200 && b.over < b.nstarted; i++) {
        assert_true(b.nstarted - b.over <= 8);
        finish_as(&b, SCHED_WORKED);
    }
    assert_int_equal(b.nstarted, 80);
    teardown(&b);
}

static void test_a_full_host_does_not_hold_up_other_hosts(void **state)
{
    (void)state;
    struct bench b;
    char name[32];
    setup(&b);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "x%d.test", i);
        add(&b, "remote", name, &b, 1);
        add(&b, "remote", name, &b, 1);
    }
    for (size_t i = 0; i < b.nstarted; i++)
        enter(&b, i, "mx.provider.test");
    size_t before = b.nstarted;
    add(&b, "remote", "elsewhere.test", &b, 1);
    assert_int_equal(b.nstarted, before + 1);
    teardown(&b);
}

static void test_the_rate_of_a_host_holds_for_all_its_domains(void **state)
{
    (void)state;
    struct bench b;
    char name[32];
    setup(&b);
    const struct schedule_policy policy = {
        .initial = 5, .each = {20, 0}, .host = {50, 60}, .remote = {200, 0}, .dead_ms = 300000};
    schedule_set_policy(b.schedule, &policy);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "x%d.test", i);
        add(&b, "remote", name, &b, 1);
    }
    assert_true(enter(&b, 0, "mx.provider.test"));
    for (size_t i = 1; i < 4; i++)
        assert_false(enter(&b, i, "mx.provider.test"));
    finish_as(&b, SCHED_WORKED);
    for (size_t i = 1; i < 4; i++) {
        snprintf(name, sizeof(name), "x%zu.test", i);
        finish_as(&b, SCHED_UNTRIED);
        add(&b, "remote", name, &b, 1); /* put back */
    }
    assert_int_equal(b.nstarted, 4);
    for (size_t i = 1; i < 4; i++) {
        loop_advance(b.loop, 1000);
        loop_poll(b.loop);
        assert_int_equal(b.nstarted, 4 + i);
    }
    teardown(&b);
}

static void test_a_host_that_fails_gets_fewer_connections(void **state)
{
    (void)state;
    struct bench b;
    char name[32];
    setup(&b);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "x%d.test", i);
        add(&b, "remote", name, &b, 1);
        assert_true(enter(&b, (size_t)i, "mx.provider.test"));
    }
    for (int i = 0; i < 5; i++)
        finish_as(&b, SCHED_SITE_FAILED);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "x%d.test", i);
        add(&b, "remote", name, &b, 1);
    }
    assert_int_equal(b.nstarted - b.over, 1); /* a probe for them all */
    teardown(&b);
}

/* --- order ----------------------------------------------------------------------------------- */

/* Fills the window, so that what is added waits. */
static size_t occupy(struct bench *b)
{
    for (int i = 0; i < 5; i++)
        add(b, "remote", "x.test", b, 1);
    return b->nstarted;
}

static void test_a_higher_priority_goes_first(void **state)
{
    (void)state;
    struct bench b;
    int normal, high, highest;
    setup(&b);
    size_t at = occupy(&b);
    add(&b, "remote", "x.test", &normal, 1);
    add_ordered(&b, "remote", "x.test", &high, 1, &(struct sched_order){.priority = 2});
    add_ordered(&b, "remote", "x.test", &highest, 1, &(struct sched_order){.priority = 9});
    for (int i = 0; i < 3; i++)
        finish_as(&b, SCHED_UNTRIED);
    assert_ptr_equal(b.started[at].message, &highest);
    assert_ptr_equal(b.started[at + 1].message, &high);
    assert_ptr_equal(b.started[at + 2].message, &normal);
    teardown(&b);
}

static void test_urgent_mail_leaves_every_fourth_start_to_others(void **state)
{
    (void)state;
    struct bench b;
    int urgent, normal;
    setup(&b);
    size_t at = occupy(&b);
    for (int i = 0; i < 100; i++) {
        add_ordered(&b, "remote", "x.test", &urgent, 1, &(struct sched_order){.priority = 4});
        add(&b, "remote", "x.test", &normal, 1);
    }
    for (int i = 0; i < 40; i++)
        finish_as(&b, SCHED_UNTRIED);
    assert_int_equal(starts_of(&b, &normal, at, at + 40), 10);
    teardown(&b);
}

static void test_bulk_and_low_priority_wait_for_others_but_do_not_starve(void **state)
{
    (void)state;
    struct bench b;
    int bulk, low, normal;
    setup(&b);
    size_t at = occupy(&b);
    for (int i = 0; i < 50; i++) {
        add_ordered(&b, "remote", "x.test", &low, 1, &(struct sched_order){.priority = -3});
        add_ordered(&b, "remote", "x.test", &bulk, 1, &(struct sched_order){.bulk = true});
        add(&b, "remote", "x.test", &normal, 1);
    }
    for (int i = 0; i < 40; i++)
        finish_as(&b, SCHED_UNTRIED);
    assert_int_equal(starts_of(&b, &normal, at, at + 40), 32);
    assert_int_equal(starts_of(&b, &bulk, at, at + 40), 8);
    assert_int_equal(starts_of(&b, &low, at, at + 40), 0); /* bulk has priority 0 */
    teardown(&b);
}

/* --- transports, revival --------------------------------------------------------------------- */

static void transport_of(struct slice name, struct sched_transport *t, void *arg)
{
    (void)arg;
    if (slice_is(name, "virtual"))
        *t = (struct sched_transport){.limits = {2, 60}, .dead_ms = 1000};
}

static void test_a_transport_has_limits_of_its_own(void **state)
{
    (void)state;
    static const struct schedule_policy policy = {
        .initial = 5, .each = {20, 0}, .host = {8, 0}, .remote = {200, 0}, .dead_ms = 300000};
    static const struct schedule_ops ops = {
        .start = start, .refuse = refuse, .transport_of = transport_of};
    struct bench b;
    setup(&b);
    schedule_free(b.schedule);
    b.schedule = schedule_new(b.loop, &policy, &ops, &b);
    for (int i = 0; i < 10; i++)
        add(&b, "virtual", "example.test/alice", &b, 1);
    assert_int_equal(b.nstarted, 1); /* one a second */
    for (int i = 0; i < 5; i++) {
        loop_advance(b.loop, 1000);
        loop_poll(b.loop);
    }
    assert_int_equal(b.nstarted, 2); /* two at a time */
    teardown(&b);
}

static void kill_site(struct bench *b, const char *nexthop)
{
    for (int i = 0; i < 5; i++)
        add(b, "remote", nexthop, b, 1);
    while (b->over < b->nstarted)
        finish_one(b, true);
}

static void test_reviving_one_dead_site_leaves_the_others_alone(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    kill_site(&b, "one.test");
    kill_site(&b, "two.test");
    size_t before = b.nstarted;
    schedule_revive_one(b.schedule, SLICE_LIT("remote"), SLICE_LIT("two.test"));
    add(&b, "remote", "one.test", &b, 1);
    assert_int_equal(b.nstarted, before);
    add(&b, "remote", "two.test", &b, 1);
    add(&b, "remote", "two.test", &b, 1);
    assert_int_equal(b.nstarted, before + 1);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domains_behind_one_host_share_its_places),
        cmocka_unit_test(test_a_full_host_does_not_hold_up_other_hosts),
        cmocka_unit_test(test_the_rate_of_a_host_holds_for_all_its_domains),
        cmocka_unit_test(test_a_host_that_fails_gets_fewer_connections),
        cmocka_unit_test(test_a_higher_priority_goes_first),
        cmocka_unit_test(test_urgent_mail_leaves_every_fourth_start_to_others),
        cmocka_unit_test(test_bulk_and_low_priority_wait_for_others_but_do_not_starve),
        cmocka_unit_test(test_a_transport_has_limits_of_its_own),
        cmocka_unit_test(test_reviving_one_dead_site_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
