/* Messages with very many recipients, and messages that are not to be delivered yet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "qmgr/roster.h"
#include "tests/unit/qmgr/world.h"

enum { PORTION = 10, MANY = 95 };

static void setup_portions(struct world *w)
{
    setup(w);
    w->q.set.portion = PORTION;
    w->q.set.max_recipients = 1000;
}

/* Waits until the queue is empty, and checks on the way what is in memory. */
static void run_out(struct world *w, int64_t step_ms)
{
    for (int i = 0; i < 400 && queued(w) > 0; i++) {
        pass(w, step_ms);
        const struct message *m = queue_find(&w->q, 100);
        if (m && m->parked && m->content && m->saved == m->changes)
            assert_true(m->content->count <= PORTION);
        assert_true(w->q.active <= PORTION || (m && !m->content->roster));
    }
    assert_int_equal(queued(w), 0);
    assert_int_equal(w->q.active, 0);
}

/* The process ends without warning, and another one starts. */
static void restart(struct world *w)
{
    close_spool(w);
    simdisk_process_on(w->sim);
    w->q.loaded = w->q.active = w->q.attempts = 0;
    open_spool(w);
    settle(w);
}

static void test_many_recipients_are_delivered_in_portions_each_once(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", MANY);
    assert_int_equal(w->code, 250);
    run_out(w, 100);
    assert_int_equal(w->starts, (MANY + PORTION - 1) / PORTION);
    for (unsigned i = 0; i < w->starts;
         i++) /* by delivery id: each portion begins where it should */
        assert_int_equal(w->deliveries[i], 100 + i * PORTION);
}

static void test_local_recipients_in_portions_keep_their_delivery_ids(void **state)
{
    struct world *w = *state;
    inject(w, 100, "virtual", 25);
    run_out(w, 100);
    assert_int_equal(w->starts, 3);
    assert_int_equal(w->deliveries[2], 120);
}

static void test_all_portions_that_were_deferred_are_tried_again(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", MANY);
    for (int i = 0; i < 60; i++)
        pass(w, 100);
    unsigned first = w->starts;
    assert_int_equal(first, 10);
    assert_null(queue_find(&w->q, 100)->content);
    w->answer = DELIVERED;
    run_out(w, 60000);
    assert_true(w->starts >= 2 * first);
}

static void test_a_crash_between_portions_repeats_none_of_them(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", MANY);
    while (w->starts < 4)
        loop_poll(w->q.loop), loop_advance(w->q.loop, 10);
    w->silent = true;
    for (int i = 0; i < 20; i++)
        pass(w, 50);
    unsigned before = w->starts;
    for (int i = 0; i < AGENTS; i++)
        ipc_free(w->agents[i].ipc), w->agents[i].ipc = NULL;
    settle(w);
    restart(w);
    w->silent = false;
    for (int i = 0; i < AGENTS; i++)
        connect_end(w, &w->agents[i], CONV_DELIVER, roles[i]);
    run_out(w, 1000);
    assert_int_equal(w->starts, 11);
    for (uint64_t id = 100; id < 100 + MANY; id += PORTION) {
        unsigned times = 0;
        for (unsigned i = 0; i < w->starts; i++)
            times += w->deliveries[i] == id;
        /* only what was under way is done again */
        assert_int_equal(times, id == w->deliveries[before - 1] ? 2 : 1);
    }
}

static void test_failures_are_reported_after_the_last_portion(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    inject(w, 100, "remote", 25);
    for (int i = 0; i < 100 && w->starts < 3; i++) {
        assert_int_equal(w->reports, 0);
        pass(w, 20);
    }
    run_out(w, 1000);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->told[0], 25);
    assert_int_equal(w->starts, 3);
}

static void test_an_update_names_only_what_has_changed(void **state)
{
    struct world *w = *state;
    char path[PARKED_NAME];
    struct disk_stat before, after;
    w->q.set.max_recipients = 1000;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 60);
    pass(w, 1000);
    struct message *m = queue_find(&w->q, 100);
    struct error err;
    parked_path(100, 6, path);
    assert_int_equal(w->q.disk->ops->stat(w->q.disk, path, &before), 0);
    assert_int_equal(queue_load(&w->q, m, &err), OK);
    rcpt_note(&m->content->rcpts[30], DEFERRED, SLICE_LIT("4.0.0"), SLICE_LIT("x"), SLICE_LIT(""));
    m->changes++;
    queue_settle(&w->q, m);
    pass(w, 100);
    assert_int_equal(w->q.disk->ops->stat(w->q.disk, path, &after), 0);
    assert_true(after.size > before.size && after.size - before.size < 400);
    assert_int_equal(queue_load(&w->q, m, &err), OK);
    assert_true(slice_is(m->content->rcpts[30].st.text, "x"));
    assert_true(slice_is(m->content->rcpts[31].st.text, "because"));
}

