/* The life of a message, with agents and clients played by the test over real channels, on a
 * fake clock and a simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/world.h"

/* --- tests ----------------------------------------------------------------------------------- */

static void test_a_local_message_is_forgotten_only_after_its_sync(void **state)
{
    struct world *w = *state;
    inject(w, 100, "virtual", 3);
    assert_int_equal(w->code, 250);
    assert_int_equal(w->starts, 1);
    assert_int_equal(w->deliveries[0], 100);
    assert_int_equal(w->syncs, 0);
    assert_int_equal(queued(w), 1);
    pass(w, SYNC_DELAY_MS);
    assert_int_equal(w->syncs, 1);
    pass(w, SPOOL_LAZY_MS);
    assert_int_equal(queued(w), 0);
}

static void test_an_agent_that_dies_before_the_sync_gets_the_same_delivery_again(void **state)
{
    struct world *w = *state;
    inject(w, 100, "virtual", 1);
    ipc_free(w->agents[0].ipc);
    w->agents[0].ipc = NULL;
    pass(w, SYNC_DELAY_MS);
    assert_int_equal(queued(w), 1);
    connect_end(w, &w->agents[0], CONV_DELIVER, ROLE_VIRTUAL);
    for (int i = 0; i < 10; i++)
        pass(w, 1000);
    assert_int_equal(w->starts, 2);
    assert_int_equal(w->deliveries[1], w->deliveries[0]);
    assert_int_equal(queued(w), 0);
}

static void test_a_deferred_message_is_parked_and_tried_again_when_due(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    struct message *m = queue_find(&w->q, 100);
    assert_true(m->parked);
    assert_null(m->content);
    assert_int_equal(w->starts, 1);
    pass(w, 290000);
    assert_int_equal(w->starts, 1);
    w->answer = DELIVERED;
    pass(w, 90000); /* 300 s, and at most a quarter of jitter */
    pass(w, 1000);
    assert_int_equal(w->starts, 2);
    assert_int_equal(queued(w), 0);
}

static void test_a_failure_is_reported_before_it_is_forgotten(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->refuse_reports = true;
    inject(w, 100, "remote", 2);
    pass(w, 1000);
    assert_int_equal(w->reports, 1);
    assert_int_equal(queued(w), 1); /* the report was not taken */
    w->refuse_reports = false;
    pass(w, REPORT_RETRY_MS + 1000);
    pass(w, 1000);
    assert_int_equal(w->reports, 2);
    assert_int_equal(w->kinds[1], REPORT_FAILURE);
    assert_int_equal(w->starts, 1); /* nobody was tried again */
    assert_int_equal(queued(w), 0);
}

static void test_notify_never_is_silent(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->notify = NOTIFY_NEVER;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    assert_int_equal(w->reports, 0);
    assert_int_equal(queued(w), 0);
}

static void test_notify_success_of_local_mail_is_reported(void **state)
{
    struct world *w = *state;
    w->notify = NOTIFY_SUCCESS;
    inject(w, 100, "virtual", 1);
    pass(w, SYNC_DELAY_MS);
    pass(w, 1000);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->kinds[0], REPORT_SUCCESS);
    assert_int_equal(queued(w), 0);
}

static void test_a_failed_double_bounce_ends_there(void **state)
{
    struct world *w = *state;
    w->answer = FAILED;
    w->sender = "";
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    assert_int_equal(w->reports, 1); /* to the postmaster */
    w->listener = "double-bounce";
    inject(w, 101, "remote", 1);
    pass(w, 1000);
    assert_int_equal(w->reports, 1);
    assert_int_equal(queued(w), 0);
}

static void test_what_cannot_be_delivered_in_its_lifetime_fails(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    for (int i = 0; i < 80 && queued(w); i++)
        pass(w, 120000);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->kinds[0], REPORT_FAILURE);
    assert_int_equal(queued(w), 0);
}

static void test_an_unknown_transport_waits_with_a_reason(void **state)
{
    struct world *w = *state;
    inject(w, 100, "pigeon", 1);
    assert_int_equal(w->code, 250);
    pass(w, 1000);
    assert_int_equal(w->starts, 0);
    assert_true(queue_find(&w->q, 100)->parked);
}

