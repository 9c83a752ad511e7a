/* Recipients behind a list with an owner: as whom they are sent to, and who hears of failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/world.h"

static void run_out(struct world *w)
{
    for (int i = 0; i < 40 && queued(w) > 0; i++)
        pass(w, 60000);
    assert_int_equal(queued(w), 0);
}

static bool has(char list[ASKED_MAX][64], unsigned n, const char *what)
{
    unsigned found = 0;
    for (unsigned i = 0; i < n; i++)
        found += strcmp(list[i], what) == 0;
    return found == 1;
}

static void test_a_list_sends_as_its_owner(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.owners[1] = w.owners[2] = "owner-l@x.test";
    inject(&w, 100, "remote", 3);
    run_out(&w);
    assert_int_equal(w.starts, 2); /* one sender each */
    assert_true(has(w.senders, 2, "s@y.test"));
    assert_true(has(w.senders, 2, "owner-l@x.test"));
    teardown(&w);
}

static void test_each_sender_is_told_of_his_failures(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = FAILED;
    w.owners[1] = "owner-l@x.test";
    w.owners[2] = "owner-m@x.test";
    w.owners[3] = "owner-l@x.test";
    inject(&w, 100, "remote", 4);
    run_out(&w);
    assert_int_equal(w.reports, 3);
    assert_true(has(w.reported, 3, "s@y.test"));
    assert_true(has(w.reported, 3, "owner-l@x.test"));
    assert_true(has(w.reported, 3, "owner-m@x.test"));
    teardown(&w);
}

static void test_mail_without_a_sender_gets_none_from_a_list(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.sender = "";
    w.answer = FAILED;
    w.owners[0] = "owner-l@x.test";
    inject(&w, 100, "remote", 1);
    run_out(&w);
    assert_string_equal(w.senders[0], "");
    assert_int_equal(w.reports, 1);
    assert_string_equal(w.reported[0], ""); /* to the postmaster, and no loop */
    teardown(&w);
}

static void test_the_owner_outlives_a_restart(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = DEFERRED;
    w.owners[0] = "owner-l@x.test";
    inject(&w, 100, "remote", 1);
    pass(&w, 60000); /* is parked */
    close_spool(&w);
    simdisk_process_on(w.sim);
    w.q.loaded = w.q.active = w.q.attempts = 0;
    open_spool(&w);
    w.answer = FAILED;
    run_out(&w);
    assert_string_equal(w.senders[w.starts - 1], "owner-l@x.test");
    assert_string_equal(w.reported[0], "owner-l@x.test");
    teardown(&w);
}

static void forward(struct world *w, const char *owner)
{
    setup(w);
    w->targets[0] = "list@z.test";
    w->only = true;
    w->owner = owner;
    w->notify = NOTIFY_SUCCESS;
}

static void test_what_is_forwarded_to_a_list_is_sent_as_its_owner(void **state)
{
    (void)state;
    struct world w;
    forward(&w, "owner-l@z.test");
    inject(&w, 100, "virtual", 1);
    run_out(&w);
    assert_string_equal(w.senders[1], "owner-l@z.test");
    assert_int_equal(w.notified[ROLE_REMOTE], 0); /* RFC 3461 5.2.7.3 */
    assert_int_equal(w.reports, 1);               /* that the list has it */
    assert_string_equal(w.reported[0], "s@y.test");
    teardown(&w);
}

static void test_what_a_member_forwards_stays_the_lists(void **state)
{
    (void)state;
    struct world w;
    forward(&w, NULL);
    w.notify = 0;
    w.owners[0] = "owner-l@x.test";
    inject(&w, 100, "virtual", 1);
    run_out(&w);
    assert_string_equal(w.senders[0], "owner-l@x.test");
    assert_string_equal(w.senders[1], "owner-l@x.test");
    teardown(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_sends_as_its_owner),
        cmocka_unit_test(test_each_sender_is_told_of_his_failures),
        cmocka_unit_test(test_mail_without_a_sender_gets_none_from_a_list),
        cmocka_unit_test(test_the_owner_outlives_a_restart),
        cmocka_unit_test(test_what_is_forwarded_to_a_list_is_sent_as_its_owner),
        cmocka_unit_test(test_what_a_member_forwards_stays_the_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
