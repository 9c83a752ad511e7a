/* When what has just been accepted is delivered for the first time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/scene.h"

static void test_a_message_alone_is_delivered_at_once(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 3; i++) {
        inject(w, 100 + i, "remote", 1);
        assert_int_equal(w->starts, i + 1);
        pass(w, GATHER_MS);
    }
}

static void test_those_that_follow_one_by_one_go_together_in_their_order(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", 1);
    for (unsigned i = 1; i < 6; i++) {
        pass(w, 1);
        inject(w, 100 + i, "remote", 1);
        assert_int_equal(w->code, 250);
        assert_int_equal(w->starts, 1);
    }
    pass(w, GATHER_MS - 6);
    assert_int_equal(w->starts, 1);
    pass(w, 1);
    assert_int_equal(w->starts, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(w->deliveries[i], 100 + i);
}

static void test_many_wait_for_nobody(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", 1);
    inject(w, 101, "remote", 1);
    assert_int_equal(w->starts, 1);
    for (unsigned i = 0; i < CROWD; i++) /* with one commit */
        offer(w, 102 + i, "remote", 1);
    settle(w);
    assert_int_equal(w->starts, 2 + CROWD);
    for (unsigned i = 0; i < 2 + CROWD; i++)
        assert_int_equal(w->deliveries[i], 100 + i);
    for (unsigned i = 0; i < GATHER_MOST; i++) /* one after the other */
        inject(w, 200 + i, "virtual", 1);
    assert_int_equal(w->starts, 2 + CROWD + GATHER_MOST);
}

static void test_what_an_administrator_does_meanwhile_counts(void **state)
{
    struct scene *s = *state;
    struct world *w = &s->w;
    w->answer = DELIVERED;
    inject(w, 100, "remote", 1);
    inject(w, 200, "remote", 1);
    inject(w, 300, "remote", 1);
    inject(w, 400, "remote", 1);
    act(&s->a, "hold", 200, "");
    settle(w);
    act(&s->a, "delete", 300, "");
    settle(w);
    act(&s->a, "flush", 400, "");
    settle(w);
    assert_int_equal(w->starts, 2);
    assert_int_equal(w->deliveries[1], 400);
    pass(w, GATHER_MS);
    pass(w, 1000);
    assert_int_equal(w->starts, 2);
    assert_int_equal(queued(w), 1);
    act(&s->a, "release", 200, "");
    settle(w);
    pass(w, 1000);
    assert_int_equal(w->starts, 3);
    assert_int_equal(w->deliveries[2], 200);
}

static void test_a_crash_meanwhile_delivers_once(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", 1);
    inject(w, 200, "remote", 1);
    assert_int_equal(w->starts, 1);
    close_spool(w);
    simdisk_process_on(w->sim);
    w->q.loaded = w->q.active = w->q.attempts = 0;
    open_spool(w);
    pass(w, 1000);
    assert_int_equal(w->starts, 2);
    assert_int_equal(w->deliveries[1], 200);
    pass(w, 1000);
    assert_int_equal(queued(w), 0);
}

static void test_when_qmgr_ends_meanwhile_they_stay_in_the_log(void **state)
{
    struct world *w = *state;
    inject(w, 100, "remote", 1);
    inject(w, 200, "remote", 1);
    w->q.draining = true;
    pass(w, GATHER_MS);
    pass(w, 1000);
    assert_int_equal(w->starts, 1);
    assert_int_equal(queued(w), 1);
    assert_false(queue_find(&w->q, 200)->parked);
}

static int begin_scene(void **state)
{
    return begin_sized(state, 65536);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(test_a_message_alone_is_delivered_at_once),
        WORLD(test_those_that_follow_one_by_one_go_together_in_their_order),
        WORLD(test_many_wait_for_nobody),
        cmocka_unit_test_setup_teardown(
            test_what_an_administrator_does_meanwhile_counts, begin_scene, end_scene),
        WORLD(test_a_crash_meanwhile_delivers_once),
        WORLD(test_when_qmgr_ends_meanwhile_they_stay_in_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
