/* After a stop of the machine, and on a full disk: numbers do not repeat, a delivery that is
 * repeated puts right what was lost, and nothing half written counts. */
#include <sys/resource.h>
#include <sys/syscall.h>

#include "libstore/format.h"
#include "tests/unit/libstore/damage.h"

/* The machine stopped: the end of the log was lost, messages and all. */
static void test_uids_and_modseqs_do_not_repeat_after_the_machine_stopped(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    store_close(f->store);
    struct saved log = load(f, "veredus.inbox/veredus.log");
    open_store(f);
    uint32_t lost = 0;
    for (int i = 0; i < 5; i++)
        lost = append(f, INBOX, SLICE_LIT(MAIL));
    struct store_status before, after;
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    store_close(f->store);
    save(f, "veredus.inbox/veredus.log", log.data, log.n);
    free(log.data);
    let_the_machine_start(f);
    open_store(f);
    assert_true(append(f, INBOX, SLICE_LIT(MAIL)) > lost);
    assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
    assert_int_equal(after.uidvalidity, before.uidvalidity);
    assert_true(after.highestmodseq > before.highestmodseq);
}

/* What can be left of a message file: nothing, a beginning, or zeros of any length. */
static int spoil(const char *path, int how)
{
    if (how == 0)
        return unlink(path);
    if (how == 1)
        return truncate(path, 5);
    return truncate(path, 0) || truncate(path, how == 2 ? (off_t)strlen(MAIL) : 7);
}

/* The record was kept, the file was not, or not whole: the redo puts it right. */
static void test_redo_repairs_a_file_that_was_lost(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 99};
    struct store_appended out;
    char path[256], full[600];
    for (int round = 0; round < 4; round++) {
        assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
        path_of(f, "cur", path);
        DIR *d = opendir(path);
        for (struct dirent *e; (e = readdir(d));) {
            snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
            if (e->d_name[0] != '.')
                assert_int_equal(spoil(full, round), 0);
        }
        closedir(d);
        assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
        assert_true(out.duplicate);
        assert_int_equal(out.uid, 1);
        struct store_mailbox *mb = select_box(f, INBOX);
        assert_int_equal(store_count(mb), 1);
        assert_body(f, mb, 1, MAIL);
        store_unselect(mb);
    }
}

/* Died between renaming the file and writing the log. */
static void test_redo_after_a_crash_before_the_log_leaves_one_message(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 99};
    struct store_appended out;
    append(f, INBOX, SLICE_LIT("A: 1\r\n\r\nfirst\r\n"));
    store_close(f->store);
    struct saved log = load(f, "veredus.inbox/veredus.log");
    open_store(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    store_close(f->store);
    save(f, "veredus.inbox/veredus.log", log.data, log.n);
    free(log.data);
    open_store(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, 2);
    assert_int_equal(files_in(f, "cur"), 2);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_redo_after_a_rebuild_finds_the_message(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 99};
    struct store_appended out;
    char path[256];
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    store_close(f->store);
    path_of(f, "veredus.inbox/veredus.log", path);
    unlink(path);
    path_of(f, "veredus.inbox/veredus.index", path);
    unlink(path);
    open_store(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    assert_true(out.duplicate);
    assert_int_equal(files_in(f, "cur"), 1);
}

/* No file of this process may grow beyond `limit`. */
static void limit_files(rlim_t limit)
{
    struct rlimit r;
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void test_full_disk_is_no_space_and_leaves_nothing_half_written(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_status before, after;
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    for (rlim_t limit = 1; limit < 2000; limit += 40) {
        struct store_appended out;
        limit_files(limit);
        int rc = append_opt(f, INBOX, SLICE_LIT(MAIL), &(struct store_append_options){0}, &out);
        limit_files(RLIM_INFINITY);
        assert_true(rc == OK || rc == ERR_NO_SPACE);
        assert_int_equal(files_in(f, "tmp"), 0);
        assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
        assert_int_equal(after.messages, before.messages + (rc == OK));
        assert_int_equal(problems(f, INBOX), 0);
        before = after;
    }
    struct store_mailbox *mb = select_box(f, INBOX);
    limit_files(60);
    struct uidset all = uids(1, 100);
    struct store_flags add = {.how = STORE_ADD, .flags = STORE_SEEN};
    assert_int_equal(store_change(mb, &all, &add, NULL, NULL, &f->err), ERR_NO_SPACE);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), ERR_NO_SPACE);
    limit_files(RLIM_INFINITY);
    assert_int_equal(flags_of(mb, 1), 0);
    assert_int_equal(store_change(mb, &all, &add, NULL, NULL, &f->err), OK);
    assert_int_equal(flags_of(mb, 1), STORE_SEEN);
    uidset_clear(&all);
    store_unselect(mb);
}

