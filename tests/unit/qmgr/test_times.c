/* When things are tried again, warned of and given up, on a fake clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/world.h"

enum { MINUTE = 60000, HOUR = 60 * MINUTE };

static void hours(struct world *w, int n)
{
    for (int i = 0; i < 60 * n; i++)
        pass(w, MINUTE);
}

/* Gives the transport times of its own. */
static struct retry *own_times(struct world *w, const char *transport)
{
    struct transport_settings *t = &w->q.set.transports[w->q.set.ntransports++];
    *t = (struct transport_settings){.retry = w->q.set.retry};
    snprintf(t->name, sizeof(t->name), "%s", transport);
    return &t->retry;
}

static unsigned count_reports(const struct world *w, enum report_kind kind)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->reports; i++)
        n += w->kinds[i] == kind;
    return n;
}

/* Minutes until the next attempt begins. */
static int until_next_start(struct world *w)
{
    unsigned before = w->starts;
    int minutes = 0;
    while (w->starts == before && minutes < 600) {
        pass(w, MINUTE);
        minutes++;
    }
    return minutes;
}

static void test_waits_double_from_retry_from_to_retry_to(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 100 * HOUR;
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    assert_int_equal(w.starts, 1);
    static const int waits[] = {5, 10, 20, 40, 60, 60};
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        int took = until_next_start(&w);
        assert_in_range(took, waits[i], waits[i] + waits[i] / 4 + 2);
    }
    teardown(&w);
}

static void test_jitter_spreads_what_failed_together(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 100 * HOUR;
    w.answer = DEFERRED;
    for (uint64_t qid = 100; qid < 130; qid++)
        inject(&w, qid, "remote", 1);
    pass(&w, 1000);
    int64_t least = INT64_MAX, most = 0;
    for (uint64_t qid = 100; qid < 130; qid++) {
        least = MIN(least, queue_find(&w.q, qid)->due_wall);
        most = MAX(most, queue_find(&w.q, qid)->due_wall);
    }
    assert_true(most - least > 10000);
    assert_true(most - least <= 5 * MINUTE / 4 + 2000);
    teardown(&w);
}

static void test_a_transport_has_a_retry_schedule_of_its_own(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    own_times(&w, "virtual")->from = 30 * MINUTE;
    w.answer = DEFERRED;
    inject(&w, 100, "virtual", 1);
    assert_in_range(until_next_start(&w), 30, 39);
    teardown(&w);
}

static void test_a_transport_has_a_lifetime_of_its_own(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 10 * HOUR;
    own_times(&w, "virtual")->lifetime = HOUR;
    w.answer = DEFERRED;
    inject(&w, 100, "virtual", 1);
    inject(&w, 200, "remote", 1);
    hours(&w, 3);
    assert_int_equal(count_reports(&w, REPORT_FAILURE), 1);
    assert_null(queue_find(&w.q, 100));
    assert_non_null(queue_find(&w.q, 200));
    teardown(&w);
}

static void test_reports_have_a_lifetime_of_their_own(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 10 * HOUR;
    w.q.set.retry.bounce_lifetime = HOUR;
    w.answer = DEFERRED;
    inject(&w, 200, "remote", 1);
    w.sender = "";
    inject(&w, 100, "remote", 1);
    hours(&w, 3);
    assert_null(queue_find(&w.q, 100));
    assert_non_null(queue_find(&w.q, 200));
    teardown(&w);
}

static void test_the_sender_is_warned_of_a_delay_once(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 20 * HOUR;
    w.q.set.retry.delay_warning = 2 * HOUR;
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 2);
    hours(&w, 1);
    assert_int_equal(w.reports, 0);
    hours(&w, 9);
    assert_int_equal(count_reports(&w, REPORT_DELAY), 1);
    assert_int_equal(w.reports, 1);
    hours(&w, 12);
    assert_int_equal(count_reports(&w, REPORT_FAILURE), 1);
    teardown(&w);
}

static void test_a_restart_does_not_repeat_the_warning(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 50 * HOUR;
    w.q.set.retry.delay_warning = HOUR;
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    hours(&w, 4);
    assert_int_equal(w.reports, 1);
    close_spool(&w);
    simdisk_process_on(w.sim);
    w.q.loaded = w.q.active = 0;
    open_spool(&w);
    hours(&w, 4);
    assert_int_equal(w.reports, 1);
    teardown(&w);
}

static void test_who_does_not_want_delay_reports_gets_none(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 20 * HOUR;
    w.q.set.retry.delay_warning = HOUR;
    w.answer = DEFERRED;
    w.notify = NOTIFY_FAILURE;
    inject(&w, 100, "remote", 1);
    w.notify = 0;
    w.sender = "";
    inject(&w, 101, "remote", 1);
    hours(&w, 6);
    assert_int_equal(count_reports(&w, REPORT_DELAY), 0);
    teardown(&w);
}

static void test_a_transport_has_a_delay_warning_of_its_own(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 20 * HOUR;
    own_times(&w, "virtual")->delay_warning = HOUR;
    w.answer = DEFERRED;
    inject(&w, 100, "virtual", 1);
    inject(&w, 101, "remote", 1);
    hours(&w, 6);
    assert_int_equal(count_reports(&w, REPORT_DELAY), 1);
    teardown(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_double_from_retry_from_to_retry_to),
        cmocka_unit_test(test_jitter_spreads_what_failed_together),
        cmocka_unit_test(test_a_transport_has_a_retry_schedule_of_its_own),
        cmocka_unit_test(test_a_transport_has_a_lifetime_of_its_own),
        cmocka_unit_test(test_reports_have_a_lifetime_of_their_own),
        cmocka_unit_test(test_the_sender_is_warned_of_a_delay_once),
        cmocka_unit_test(test_a_restart_does_not_repeat_the_warning),
        cmocka_unit_test(test_who_does_not_want_delay_reports_gets_none),
        cmocka_unit_test(test_a_transport_has_a_delay_warning_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
