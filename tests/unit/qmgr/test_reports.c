/* What senders hear, and that they hear it once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "qmgr/admin.h"
#include "tests/unit/qmgr/world.h"

enum { PORTION = 10, MANY = 95 };

static const int64_t hour = 3600000;

static void setup_portions(struct world *w)
{
    setup(w);
    w->q.set.portion = PORTION;
    w->q.set.max_recipients = 10000;
}

/* The process ends without warning, and another one starts. */
static void restart(struct world *w)
{
    w->q.draining = true; /* nothing is begun that would outlive it */
    for (int i = 0; i < AGENTS; i++)
        ipc_free(w->agents[i].ipc);
    ipc_free(w->injector.ipc);
    settle(w);
    close_spool(w);
    w->q.draining = false;
    simdisk_process_on(w->sim);
    w->q.loaded = w->q.active = w->q.attempts = 0;
    open_spool(w);
    connect_end(w, &w->injector, CONV_INJECT, ROLE_BOUNCE);
    for (int i = 0; i < AGENTS; i++)
        connect_end(w, &w->agents[i], CONV_DELIVER, roles[i]);
    settle(w);
}

/* Many recipients in memory at once. */
static void setup_large(struct world *w)
{
    setup(w);
    w->q.set.portion = w->q.set.max_recipients = w->q.set.max_active = 2000;
    w->q.set.spool.segment_size = 1 << 20;
    restart(w);
}

static void run(struct world *w, int64_t ms, int steps)
{
    for (int i = 0; i < steps; i++)
        pass(w, ms / steps);
}

static void test_one_report_tells_of_all_portions(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    inject(w, 100, "remote", MANY);
    run(w, 10000, 100);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->told[0], MANY);
    assert_int_equal(queued(w), 0);
}

static void test_owners_of_lists_and_the_sender_get_a_report_each(void **state)
{
    struct world *w = *state;
    w->owners[1] = w->owners[3] = "owner@list.test";
    w->answer = FAILED;
    inject(w, 100, "remote", MANY);
    run(w, 10000, 100);
    assert_int_equal(w->reports, 2);
    assert_string_equal(w->reported[0], "s@y.test");
    assert_int_equal(w->told[0], MANY - 2);
    assert_string_equal(w->reported[1], "owner@list.test");
    assert_int_equal(w->told[1], 2);
    assert_int_equal(queued(w), 0);
}

static void test_recipients_beyond_one_record_go_ahead_in_pieces(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    inject(w, 100, "remote", 800);
    run(w, 10000, 400);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->told[0], 800);
}

static void test_a_report_is_refused_and_asked_for_again_whole(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->refuse_reports = true;
    inject(w, 100, "remote", MANY);
    run(w, 5000, 50);
    assert_int_equal(w->reports, 1);
    w->refuse_reports = false;
    run(w, 30000, 30);
    assert_int_equal(w->reports, 2);
    assert_int_equal(w->told[1], MANY);
    assert_int_equal(queued(w), 0);
}

static void test_those_deferred_do_not_hold_up_the_report_of_others(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->defer_from = 30; /* starts: the first three portions fail */
    inject(w, 100, "remote", MANY);
    run(w, 10000, 100);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->told[0], 30);
    assert_int_equal(queued(w), 1);
    w->defer_from = 0;
    run(w, hour, 100);
    assert_int_equal(w->reports, 2);
    assert_int_equal(w->told[1], MANY - 30);
    assert_int_equal(queued(w), 0);
}

static void test_one_warning_tells_of_all_portions(void **state)
{
    struct world *w = *state;
    w->q.set.retry.delay_warning = 300000;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 35);
    run(w, hour, 200);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->kinds[0], REPORT_DELAY);
    assert_int_equal(w->told[0], 35);
}

static void test_one_report_tells_of_all_successes(void **state)
{
    struct world *w = *state;
    w->notify = NOTIFY_SUCCESS;
    inject(w, 100, "virtual", 35);
    run(w, 10000, 100);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->kinds[0], REPORT_SUCCESS);
    assert_int_equal(w->told[0], 35);
    assert_int_equal(queued(w), 0);
}

static void test_failures_that_nobody_wants_to_hear_of_are_no_report(void **state)
{
    struct world *w = *state;
    w->notify = NOTIFY_NEVER;
    w->answer = FAILED;
    inject(w, 100, "remote", MANY);
    run(w, 10000, 100);
    assert_int_equal(w->reports, 0);
    assert_int_equal(queued(w), 0);
}

/* The agent answers at last: nothing was wrong. */
static void answer_waiting(struct world *w)
{
    for (unsigned i = 0; i < w->nunanswered; i++)
        ipc_reply(w->agents[1].ipc, w->unanswered[i], 100, deliver_done_type,
            &(struct deliver_done){.outcomes = SLICE_LIT("")}, -1);
    w->nunanswered = 0;
}

static void test_a_slow_destination_delays_a_report_for_an_hour_at_most(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->silent_from = 50; /* the first request is answered */
    inject(w, 100, "remote", 800);
    run(w, hour - 60000, 50);
    assert_int_equal(w->reports, 0);
    run(w, 180000, 10);
    assert_int_equal(w->reports, 0); /* what is under way is waited for, what is in line is not */
    answer_waiting(w);
    run(w, 100, 10);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->told[0], 50);
    assert_true(w->nunanswered > 0); /* the others go on */
}