static void test_a_qid_that_is_queued_is_not_taken_again(void **state)
{
    struct world *w = *state;
    w->silent = true;
    inject(w, 100, "remote", 1);
    assert_int_equal(w->code, 250);
    inject(w, 100, "remote", 1);
    assert_int_equal(w->code, 451);
}

static void test_too_many_recipients_are_452(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", 11);
    assert_int_equal(w->code, 452);
    assert_int_equal(queued(w), 0);
}

static void test_a_disk_that_refuses_gives_452_or_451(void **state)
{
    struct world *w = *state;
    simdisk_fail(w->sim, 1, 28 /* ENOSPC */);
    inject(w, 100, "remote", 1);
    assert_int_equal(w->code, 452);
    simdisk_fail(w->sim, 1, 5 /* EIO */);
    inject(w, 101, "remote", 1);
    assert_int_equal(w->code, 451);
    simdisk_fail(w->sim, 0, 0);
    inject(w, 102, "remote", 1);
    assert_int_equal(w->code, 250);
}

static void test_an_agent_that_hangs_is_given_up_and_others_go_on(void **state)
{
    struct world *w = *state;
    w->q.set.agent_timeout = 60000;
    w->silent = w->frozen = true;
    inject(w, 100, "remote", 1);
    w->silent = false;
    inject(w, 200, "virtual", 1);
    pass(w, GATHER_MS);
    pass(w, SYNC_DELAY_MS);
    pass(w, 1000);
    assert_int_equal(queued(w), 1); /* only the one that hangs */
    for (int i = 0; i < 8; i++)
        pass(w, 15000);
    assert_null(w->agents[1].ipc); /* its channel was closed; master would start another */
    connect_end(w, &w->agents[1], CONV_DELIVER, ROLE_REMOTE);
    for (int i = 0; i < 10; i++)
        pass(w, 1000);
    assert_int_equal(w->starts, 3);
    assert_int_equal(queued(w), 0);
}

static void test_an_agent_that_is_only_slow_is_left_alone(void **state)
{
    struct world *w = *state;
    w->q.set.agent_timeout = 60000;
    w->silent = true;
    inject(w, 100, "remote", 1);
    for (int i = 0; i < 100; i++)
        pass(w, 15000);
    assert_true(w->pings > 20);
    assert_int_equal(w->starts, 1);
    assert_int_equal(queue_find(&w->q, 100)->busy, 1);
}

static void test_an_idle_agent_is_not_asked(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", 1);
    for (int i = 0; i < 20; i++)
        pass(w, 15000);
    assert_int_equal(w->pings, 0);
}

static void test_a_delivery_that_an_agent_forgot_is_tried_again(void **state)
{
    struct world *w = *state;
    w->q.set.retry.lifetime = 36000000;
    w->silent = true;
    inject(w, 100, "remote", 1);
    w->silent = false;
    for (int i = 0; i < 500 && queued(w) > 0; i++)
        pass(w, 15000);
    assert_int_equal(w->starts, 2);
    assert_int_equal(queued(w), 0);
}

static void test_the_second_answer_of_an_agent_changes_nothing(void **state)
{
    struct world *w = *state;
    w->twice = true;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    inject(w, 101, "virtual", 1);
    pass(w, 1000);
    assert_int_equal(queued(w), 2);
    assert_int_equal(w->starts, 2);
    assert_int_equal(queue_find(&w->q, 100)->busy, 0);
    w->answer = DELIVERED;
    for (int i = 0; i < 20; i++)
        pass(w, 20000);
    pass(w, 1000);
    assert_int_equal(w->starts, 4);
    assert_int_equal(queued(w), 0);
}

static void test_an_agent_that_lies_about_recipients_delivers_nothing(void **state)
{
    struct world *w = *state;
    w->lie = 2; /* of three, the first is said to be the third, the others do not exist */
    w->answer = FAILED;
    inject(w, 100, "remote", 3);
    pass(w, 100);
    assert_int_equal(queued(w), 1);
    assert_int_equal(w->reports, 1); /* about the one that it could have meant */
    w->lie = 0;
    w->answer = DELIVERED;
    for (int i = 0; i < 10; i++)
        pass(w, 10000);
    assert_int_equal(w->starts, 2);
    assert_int_equal(queued(w), 0);
}

