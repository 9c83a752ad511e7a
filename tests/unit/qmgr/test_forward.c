/* What becomes of a message whose delivery names others: a .forward file. The agent virtual plays
 * the one that reads such files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/world.h"

/* Until nothing is queued, for as long as retries may take. */
static void run_out(struct world *w)
{
    for (int i = 0; i < 40 && queued(w) > 0; i++)
        pass(w, 60000);
    assert_int_equal(queued(w), 0);
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

static void forward_to(struct world *w, const char *one, const char *two)
{
    setup(w);
    w->targets[0] = one;
    w->targets[1] = two;
}

static void test_all_that_a_delivery_names_get_the_message_once(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", "b@z.test");
    inject(&w, 100, "virtual", 1);
    run_out(&w);
    assert_int_equal(w.lookups, 2);
    assert_int_equal(w.starts_of[ROLE_VIRTUAL], 1);
    assert_int_equal(w.starts_of[ROLE_REMOTE], 1);
    assert_string_equal(w.address[ROLE_REMOTE], "b@z.test");
    assert_int_equal(w.deliveries[1], 101); /* theirs follow that of the old recipient */
    assert_int_equal(w.reports, 0);
    teardown(&w);
}

static void test_one_named_twice_gets_the_message_once(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", "A@z.test");
    inject(&w, 100, "virtual", 1);
    pass(&w, SYNC_DELAY_MS);
    struct message *m = queue_find(&w.q, 100);
    assert_true(!m || m->content->count == 2);
    run_out(&w);
    teardown(&w);
}

static void test_they_carry_the_address_that_forwarded_them(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    inject(&w, 100, "virtual", 1);
    run_out(&w);
    assert_string_equal(w.via[ROLE_REMOTE], "r@x.test");
    teardown(&w);
}

static void test_nothing_is_asked_before_the_delivery_is_durable(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    inject(&w, 100, "virtual", 1);
    assert_int_equal(w.lookups, 0);
    ipc_free(w.agents[0].ipc); /* dies before its sync: the file is read anew */
    w.agents[0].ipc = NULL;
    settle(&w);
    assert_int_equal(w.lookups, 0);
    connect_end(&w, &w.agents[0], CONV_DELIVER, ROLE_VIRTUAL);
    run_out(&w);
    assert_int_equal(w.starts_of[ROLE_VIRTUAL], 2);
    assert_int_equal(w.starts_of[ROLE_REMOTE], 1);
    teardown(&w);
}

static void check_retried(struct world *w)
{
    pass(w, SYNC_DELAY_MS);
    pass(w, 1000);
    assert_int_equal(w->starts_of[ROLE_REMOTE], 0);
    assert_int_equal(queued(w), 1);
    w->verdict = 250;
    if (!w->lookup.ipc)
        connect_end(w, &w->lookup, CONV_ROUTE, ROLE_LOOKUPD);
    run_out(w);
    assert_int_equal(w->starts_of[ROLE_VIRTUAL], 2);
    assert_int_equal(w->deliveries[1], w->deliveries[0]); /* a copy is not stored again */
    assert_int_equal(w->starts_of[ROLE_REMOTE], 1);
    assert_int_equal(w->reports, 0);
    teardown(w);
}

static void test_an_address_that_cannot_be_looked_up_now_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    w.verdict = 451;
    inject(&w, 100, "virtual", 1);
    check_retried(&w);
}

static void test_without_lookupd_it_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    ipc_free(w.lookup.ipc);
    w.lookup.ipc = NULL;
    inject(&w, 100, "virtual", 1);
    check_retried(&w);
}

static void test_when_lookupd_dies_over_the_question_it_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    w.mute = true;
    inject(&w, 100, "virtual", 1);
    pass(&w, SYNC_DELAY_MS);
    assert_int_equal(w.lookups, 1);
    w.mute = false;
    ipc_free(w.lookup.ipc);
    w.lookup.ipc = NULL;
    settle(&w);
    check_retried(&w);
}