/* Whether somebody has the mailbox locked when a file in cur/ is removed. */
static struct fixture *watched;
static int locked_removals, free_removals;

int unlinkat(int dir, const char *name, int flags)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[256];
    if (watched && strncmp(name, "cur/", 4) == 0) {
        inbox_path_of(watched, "veredus.log", path);
        int fd = open(path, O_RDWR);
        assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
        lock.l_type == F_UNLCK ? free_removals++ : locked_removals++;
        close(fd);
    }
    return (int)syscall(SYS_unlinkat, dir, name, flags);
}

/* Behind the lock, another attempt may have put the message there. */
static void test_delivery_that_fails_takes_its_file_away_before_others_may_deliver(void **state)
{
    struct fixture *f = *state;
    const struct store_append_options how = {.delivery = 7};
    struct store_appended out;
    watched = f;
    limit_files(10);
    int rc = append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out);
    limit_files(RLIM_INFINITY);
    watched = NULL;
    assert_int_equal(rc, ERR_NO_SPACE);
    assert_int_equal(files_in(f, "cur"), 0);
    assert_int_equal(free_removals, 0);
    assert_int_equal(locked_removals, 1);
}

static void test_new_mail_can_be_read_on_a_full_disk(void **state)
{
    struct fixture *f = *state;
    struct store_changes ch;
    append(f, INBOX, SLICE_LIT(MAIL));
    limit_files(60);
    struct store_mailbox *mb = NULL;
    int rc = store_select(f->store, INBOX, false, &mb, &f->err);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, OK);
    assert_int_equal(store_count(mb), 1);
    append(f, INBOX, SLICE_LIT(MAIL));
    limit_files(60);
    rc = store_refresh(mb, true, &ch, &f->err);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, OK);
    assert_int_equal(store_count(mb), 2);
    store_unselect(mb);
}

/* As when it was expunged and is being delivered once more. */
static void test_a_file_that_has_not_all_its_content_is_not_copied(void **state)
{
    struct fixture *f = *state;
    struct store_copied out;
    struct uidset one = uids(1, 1);
    char path[256];
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_create(f->store, SLICE_LIT("Box"), &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    path_of(f, "cur", path);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            assert_int_equal(close(openat(dirfd(d), e->d_name, O_WRONLY | O_TRUNC)), 0);
    closedir(d);
    assert_int_equal(store_copy(mb, &one, SLICE_LIT("Box"), &out, &f->err), ERR_NOT_FOUND);
    assert_int_equal(files_in(f, ".Box/cur"), 0);
    uidset_clear(&one);
    store_unselect(mb);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_uids_and_modseqs_do_not_repeat_after_the_machine_stopped),
        TEST(test_redo_repairs_a_file_that_was_lost),
        TEST(test_redo_after_a_crash_before_the_log_leaves_one_message),
        TEST(test_redo_after_a_rebuild_finds_the_message),
        TEST(test_full_disk_is_no_space_and_leaves_nothing_half_written),
        TEST(test_delivery_that_fails_takes_its_file_away_before_others_may_deliver),
        TEST(test_new_mail_can_be_read_on_a_full_disk),
        TEST(test_a_file_that_has_not_all_its_content_is_not_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