static const int64_t ten_years = INT64_C(3652) * 86400 * 1000;

static void test_a_clock_set_back_delays_no_longer_than_the_longest_retry(void **state)
{
    struct world *w = *state;
    loop_step_wall(w->q.loop, ten_years);
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    loop_step_wall(w->q.loop, -ten_years);
    w->answer = DELIVERED;
    for (int i = 0; i < 38; i++)
        pass(w, 120000); /* 3600 s and a quarter */
    assert_int_equal(w->starts, 2);
    assert_int_equal(queued(w), 0);
}

static void test_a_clock_set_forward_returns_nothing_untried(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    inject(w, 101, "remote", 1);
    pass(w, 1000);
    loop_step_wall(w->q.loop, ten_years);
    w->answer = DELIVERED;
    for (int i = 0; i < 5; i++)
        pass(w, 90000);
    pass(w, 1000);
    assert_int_equal(w->reports, 0);
    assert_int_equal(queued(w), 0);
}

static void test_a_read_only_disk_refuses_new_mail_and_keeps_the_old(void **state)
{
    struct world *w = *state;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    simdisk_fail(w->sim, 1, 30 /* EROFS */);
    inject(w, 101, "remote", 1);
    assert_int_equal(w->code, 451);
    pass(w, 400000);
    assert_int_equal(queued(w), 1);
    simdisk_fail(w->sim, 0, 0);
    w->answer = DELIVERED;
    for (int i = 0; i < 10; i++)
        pass(w, 60000);
    assert_int_equal(queued(w), 0);
}

static void test_a_damaged_parked_file_is_held_and_others_go_on(void **state)
{
    struct world *w = *state;
    char path[PARKED_NAME];
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    inject(w, 101, "remote", 1);
    pass(w, 1000);
    parked_path(100, 6, path);
    assert_true(simdisk_flip(w->sim, path, 60));
    w->answer = DELIVERED;
    for (int i = 0; i < 5; i++)
        pass(w, 90000);
    pass(w, 1000);
    assert_int_equal(queued(w), 1);
    assert_true(queue_find(&w->q, 100)->damaged && queue_find(&w->q, 100)->held);
    assert_true(simdisk_flip(w->sim, path, 60)); /* the file is still there, as it was */
}

/* Otherwise they fill the memory that others may have, attempt by attempt. */
static void test_a_damaged_body_leaves_no_recipients_in_memory(void **state)
{
    struct world *w = *state;
    char path[PARKED_NAME];
    w->answer = DEFERRED;
    inject(w, 100, "remote", 3);
    pass(w, 1000);
    parked_path(100, 6, path);
    assert_true(simdisk_flip(w->sim, path, 2));
    for (int i = 0; i < 5; i++)
        pass(w, 90000);
    assert_true(queue_find(&w->q, 100)->damaged);
    assert_int_equal(w->q.loaded, 0);
    assert_int_equal(w->q.active, 0);
}

/* Its last update said that it was tried and how that went. */
static void test_a_damaged_update_is_set_aside_and_the_message_goes_on(void **state)
{
    struct world *w = *state;
    char path[PARKED_NAME], aside[64], id[ID_TEXT];
    struct disk_stat st;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 1);
    pass(w, 1000);
    uint64_t first = queue_find(&w->q, 100)->parked_end;
    for (int i = 0; i < 5; i++)
        pass(w, 90000);
    pass(w, 1000); /* for the lazy write */
    uint64_t second = queue_find(&w->q, 100)->parked_end;
    assert_true(second > first);
    parked_path(100, 6, path);
    id_print(100, id);
    snprintf(aside, sizeof(aside), "corrupt/update-%s-%llu", id, (unsigned long long)first);
    assert_true(simdisk_flip(w->sim, path, first + 40));
    unsigned before = w->starts;
    for (int i = 0; i < 60 && w->starts == before; i++)
        pass(w, 90000);
    assert_int_equal(w->q.disk->ops->stat(w->q.disk, aside, &st), 0);
    assert_int_equal(st.size, second - first);
    assert_false(queue_find(&w->q, 100)->held);
    w->answer = DELIVERED;
    for (int i = 0; i < 30 && queued(w) > 0; i++)
        pass(w, 90000);
    assert_int_equal(queued(w), 0);
}

