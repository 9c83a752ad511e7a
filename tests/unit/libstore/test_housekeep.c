/* Expire rules, what becomes of files that were left in tmp/, and mail that was expunged. */
#include "tests/unit/libstore/fixture.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

#include "libstore/deleted.h"
#include "libstore/housekeep.h"

static time_t hours_later;

/* Instead of libc's: a file's ctime cannot be set, but the clock can. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_REALTIME)
        t->tv_sec += hours_later * 3600;
    return rc;
}

static bool matches(const char *pattern, const char *folder)
{
    return store_expire_matches(slice_of(pattern), slice_of(folder));
}

static void test_a_pattern_without_wildcards_is_a_name(void **state)
{
    (void)state;
    assert_true(matches("Trash", "Trash"));
    assert_false(matches("Trash", "trash"));
    assert_false(matches("Trash", "Trash/2020"));
    assert_false(matches("Trash", "Tras"));
    assert_true(matches("inbox", "INBOX"));
}

static void test_wildcards_are_those_of_list(void **state)
{
    (void)state;
    assert_true(matches("*", "a/b/c"));
    assert_true(matches("Old/*", "Old/a/b"));
    assert_false(matches("Old/*", "Old"));
    assert_true(matches("Old/%", "Old/a"));
    assert_false(matches("Old/%", "Old/a/b"));
    assert_true(matches("*/%", "a/b/c"));
    assert_true(matches("%/x", "a/x"));
    assert_false(matches("%/x", "a/b/x"));
}

static void test_the_shortest_age_of_all_matching_rules_counts(void **state)
{
    (void)state;
    const struct store_expire_rule rules[] = {
        {SLICE_LIT("*"), 300}, {SLICE_LIT("Trash"), 30}, {SLICE_LIT("Tra*"), 60}};
    assert_int_equal(store_expire_age(rules, 3, SLICE_LIT("Trash")), 30);
    assert_int_equal(store_expire_age(rules, 3, SLICE_LIT("Travel")), 60);
    assert_int_equal(store_expire_age(rules, 3, SLICE_LIT("Other")), 300);
    assert_int_equal(store_expire_age(rules + 1, 1, SLICE_LIT("Other")), 0);
}

static size_t left_after(struct fixture *f, int hours)
{
    bool done;
    hours_later = hours;
    assert_int_equal(store_compact(f->store, SLICE_LIT("INBOX"), true, &done, &f->err), OK);
    hours_later = 0;
    return files_in(f, "tmp");
}

static void test_a_file_in_tmp_goes_after_36_hours_without_change(void **state)
{
    struct fixture *f = *state;
    write_file(f, "tmp/1.M1.host", MAIL);
    assert_int_equal(left_after(f, 35), 1);
    assert_int_equal(left_after(f, 37), 0);
}

/* Somebody copies it there this moment, and keeps its time. */
static void test_a_file_in_tmp_that_only_looks_old_stays(void **state)
{
    struct fixture *f = *state;
    char path[256];
    write_file(f, "tmp/1.M1.host", MAIL);
    path_of(f, "tmp/1.M1.host", path);
    const struct timespec long_ago[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    assert_int_equal(left_after(f, 0), 1);
    assert_int_equal(left_after(f, 37), 0);
}

static int take_kept(void *arg, const struct deleted *d, struct error *err)
{
    (void)err;
    *(struct deleted *)arg = *d;
    return OK;
}

static void copy_file(struct fixture *f, const char *from, const char *to)
{
    char text[sizeof(MAIL)] = "", path[256];
    path_of(f, from, path);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), (ssize_t)sizeof(text) - 1);
    close(fd);
    write_file(f, to, text);
}

/* A message that was expunged and undeleted, and whose kept file is still there. */
static struct deleted undelete_and_die(struct fixture *f)
{
    struct deleted d = {0};
    struct store_appended out;
    struct uidset all = uids(1, 1);
    char kept[256];
    f->opt.keep_deleted = true;
    reopen(f);
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), OK);
    uidset_clear(&all);
    store_unselect(mb);
    assert_int_equal(store_deleted_each(f->store, take_kept, &d, &f->err), OK);
    snprintf(kept, sizeof(kept), "veredus.deleted/INBOX/%.200s", d.file);
    copy_file(f, kept, "aside");
    assert_int_equal(store_undelete(f->store, &d, &out, &f->err), OK);
    assert_false(out.duplicate);
    copy_file(f, "aside", kept);
    return d;
}

static void test_undelete_that_was_cut_off_behind_the_message_brings_it_once(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    struct deleted d = undelete_and_die(f);
    assert_int_equal(store_undelete(f->store, &d, &out, &f->err), OK);
    assert_true(out.duplicate);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    store_unselect(mb);
    assert_int_equal(files_in(f, "veredus.deleted/INBOX"), 0);
}

/* The power failed before its content was on disk. */
static void test_undelete_that_left_a_file_of_zeros_brings_the_message_again(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    char path[300];
    static const char zeros[sizeof(MAIL) - 1];
    struct deleted d = undelete_and_die(f);
    path_of(f, "cur", path);
    DIR *dir = opendir(path);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            int fd = openat(dirfd(dir), e->d_name, O_WRONLY);
            assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 0), (ssize_t)sizeof(zeros));
            close(fd);
        }
    closedir(dir);
    assert_int_equal(store_undelete(f->store, &d, &out, &f->err), OK);
    assert_false(out.duplicate);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_body(f, mb, out.uid, MAIL);
    store_unselect(mb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_file_in_tmp_goes_after_36_hours_without_change, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_file_in_tmp_that_only_looks_old_stays, setup_coexist, teardown),
        cmocka_unit_test_setup_teardown(
            test_undelete_that_was_cut_off_behind_the_message_brings_it_once, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_undelete_that_left_a_file_of_zeros_brings_the_message_again, setup, teardown),
        cmocka_unit_test(test_a_pattern_without_wildcards_is_a_name),
        cmocka_unit_test(test_wildcards_are_those_of_list),
        cmocka_unit_test(test_the_shortest_age_of_all_matching_rules_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
