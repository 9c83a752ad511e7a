#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/bench.h"

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

static void test_a_short_message_passes_long_lists(void **state)
{
    (void)state;
    struct bench b;
    int lists[8], small;
    setup(&b);
    b.most = 10;
    for (int i = 0; i < 8; i++)
        add(&b, "remote", "x.test", &lists[i], 1000);
    size_t before = b.nstarted;
    add(&b, "remote", "x.test", &small, 1);
    finish_one(&b, false);
    finish_one(&b, false);
    assert_int_equal(starts_of(&b, &small, before, before + 2), 1);
    teardown(&b);
}

static void test_a_long_list_keeps_a_fifth_of_the_starts_beside_short_mail(void **state)
{
    (void)state;
    struct bench b;
    int list, small;
    setup(&b);
    b.most = 10;
    add(&b, "remote", "x.test", &list, 2000);
    for (int i = 0; i < 400; i++)
        add(&b, "remote", "x.test", &small, 1);
    size_t before = b.nstarted;
    while (b.nstarted < before + 100)
        finish_one(&b, false);
    assert_in_range(starts_of(&b, &list, before, before + 100), 20, 21);
    teardown(&b);
}

static void test_reports_wait_for_users_mail_but_do_not_starve(void **state)
{
    (void)state;
    struct bench b;
    int report, user;
    setup(&b);
    for (int i = 0; i < 500; i++)
        add_class(&b, "remote", "x.test", &report, 1, true);
    size_t before = b.nstarted;
    for (int i = 0; i < 400; i++)
        add(&b, "remote", "x.test", &user, 1);
    while (b.nstarted < before + 200)
        finish_one(&b, false);
    assert_in_range(starts_of(&b, &report, before, before + 200), 9, 11);
    while (b.nstarted < before + 600)
        finish_one(&b, false);
    assert_int_equal(starts_of(&b, &user, before, b.nstarted), 400);
    teardown(&b);
}

static void test_sites_that_have_not_worked_leave_half_the_places_to_others(void **state)
{
    (void)state;
    struct bench b;
    char name[32];
    setup(&b);
    add(&b, "remote", "good.test", &b, 1);
    finish_one(&b, false);
    for (int i = 0; i < 100; i++) { /* sites that never answer */
        snprintf(name, sizeof(name), "silent%d.test", i);
        add(&b, "remote", name, &b, 50);
        for (int k = 0; k < 10; k++)
            add(&b, "remote", name, &b, 1);
    }
    size_t before = b.nstarted;
    assert_int_equal(before - b.over, 100); /* half of 200 */
    int unknown, good;
    add(&b, "remote", "new.test", &unknown, 1); /* could be one of them */
    assert_int_equal(b.nstarted, before);
    for (int i = 0; i < 10; i++)
        add(&b, "remote", "good.test", &good, 1);
    assert_true(starts_of(&b, &good, before, b.nstarted) >= 5);
    assert_int_equal(starts_of(&b, &unknown, before, b.nstarted), 0);
    teardown(&b);
}

/* One minute of mail to a site that works, each delivery taking 50 ms. Returns how many got
 * through; dead: with so many messages for a site that refuses, retried when they are due. */
static size_t minute_of_mail(size_t dead)
{
    struct bench b;
    int good, bad;
    size_t through = 0, queue = dead;
    setup(&b);
    b.most = 1;
    for (int tick = 0; tick < 1200; tick++) {
        for (; queue > 0; queue--)
            add(&b, "remote", "dead.test", &bad, 1);
        if (tick % 200 == 199 && dead) { /* a part comes due */
            for (int i = 0; i < 1000; i++)
                add(&b, "remote", "dead.test", &bad, 1);
        }
        for (int i = 0; i < 10; i++)
            add(&b, "remote", "good.test", &good, 1);
        for (size_t n = b.nstarted; b.over < n;) {
            bool failed = b.started[b.over].message == &bad;
            through += !failed;
            finish_one(&b, failed);
        }
        loop_advance(b.loop, 50);
        loop_poll(b.loop);
    }
    teardown(&b);
    return through;
}

static void test_a_dead_site_with_20000_messages_slows_others_by_less_than_5_percent(void **state)
{
    (void)state;
    size_t alone = minute_of_mail(0), beside = minute_of_mail(20000);
    assert_in_range(beside, alone * 95 / 100, alone + alone / 100);
    assert_true(alone > 10000);
}

static void test_a_rate_spaces_the_starts_of_one_site_only(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int i = 0; i < 20; i++)
        add(&b, "remote", "gentle.test", &b, 1);
    assert_int_equal(b.nstarted, 1);
    for (int second = 1; second <= 5; second++) {
        finish_one(&b, false);
        assert_int_equal(b.nstarted, second); /* the window is open, the rate is not */
        loop_advance(b.loop, 1000);
        loop_poll(b.loop);
        assert_int_equal(b.nstarted, second + 1);
    }
    add(&b, "remote", "other.test", &b, 1);
    assert_int_equal(b.nstarted, 7);
    teardown(&b);
}

static void test_the_total_rate_holds_for_all_sites_together(void **state)
{
    (void)state;
    static const struct schedule_policy policy = {
        .initial = 5, .each = {20, 0}, .host = {8, 0}, .remote = {200, 600}, .dead_ms = 300000};
    struct bench b;
    char name[32];
    setup(&b);
    schedule_set_policy(b.schedule, &policy);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "x%d.test", i);
        add(&b, "remote", name, &b, 1);
    }
    add(&b, "virtual", "example.test/alice", &b, 1); /* not remote */
    assert_int_equal(b.nstarted, 2);
    for (int i = 0; i < 10; i++) {
        loop_advance(b.loop, 100);
        loop_poll(b.loop);
    }
    assert_int_equal(b.nstarted, 12);
    teardown(&b);
}

static void test_a_destination_of_its_own_concurrency_gets_no_more(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int i = 0; i < 20; i++)
        add(&b, "remote", "gentle.test", &b, 1);
    for (int i = 0; i < 10; i++) {
        loop_advance(b.loop, 1000);
        loop_poll(b.loop);
    }
    assert_int_equal(b.nstarted, 1); /* the first one is still under way */
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
        cmocka_unit_test(test_a_short_message_passes_long_lists),
        cmocka_unit_test(test_a_long_list_keeps_a_fifth_of_the_starts_beside_short_mail),
        cmocka_unit_test(test_reports_wait_for_users_mail_but_do_not_starve),
        cmocka_unit_test(test_sites_that_have_not_worked_leave_half_the_places_to_others),
        cmocka_unit_test(test_a_dead_site_with_20000_messages_slows_others_by_less_than_5_percent),
        cmocka_unit_test(test_a_rate_spaces_the_starts_of_one_site_only),
        cmocka_unit_test(test_the_total_rate_holds_for_all_sites_together),
        cmocka_unit_test(test_a_destination_of_its_own_concurrency_gets_no_more),
        cmocka_unit_test(test_without_an_agent_work_waits_and_goes_on_when_it_is_back),
        cmocka_unit_test(test_dropped_work_is_not_started),
        cmocka_unit_test(test_waits_double_up_to_the_most_with_jitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