/* The hour counts from here too. */
static void test_a_recipient_refused_when_routed_again_has_failed_since_then(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    w->refuse_reports = true;
    inject(w, 100, "remote", 1);
    run(w, 1000, 10);
    struct peer admin = {.daemon = &w->daemon};
    struct queue_act again = {.verb = SLICE_LIT("requeue")};
    struct message *m = queue_find(&w->q, 100);
    struct error err;
    w->verdict = 550;
    assert_int_equal(admin_route(&admin, 1, m, &again, &err), OK);
    run(w, 1000, 10);
    assert_int_equal(w->reports, 1);
    assert_true(m->failed_since > 0);
    admin_down(&admin);
}

/* --- crashes --------------------------------------------------------------------------------- */

/* The report is durable, the agent's answer and everything behind it is lost. */
static void crash_after_acceptance(struct world *w)
{
    w->inject_reports = true;
    for (int i = 0; i < 200 && !queue_find(&w->q, 9001); i++)
        loop_poll(w->q.loop), loop_advance(w->q.loop, 5);
    while (queue_find(&w->q, 9001)->committing)
        loop_poll(w->q.loop);
    w->inject_reports = false;
    restart(w);
}

static void test_a_crash_after_the_report_is_accepted_repeats_nothing(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->inject_reports = true;
    inject(w, 100, "remote", 3);
    crash_after_acceptance(w);
    unsigned starts = w->starts;
    run(w, hour, 20);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->starts, starts); /* nor the attempts */
    assert_null(queue_find(&w->q, 100));
}

static void test_so_it_is_when_others_wait(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->defer_from = 30;
    inject(w, 100, "remote", MANY);
    crash_after_acceptance(w);
    assert_int_equal(w->told[0], 30);
    run(w, 60000, 20);
    assert_int_equal(w->reports, 1);
    assert_int_equal(queue_find(&w->q, 100)->bounced, 30);
    restart(w); /* and the file knows now */
    run(w, 60000, 20);
    w->defer_from = 0;
    run(w, hour, 100);
    unsigned told = 0;
    for (unsigned i = 0; i < w->reports; i++)
        told += w->told[i];
    assert_int_equal(told, MANY);
    assert_int_equal(queued(w), 1); /* the first report */
}

static void test_so_it_is_with_the_owner_of_a_list(void **state)
{
    struct world *w = *state;
    w->owners[1] = w->owners[3] = "owner@list.test";
    w->answer = FAILED;
    inject(w, 100, "remote", MANY);
    crash_after_acceptance(w); /* the sender's is accepted, the owner's is not */
    run(w, 60000, 60);
    assert_int_equal(w->reports, 2);
    assert_int_equal(w->told[0], MANY - 2);
    assert_int_equal(w->told[1], 2);
    assert_null(queue_find(&w->q, 100));
}

static void test_so_it_is_with_a_parked_message_of_few_recipients(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    run(w, 1000, 10);
    assert_true(queue_find(&w->q, 100)->parked);
    w->answer = FAILED;
    w->inject_reports = true;
    for (int i = 0; i < 100 && !queue_find(&w->q, 9001); i++)
        pass(w, 5000);
    w->inject_reports = false;
    restart(w);
    run(w, 2 * hour, 50);
    assert_int_equal(w->reports, 1);
    assert_null(queue_find(&w->q, 100));
}

static void test_a_crash_before_the_report_is_accepted_loses_nothing(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->refuse_reports = true;
    inject(w, 100, "remote", MANY);
    run(w, 5000, 50);
    w->refuse_reports = false;
    restart(w);
    run(w, 60000, 20);
    assert_int_equal(w->reports, 2);
    assert_int_equal(w->told[1], MANY);
    assert_int_equal(queued(w), 0);
}

static void test_only_the_bounce_agent_may_say_that_something_was_told(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    w->about = 100;
    inject(w, 101, "remote", 1);
    assert_int_equal(w->code, 451);
}

static int begin_large(void **state)
{
    return begin_with(state, setup_large);
}

static int begin_portions(void **state)
{
    return begin_with(state, setup_portions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_report_tells_of_all_portions, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_owners_of_lists_and_the_sender_get_a_report_each, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_recipients_beyond_one_record_go_ahead_in_pieces, begin_large, end),
        cmocka_unit_test_setup_teardown(
            test_a_report_is_refused_and_asked_for_again_whole, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_those_deferred_do_not_hold_up_the_report_of_others, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_one_warning_tells_of_all_portions, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_one_report_tells_of_all_successes, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_failures_that_nobody_wants_to_hear_of_are_no_report, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_a_slow_destination_delays_a_report_for_an_hour_at_most, begin_large, end),
        cmocka_unit_test_setup_teardown(
            test_a_crash_after_the_report_is_accepted_repeats_nothing, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_recipient_refused_when_routed_again_has_failed_since_then, begin, end),
        cmocka_unit_test_setup_teardown(test_so_it_is_when_others_wait, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_so_it_is_with_the_owner_of_a_list, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_so_it_is_with_a_parked_message_of_few_recipients, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_crash_before_the_report_is_accepted_loses_nothing, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_only_the_bounce_agent_may_say_that_something_was_told, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
