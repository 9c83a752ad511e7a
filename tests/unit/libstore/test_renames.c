/* Flags are written into names of files, with coexistence, and whoever does it dies at any of its
 * operations, or they fail: what others do with the flags after that counts. Simulated. */
#include "libstore/fs.h"
#include "libstore/store.h"
#include "tests/crash/simfs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct store *open_store(void)
{
    const struct store_options opt = {.create = true, .coexist = true};
    struct store *s;
    struct error err;
    assert_int_equal(store_open(AT_FDCWD, "mail", &opt, &s, &err), OK);
    return s;
}

static void append(struct store *s)
{
    const struct store_append_options opt = {0};
    struct store_append *a;
    struct store_appended out;
    struct error err;
    assert_int_equal(store_append_begin(s, SLICE_LIT("INBOX"), 0, &a, &err), OK);
    assert_int_equal(store_append_write(a, SLICE_LIT("Subject: x\r\n\r\nText.\r\n"), &err), OK);
    assert_int_equal(store_append_commit(a, &opt, &out, &err), OK);
}

static struct store_mailbox *look(struct store *s)
{
    struct store_mailbox *mb;
    struct error err;
    assert_int_equal(store_select(s, SLICE_LIT("INBOX"), false, &mb, &err), OK);
    return mb;
}

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

/* What is left to be done with names is done by who leaves a mailbox. */
static void come_and_leave(void *arg, int number)
{
    struct store *s;
    struct store_mailbox *mb;
    struct error err;
    const struct store_options opt = {.coexist = true};
    (void)arg, (void)number;
    if (store_open(AT_FDCWD, "mail", &opt, &s, &err))
        return;
    if (store_select(s, SLICE_LIT("INBOX"), false, &mb, &err) == OK)
        store_unselect(mb);
    store_close(s);
}

/* *ended: the other one came to his end. */
static bool change_after(uint64_t operations, const struct sim_options *opt, bool *ended)
{
    sim_init(opt);
    sim_quiet(true);
    struct store *s = open_store();
    append(s);
    store_unselect(look(s));
    struct store_mailbox *mb = look(s);
    flag(mb, STORE_ADD);
    sim_quiet(false);
    sim_start(0, come_and_leave, NULL);
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

/* In a process of its own, for those that die in a history free nothing. */
static void assert_good(bool (*histories)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(histories() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
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