static void test_a_destination_block_of_the_configuration_limits_its_next_hop(void **state)
{
    struct world *w = *state;
    struct error err;
    w->daemon.conf =
        conf_parse("test", SLICE_LIT("destination other.test X.test { concurrency 1 }\n"),
            &conf_root_schema, NULL, &err);
    assert_non_null(w->daemon.conf);
    w->silent = true;
    inject(w, 100, "remote", 1);
    inject(w, 101, "remote", 1);
    assert_int_equal(w->starts, 1);
    conf_free(w->daemon.conf);
    w->daemon.conf = NULL;
}

/* Recipient 0 of a loaded message turns out to stand for two others. */
static void expand(struct world *w, struct message *m)
{
    struct buf packed, via;
    buf_init(&packed, 4096);
    buf_init(&via, 4096);
    assert_int_equal(via_extend(&via, &m->content->rcpts[0].to), OK);
    for (int i = 0; i < 2; i++) {
        struct recipient to = {.address = i ? SLICE_LIT("b@x.test") : SLICE_LIT("a@x.test"),
            .transport = SLICE_LIT("remote"),
            .nexthop = SLICE_LIT("x.test"),
            .via = buf_slice(&via)};
        assert_int_equal(record_put(&packed, &recipient_record, &to), OK);
    }
    queue_unschedule(&w->q, m);
    m->content->rcpts[0].busy = true;
    m->busy++;
    queue_expand(&w->q, m, 0, buf_slice(&packed));
    settle(w);
    buf_clear(&via);
    buf_clear(&packed);
}

static void disconnect_remote(struct world *w)
{
    ipc_free(w->agents[1].ipc);
    w->agents[1].ipc = NULL;
    settle(w);
}

/* Power fails, and all is read again. */
static struct message *restart(struct world *w, uint64_t qid)
{
    struct error err;
    close_spool(w);
    simdisk_power_on(w->sim);
    open_spool(w);
    struct message *m = queue_find(&w->q, qid);
    assert_non_null(m);
    assert_int_equal(queue_load(&w->q, m, &err), OK);
    return m;
}

static void check_expanded(const struct message *m)
{
    const struct rcpt *r = m->content->rcpts;
    assert_int_equal(m->content->count, 4);
    assert_int_equal(r[0].st.state, RCPT_DONE);
    assert_int_equal(r[1].st.state, RCPT_WAITING);
    assert_true(slice_is(r[2].to.address, "a@x.test") && slice_is(r[3].to.address, "b@x.test"));
    assert_int_equal(r[2].st.state, RCPT_WAITING);
    assert_true(via_holds(r[3].to.via, SLICE_LIT("R@x.test")));
}

static void test_recipients_that_take_the_place_of_another_survive_a_power_cut(void **state)
{
    struct world *w = *state;
    disconnect_remote(w);
    inject(w, 100, "remote", 2);
    expand(w, queue_find(&w->q, 100));
    struct message *m = restart(w, 100);
    assert_false(m->parked);
    check_expanded(m);
    connect_end(w, &w->agents[1], CONV_DELIVER, ROLE_REMOTE);
    w->answer = DEFERRED;
    pass(w, 1000);
    pass(w, 1000);
    m = restart(w, 100);
    assert_true(m->parked);
    check_expanded(m);
}

static void test_a_parked_message_is_expanded_in_its_file(void **state)
{
    struct world *w = *state;
    struct error err;
    w->answer = DEFERRED;
    inject(w, 100, "remote", 2);
    pass(w, 1000);
    struct message *m = queue_find(&w->q, 100);
    assert_true(m->parked);
    assert_int_equal(queue_load(&w->q, m, &err), OK);
    disconnect_remote(w);
    expand(w, m);
    m = restart(w, 100);
    assert_true(m->parked);
    check_expanded(m);
}

