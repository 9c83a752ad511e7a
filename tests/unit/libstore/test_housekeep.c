/* Expire rules, and what they do to a folder. */
#include "tests/unit/libstore/fixture.h"

#include "libstore/housekeep.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pattern_without_wildcards_is_a_name),
        cmocka_unit_test(test_wildcards_are_those_of_list),
        cmocka_unit_test(test_the_shortest_age_of_all_matching_rules_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