static void test_a_restart_before_the_next_try_loses_nothing(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    w.verdict = 451;
    inject(&w, 100, "virtual", 1);
    pass(&w, SYNC_DELAY_MS);
    pass(&w, SPOOL_LAZY_MS);
    restart(&w);
    check_retried(&w);
}

static void test_an_address_that_nobody_has_is_returned_and_the_others_go_on(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "nobody@z.test", NULL);
    w.verdict = 550;
    w.local_answer = FAILED;
    w.notify = NOTIFY_FAILURE | NOTIFY_SUCCESS;
    inject(&w, 100, "virtual", 1);
    run_out(&w);
    assert_string_equal(w.address[ROLE_LOCAL], "nobody@z.test");
    assert_int_equal(w.starts_of[ROLE_VIRTUAL], 1);
    bool failure = false;
    for (unsigned i = 0; i < w.reports; i++)
        failure |= w.kinds[i] == REPORT_FAILURE;
    assert_true(failure);
    teardown(&w);
}

static void check_returned(struct world *w)
{
    inject(w, 100, "virtual", 1);
    run_out(w);
    assert_int_equal(w->starts_of[ROLE_VIRTUAL], 1);
    assert_int_equal(w->starts_of[ROLE_REMOTE], 0);
    assert_int_equal(w->lookups, 0);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->kinds[0], REPORT_FAILURE);
    teardown(w);
}

static void test_mail_forwarded_by_too_many_is_returned(void **state)
{
    (void)state;
    struct world w;
    char full[1995];
    memset(full, 'v', sizeof(full));
    forward_to(&w, "a@z.test", NULL);
    w.came_via = slice_from(full, sizeof(full));
    check_returned(&w);
}

static void test_malformed_names_of_an_agent_are_returned_and_harm_nothing(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, NULL, NULL);
    w.babble = true;
    check_returned(&w);
}

static void check_expanded(struct world *w)
{
    w->notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
    inject(w, 100, "virtual", 1);
    run_out(w);
    assert_int_equal(w->notified[ROLE_REMOTE], NOTIFY_FAILURE);
    assert_int_equal(w->reports, 1);
    assert_int_equal(w->kinds[0], REPORT_SUCCESS);
    teardown(w);
}

static void test_success_is_reported_as_expanded_where_the_file_names_several(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", "b@z.test");
    w.only = true;
    check_expanded(&w);
}

static void test_success_is_reported_as_expanded_where_a_copy_was_kept(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    check_expanded(&w);
}

static void test_one_other_gets_the_wish_to_hear_of_success(void **state)
{
    (void)state;
    struct world w;
    forward_to(&w, "a@z.test", NULL);
    w.only = true;
    w.notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
    inject(&w, 100, "virtual", 1);
    run_out(&w);
    assert_int_equal(w.notified[ROLE_REMOTE], NOTIFY_SUCCESS | NOTIFY_FAILURE);
    assert_int_equal(w.reports, 0); /* the server that gets it reports */
    teardown(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_a_delivery_names_get_the_message_once),
        cmocka_unit_test(test_one_named_twice_gets_the_message_once),
        cmocka_unit_test(test_they_carry_the_address_that_forwarded_them),
        cmocka_unit_test(test_nothing_is_asked_before_the_delivery_is_durable),
        cmocka_unit_test(test_an_address_that_cannot_be_looked_up_now_is_tried_again),
        cmocka_unit_test(test_without_lookupd_it_is_tried_again),
        cmocka_unit_test(test_when_lookupd_dies_over_the_question_it_is_tried_again),
        cmocka_unit_test(test_a_restart_before_the_next_try_loses_nothing),
        cmocka_unit_test(test_an_address_that_nobody_has_is_returned_and_the_others_go_on),
        cmocka_unit_test(test_mail_forwarded_by_too_many_is_returned),
        cmocka_unit_test(test_malformed_names_of_an_agent_are_returned_and_harm_nothing),
        cmocka_unit_test(test_success_is_reported_as_expanded_where_the_file_names_several),
        cmocka_unit_test(test_success_is_reported_as_expanded_where_a_copy_was_kept),
        cmocka_unit_test(test_one_other_gets_the_wish_to_hear_of_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
