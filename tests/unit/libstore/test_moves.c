/* INBOX's index and log move when other programs come to use the Maildir, or no longer do. The
 * process that moves them dies at any of its operations, and the machine stops: they are not lost,
 * whatever that keeps of the names. Simulated. */
#include "libstore/housekeep.h"
#include "tests/unit/libstore/simulated.h"

/* Two messages, of which the first was expunged; the index tells of them, not the log; all is
 * on disk. */
static uint32_t begin(bool coexist)
{
    struct uidset uids = {0};
    struct error err;
    bool done;
    struct store *s = open_store(coexist);
    append_any(s);
    append_any(s);
    struct store_mailbox *mb = look(s);
    uint32_t validity = store_uidvalidity(mb);
    uidset_add(&uids, 1);
    assert_int_equal(store_expunge(mb, &uids, false, NULL, &err), OK);
    uidset_clear(&uids);
    store_unselect(mb);
    assert_int_equal(store_compact(s, SLICE_LIT("INBOX"), true, &done, &err), OK);
    assert_int_equal(store_sync(store_dirfd(s), &err), OK);
    store_close(s);
    return validity;
}

/* *ended: who moved them came to his end. */
static bool stop_after(uint64_t operations, uint64_t seed, bool coexist, bool *ended)
{
    struct store_msg m;
    sim_init(&(struct sim_options){.seed = seed});
    uint32_t validity = begin(!coexist);
    sim_start(0, come_and_leave, &coexist);
    *ended = sim_run(operations);
    sim_power_cut();
    struct store *s = open_store(coexist);
    struct store_mailbox *mb = look(s);
    bool good = store_uidvalidity(mb) == validity && store_count(mb) == 1 && store_get(mb, 1, &m) &&
                m.uid == 2;
    store_unselect(mb);
    store_close(s);
    sim_free();
    return good;
}

static bool stop_anywhere(bool coexist)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        bool ended = false;
        for (uint64_t n = 1; !ended; n++)
            if (!stop_after(n, seed, coexist, &ended))
                return false;
    }
    return true;
}

static bool stop_moving_apart(void)
{
    return stop_anywhere(false);
}

static bool stop_moving_together(void)
{
    return stop_anywhere(true);
}

static void test_index_that_moves_apart_is_not_lost(void **state)
{
    (void)state;
    assert_good(stop_moving_apart);
}

static void test_index_that_moves_to_the_messages_is_not_lost(void **state)
{
    (void)state;
    assert_good(stop_moving_together);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_that_moves_apart_is_not_lost),
        cmocka_unit_test(test_index_that_moves_to_the_messages_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
