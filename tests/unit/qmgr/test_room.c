/* What qmgr does while the log has little room, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/world.h"

enum {
    SEGMENT = 16384,
    WHOLE = 3 * SEGMENT, /* of four segments */
    MANY = 250           /* more than the log holds */
};

static const struct spool_figures *figures(const struct world *w)
{
    return committer_figures(w->q.committer);
}

static unsigned parked(const struct world *w)
{
    unsigned n = 0;
    for (const struct list *it = w->q.all.next; it != &w->q.all; it = it->next)
        n += CONTAINER_OF(it, struct message, all)->parked;
    return n;
}

/* Each with a commit of its own, to an agent that does not answer. */
static void inject_silent(struct world *w, uint64_t first, unsigned n)
{
    w->silent = true;
    for (unsigned i = 0; i < n; i++)
        inject(w, first + i, "remote", 1);
}

static void test_a_burst_that_the_log_cannot_hold_waits_and_is_taken(void **state)
{
    struct world *w = *state;
    w->silent = true;
    for (unsigned i = 0; i < MANY; i++)
        offer(w, 100 + i, "remote", 1);
    for (unsigned i = 0; i < 20; i++)
        pass(w, 20);
    assert_int_equal(w->taken, MANY);
    assert_int_equal(queued(w), MANY);
    assert_true(parked(w) > 0);
    assert_true(figures(w)->room > 0);
}

static void test_while_there_is_room_nothing_is_parked(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; figures(w)->room >= WHOLE / 8 * 3 + 1024; i++)
        inject_silent(w, 100 + i, 1);
    assert_int_equal(parked(w), 0);
    assert_int_equal(figures(w)->free_segments, 2);
}

static void test_the_oldest_leave_the_log_first(void **state)
{
    struct world *w = *state;
    uint64_t last = 100;
    for (; parked(w) == 0; last++)
        inject_silent(w, last, 1);
    pass(w, SPOOL_LAZY_MS);
    assert_true(figures(w)->room >= WHOLE / 4);
    assert_true(queue_find(&w->q, 100)->parked);
    assert_false(queue_find(&w->q, last - 1)->parked);
    assert_int_equal(w->taken, last - 100);
}

static void test_after_a_start_the_oldest_are_still_known(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 26; i++) /* of these only the first is under way, and done */
        inject(w, 99 + i, "remote", 1);
    assert_int_equal(w->starts, 1);
    assert_int_equal(parked(w), 0);
    assert_true(figures(w)->oldest < queue_find(&w->q, 124)->generation);
    close_spool(w);
    simdisk_process_on(w->sim);
    w->q.loaded = w->q.active = w->q.attempts = 0;
    w->silent = true;
    open_spool(w);
    settle(w);
    inject_silent(w, 200, 150);
    assert_int_equal(w->taken, 176);
    for (uint64_t qid = 100; qid < 125; qid++)
        assert_true(queue_find(&w->q, qid)->parked);
    assert_false(queue_find(&w->q, 349)->parked);
}

static void test_with_half_of_it_gone_nobody_waits_for_a_sync(void **state)
{
    struct world *w = *state;
    uint64_t qid = 100;
    while (figures(w)->room >= WHOLE / 2) {
        assert_int_equal(w->syncs, 0);
        for (unsigned i = 0; i < CROWD; i++)
            offer(w, qid++, "virtual", 1);
        settle(w);
    }
    for (unsigned i = 0; i < CROWD; i++) /* the clock stands still */
        offer(w, qid++, "virtual", 1);
    settle(w);
    assert_true(w->syncs > 0);
    pass(w, SPOOL_LAZY_MS);
    pass(w, SPOOL_LAZY_MS);
    assert_true(queued(w) <= CROWD); /* with room again, the last ones wait for others */
    assert_true(figures(w)->room > WHOLE / 2);
}

static int open_none(struct disk *disk, const char *path, enum disk_open how)
{
    bool refused = how == DISK_CREATE && strncmp(path, "parked/", 7) == 0;
    return refused ? -28 /* ENOSPC */ : simdisk_ops()->open(disk, path, how);
}

static void test_while_nothing_can_leave_new_mail_is_refused_at_once(void **state)
{
    struct world *w = *state;
    struct disk_ops full = *simdisk_ops();
    full.open = open_none;
    w->q.disk->ops = &full;
    unsigned sent = 0;
    for (w->code = 250; w->code == 250 && sent < MANY; sent++) {
        w->code = 0;
        inject_silent(w, 100 + sent, 1);
        pass(w, 20);
    }
    assert_int_equal(w->code, 452);
    assert_int_equal(w->taken, sent - 1);
    assert_int_equal(queued(w), sent - 1);
    assert_int_equal(parked(w), 0);
    w->q.disk->ops = simdisk_ops();
    pass(w, DISK_RETRY_MS);
    inject_silent(w, 500, 20);
    pass(w, 20);
    assert_int_equal(w->taken, sent - 1 + 20);
    assert_true(parked(w) > 0);
}

static void setup_small(struct world *w)
{
    setup_sized(w, SEGMENT);
}

static int begin_small(void **state)
{
    return begin_with(state, setup_small);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, begin_small, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(test_a_burst_that_the_log_cannot_hold_waits_and_is_taken),
        WORLD(test_while_there_is_room_nothing_is_parked),
        WORLD(test_the_oldest_leave_the_log_first),
        WORLD(test_after_a_start_the_oldest_are_still_known),
        WORLD(test_with_half_of_it_gone_nobody_waits_for_a_sync),
        WORLD(test_while_nothing_can_leave_new_mail_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