static void test_a_refused_update_is_written_in_full_later(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 25);
    for (int i = 0; i < 20; i++)
        pass(w, 100);
    w->answer = FAILED;
    w->refuse_reports = true;
    simdisk_fail(w->sim, 1, 28 /* ENOSPC */);
    for (int i = 0; i < 10; i++)
        pass(w, 60000);
    simdisk_fail(w->sim, 0, 0);
    w->refuse_reports = false;
    run_out(w, 5000);
    assert_int_equal(w->told[w->reports - 1], 25);
}

static void test_a_damaged_file_of_many_recipients_is_held(void **state)
{
    struct world *w = *state;
    char path[PARKED_NAME];
    w->answer = DEFERRED;
    inject(w, 100, "remote", 30);
    for (int i = 0; i < 20; i++)
        pass(w, 100);
    parked_path(100, 6, path);
    assert_null(queue_find(&w->q, 100)->content);
    assert_true(simdisk_flip(w->sim, path, 200));
    w->answer = DELIVERED;
    for (int i = 0; i < 10; i++)
        pass(w, 60000);
    assert_int_equal(queued(w), 1);
    assert_true(queue_find(&w->q, 100)->damaged && queue_find(&w->q, 100)->held);
}

/* --- release at a time (RFC 4865) ------------------------------------------------------------ */

static const int64_t hour = 3600000;

static void test_a_message_waits_for_the_time_its_sender_gave(void **state)
{
    struct world *w = *state;
    w->hold_until = loop_wall(w->q.loop) + 10 * hour; /* longer than any retry */
    inject(w, 100, "remote", 3);
    assert_int_equal(w->code, 250);
    for (int i = 0; i < 19; i++)
        pass(w, hour / 2);
    assert_int_equal(w->starts, 0);
    assert_true(queue_find(&w->q, 100)->parked);
    assert_null(queue_find(&w->q, 100)->content);
    pass(w, hour / 2);
    pass(w, 60000);
    assert_int_equal(w->starts, 1);
    assert_int_equal(queued(w), 0);
}

static void test_the_lifetime_begins_at_the_release(void **state)
{
    struct world *w = *state;
    int64_t until = loop_wall(w->q.loop) + 10 * hour;
    w->hold_until = until;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    for (int i = 0; i < 115; i++)
        pass(w, hour / 10);
    assert_true(w->starts > 0);
    assert_int_equal(w->reports, 0); /* 1.5 of 2 hours after the release */
    for (int i = 0; i < 70; i++)     /* in steps that no deadline of the agents falls into */
        pass(w, hour / 60);
    assert_int_equal(w->reports, 1);
    assert_int_equal(queued(w), 0);
}

static void test_a_restart_does_not_release_a_message(void **state)
{
    struct world *w = *state;
    w->hold_until = loop_wall(w->q.loop) + 5 * hour;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    restart(w);
    for (int i = 0; i < 9; i++)
        pass(w, hour / 2);
    assert_int_equal(w->starts, 0);
    pass(w, hour);
    pass(w, 1000);
    assert_int_equal(w->starts, 1);
}

static void test_a_flush_does_not_release_a_message(void **state)
{
    struct world *w = *state;
    w->hold_until = loop_wall(w->q.loop) + 5 * hour;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    queue_find(&w->q, 100)->flush = true;
    queue_wake_in(&w->q, queue_find(&w->q, 100), 0);
    pass(w, 1000);
    assert_int_equal(w->starts, 0);
    assert_int_equal(queued(w), 1);
}

static void test_a_message_of_many_recipients_waits_for_its_time_too(void **state)
{
    struct world *w = *state;
    w->hold_until = loop_wall(w->q.loop) + 5 * hour;
    inject(w, 100, "remote", 25);
    for (int i = 0; i < 9; i++)
        pass(w, hour / 2);
    assert_int_equal(w->starts, 0);
    pass(w, hour);
    run_out(w, 1000);
    assert_int_equal(w->starts, 3);
}

static int begin_portions(void **state)
{
    return begin_with(state, setup_portions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_many_recipients_are_delivered_in_portions_each_once, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_local_recipients_in_portions_keep_their_delivery_ids, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_all_portions_that_were_deferred_are_tried_again, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_a_crash_between_portions_repeats_none_of_them, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_failures_are_reported_after_the_last_portion, begin_portions, end),
        cmocka_unit_test_setup_teardown(test_an_update_names_only_what_has_changed, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_refused_update_is_written_in_full_later, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_a_damaged_file_of_many_recipients_is_held, begin_portions, end),
        cmocka_unit_test_setup_teardown(
            test_a_message_waits_for_the_time_its_sender_gave, begin, end),
        cmocka_unit_test_setup_teardown(test_the_lifetime_begins_at_the_release, begin, end),
        cmocka_unit_test_setup_teardown(test_a_restart_does_not_release_a_message, begin, end),
        cmocka_unit_test_setup_teardown(test_a_flush_does_not_release_a_message, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_message_of_many_recipients_waits_for_its_time_too, begin_portions, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
