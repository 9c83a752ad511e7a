/* Flags are written into names of files, with coexistence, and whoever does it dies at any of its
 * operations, or they fail: what others do with the flags after that counts. Simulated. */
#include "tests/unit/libstore/simulated.h"

static void flag(struct store_mailbox *mb, enum store_how how)
{
    const struct store_flags change = {.how = how, .flags = STORE_FLAGGED};
    struct uidset uids = {0};
    struct error err;
    uidset_add(&uids, 1);
    assert_int_equal(store_change(mb, &uids, &change, NULL, NULL, &err), OK);
    uidset_clear(&uids);
}

static bool is_flagged(struct store_mailbox *mb)
{
    struct store_changes changes;
    struct store_msg m;
    struct error err;
    assert_int_equal(store_refresh(mb, true, &changes, &err), OK);
    assert_true(store_get(mb, 1, &m));
    return m.flags & STORE_FLAGGED;
}

/* What is left to be done with names is done by who leaves a mailbox. *ended: he came to his end.
 */
static bool change_after(uint64_t operations, const struct sim_options *opt, bool *ended)
{
    bool coexist = true;
    sim_init(opt);
    sim_quiet(true);
    struct store *s = open_store(coexist);
    append_any(s);
    store_unselect(look(s));
    struct store_mailbox *mb = look(s);
    flag(mb, STORE_ADD);
    sim_quiet(false);
    sim_start(0, come_and_leave, &coexist);
    *ended = sim_run(operations);
    sim_kill(0);
    sim_quiet(true);
    flag(mb, STORE_REMOVE);
    bool good = !is_flagged(mb);
    flag(mb, STORE_ADD);
    good &= is_flagged(mb);
    store_unselect(mb);
    store_close(s);
    sim_free();
    return good;
}

static bool writer_dies(void)
{
    const struct sim_options opt = {.seed = 1};
    bool ended = false, good = true;
    for (uint64_t n = 1; good && !ended; n++)
        good = change_after(n, &opt, &ended);
    return good;
}

static bool operations_fail(void)
{
    bool ended, good = true;
    for (uint64_t seed = 1; good && seed <= 500; seed++)
        good = change_after(0, &(struct sim_options){.seed = seed, .fault_one_in = 10}, &ended);
    return good;
}

static void test_flag_removed_after_its_writer_died_stays_removed(void **state)
{
    (void)state;
    assert_good(writer_dies);
}

static void test_flag_removed_after_names_failed_stays_removed(void **state)
{
    (void)state;
    assert_good(operations_fail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flag_removed_after_its_writer_died_stays_removed),
        cmocka_unit_test(test_flag_removed_after_names_failed_stays_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
