#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libmail/report_texts.h"
#include "libutil/table.h"

static bool good(const char *key, const char *value)
{
    struct error err;
    return report_text_check(slice_of(key), slice_of(value), &err) == OK;
}

static void test_the_file_that_we_ship_has_our_words(void **state)
{
    (void)state;
    struct error err;
    struct table *t = table_open(SLICE_LIT("text:etc/report-texts"), &err);
    assert_non_null(t);
    for (unsigned kind = 0; kind < 3; kind++)
        for (int part = REPORT_TEXT_SUBJECT; part <= REPORT_TEXT_TEXT; part++) {
            struct buf key, value, text;
            buf_init(&key, 100);
            buf_init(&value, REPORT_TEXT_MAX);
            buf_init(&text, REPORT_TEXT_MAX);
            assert_true(report_text_key(kind, (enum report_text)part, SLICE_LIT(""), &key));
            assert_int_equal(table_get(t, buf_slice(&key), &value, &err), OK);
            report_text_expand(buf_slice(&value), &text);
            assert_true(
                slice_eq(buf_slice(&text), report_text_default(kind, (enum report_text)part)));
            buf_clear(&key);
            buf_clear(&value);
            buf_clear(&text);
        }
    table_close(t);
}

static int check_pair(struct slice key, struct slice value, void *arg)
{
    struct error err;
    ++*(unsigned *)arg;
    assert_int_equal(report_text_check(key, value, &err), OK);
    return 0;
}

static void test_the_file_that_we_ship_is_without_mistakes(void **state)
{
    (void)state;
    struct error err;
    unsigned n = 0;
    struct table *t = table_open(SLICE_LIT("text:etc/report-texts"), &err);
    assert_non_null(t);
    assert_int_equal(table_each(t, check_pair, &n, &err), OK);
    assert_int_equal(n, 12);
    table_close(t);
}

static void test_keys_name_kind_part_and_perhaps_a_language(void **state)
{
    (void)state;
    assert_true(good("failure-text", "x"));
    assert_true(good("delay-subject.de", "x"));
    assert_true(good("success-text.pt-BR", "x"));
    assert_false(good("failure", "x"));
    assert_false(good("failure-body", "x"));
    assert_false(good("failure-text.", "x"));
    assert_false(good("failure-text.../x", "x"));
}

static void test_only_known_placeholders_may_be_in_braces(void **state)
{
    (void)state;
    assert_true(good("failure-text", "{hostname} {queue-id} {sender} {count} {arrived} {until}"));
    assert_false(good("failure-text", "{nonsense}"));
    assert_false(good("failure-text", "{hostname"));
    assert_false(good("failure-text", "hostname}"));
    assert_false(good("failure-text", "{{hostname}}"));
}

static void test_a_subject_is_one_short_line(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'x', sizeof(text));
    text[200] = '\0';
    assert_true(good("failure-subject", text));
    text[200] = 'x', text[201] = '\0';
    assert_false(good("failure-subject", text));
    assert_true(good("failure-text", text));
    assert_false(good("failure-subject", "a\\nb"));
    assert_false(good("failure-subject", "a\x01"));
    assert_false(good("failure-text", "latin-1 \xe9"));
    assert_false(good("failure-text", "\\x"));
    assert_false(good("failure-text", "at the end \\"));
}

static void test_blanks_behind_a_line_end_are_dropped(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 100);
    report_text_expand(SLICE_LIT("a\\n   b\\\\n c\\n\\n d"), &out);
    assert_true(slice_is(buf_slice(&out), "a\nb\\n c\n\nd"));
    buf_clear(&out);
}

static void test_languages_are_taken_one_by_one_without_weights(void **state)
{
    (void)state;
    struct slice list = SLICE_LIT(" de-AT, en;q=0.5 ,*, ../x, fr"), one;
    assert_true(report_text_language(&list, &one) && slice_is(one, "de-AT"));
    assert_true(report_text_language(&list, &one) && slice_is(one, "en"));
    assert_true(report_text_language(&list, &one) && slice_is(one, "fr"));
    assert_false(report_text_language(&list, &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_file_that_we_ship_has_our_words),
        cmocka_unit_test(test_the_file_that_we_ship_is_without_mistakes),
        cmocka_unit_test(test_keys_name_kind_part_and_perhaps_a_language),
        cmocka_unit_test(test_only_known_placeholders_may_be_in_braces),
        cmocka_unit_test(test_a_subject_is_one_short_line),
        cmocka_unit_test(test_blanks_behind_a_line_end_are_dropped),
        cmocka_unit_test(test_languages_are_taken_one_by_one_without_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