static void test_an_expansion_that_the_disk_refuses_changes_nothing_and_is_tried_again(void **state)
{
    struct world *w = *state;
    disconnect_remote(w);
    inject(w, 100, "remote", 2);
    struct message *m = queue_find(&w->q, 100);
    simdisk_fail(w->sim, 1, 5 /* EIO */);
    expand(w, m);
    simdisk_fail(w->sim, 0, 0);
    assert_int_equal(m->content->count, 2);
    assert_int_equal(m->content->rcpts[0].st.state, RCPT_WAITING);
    settle(w);
    expand(w, m);
    check_expanded(restart(w, 100));
}

static void test_an_expansion_beyond_the_limit_of_recipients_fails(void **state)
{
    struct world *w = *state;
    w->q.set.max_recipients = 3;
    disconnect_remote(w);
    inject(w, 100, "remote", 2);
    struct message *m = queue_find(&w->q, 100);
    expand(w, m);
    assert_int_equal(m->content->count, 2);
    assert_int_equal(m->content->rcpts[0].st.state, RCPT_FAILED);
    assert_true(slice_is(m->content->rcpts[0].st.dsn, "5.4.6"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_local_message_is_forgotten_only_after_its_sync, begin, end),
        cmocka_unit_test_setup_teardown(
            test_an_agent_that_dies_before_the_sync_gets_the_same_delivery_again, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_deferred_message_is_parked_and_tried_again_when_due, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_failure_is_reported_before_it_is_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(test_notify_never_is_silent, begin, end),
        cmocka_unit_test_setup_teardown(test_notify_success_of_local_mail_is_reported, begin, end),
        cmocka_unit_test_setup_teardown(test_a_failed_double_bounce_ends_there, begin, end),
        cmocka_unit_test_setup_teardown(
            test_what_cannot_be_delivered_in_its_lifetime_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_an_unknown_transport_waits_with_a_reason, begin, end),
        cmocka_unit_test_setup_teardown(test_a_qid_that_is_queued_is_not_taken_again, begin, end),
        cmocka_unit_test_setup_teardown(test_too_many_recipients_are_452, begin, end),
        cmocka_unit_test_setup_teardown(test_a_disk_that_refuses_gives_452_or_451, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_destination_block_of_the_configuration_limits_its_next_hop, begin, end),
        cmocka_unit_test_setup_teardown(
            test_an_agent_that_hangs_is_given_up_and_others_go_on, begin, end),
        cmocka_unit_test_setup_teardown(test_an_agent_that_is_only_slow_is_left_alone, begin, end),
        cmocka_unit_test_setup_teardown(test_an_idle_agent_is_not_asked, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_delivery_that_an_agent_forgot_is_tried_again, begin, end),
        cmocka_unit_test_setup_teardown(
            test_the_second_answer_of_an_agent_changes_nothing, begin, end),
        cmocka_unit_test_setup_teardown(
            test_an_agent_that_lies_about_recipients_delivers_nothing, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_clock_set_back_delays_no_longer_than_the_longest_retry, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_clock_set_forward_returns_nothing_untried, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_read_only_disk_refuses_new_mail_and_keeps_the_old, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_damaged_parked_file_is_held_and_others_go_on, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_damaged_body_leaves_no_recipients_in_memory, begin, end),
        cmocka_unit_test_setup_teardown(
            test_a_damaged_update_is_set_aside_and_the_message_goes_on, begin, end),
        cmocka_unit_test_setup_teardown(
            test_recipients_that_take_the_place_of_another_survive_a_power_cut, begin, end),
        cmocka_unit_test_setup_teardown(test_a_parked_message_is_expanded_in_its_file, begin, end),
        cmocka_unit_test_setup_teardown(
            test_an_expansion_that_the_disk_refuses_changes_nothing_and_is_tried_again, begin, end),
        cmocka_unit_test_setup_teardown(
            test_an_expansion_beyond_the_limit_of_recipients_fails, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
