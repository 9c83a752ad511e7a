/* INBOX's index and log move when other programs come to use the Maildir, or no longer do. The
 * process that moves them dies at any of its operations, and the machine stops: they are not lost,
 * whatever that keeps of the names. Simulated. */
#include "libstore/fs.h"
#include "libstore/housekeep.h"
#include "libstore/store.h"
#include "tests/crash/simfs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct store *open_store(bool coexist)
{
    const struct store_options opt = {.create = true, .coexist = coexist};
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

/* Two messages, of which the first was expunged; the index tells of them, not the log; all is
 * on disk. */
static uint32_t begin(bool coexist)
{
    struct uidset uids = {0};
    struct error err;
    bool done;
    struct store *s = open_store(coexist);
    append(s);
    append(s);
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

static void come_as(void *arg, int number)
{
    const struct store_options opt = {.coexist = *(bool *)arg};
    struct store *s;
    struct store_mailbox *mb;
    struct error err;
    (void)number;
    if (store_open(AT_FDCWD, "mail", &opt, &s, &err))
        return;
    if (store_select(s, SLICE_LIT("INBOX"), false, &mb, &err) == OK)
        store_unselect(mb);
    store_close(s);
}

/* *ended: who moved them came to his end. */
static bool stop_after(uint64_t operations, uint64_t seed, bool coexist, bool *ended)
{
    struct store_msg m;
    sim_init(&(struct sim_options){.seed = seed});
    uint32_t validity = begin(!coexist);
    sim_start(0, come_as, &coexist);
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

/* In a process of its own, for those that die in a history free nothing. */
static void stop_anywhere(bool coexist)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        bool good = true;
        for (uint64_t seed = 1; good && seed <= 200; seed++) {
            bool ended = false;
            for (uint64_t n = 1; good && !ended; n++)
                good = stop_after(n, seed, coexist, &ended);
        }
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_index_that_moves_apart_is_not_lost(void **state)
{
    (void)state;
    stop_anywhere(false);
}

static void test_index_that_moves_to_the_messages_is_not_lost(void **state)
{
    (void)state;
    stop_anywhere(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_that_moves_apart_is_not_lost),
        cmocka_unit_test(test_index_that_moves_to_the_messages_is_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
