/* Expire rules, and what becomes of files that were left in tmp/. */
#include "tests/unit/libstore/fixture.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_file_in_tmp_goes_after_36_hours_without_change, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_file_in_tmp_that_only_looks_old_stays, setup_coexist, teardown),
        cmocka_unit_test(test_a_pattern_without_wildcards_is_a_name),
        cmocka_unit_test(test_wildcards_are_those_of_list),
        cmocka_unit_test(test_the_shortest_age_of_all_matching_rules_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
