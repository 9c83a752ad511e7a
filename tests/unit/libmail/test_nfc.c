#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "libmail/nfc.h"

static void test_ascii_stays_as_it_is(void **state)
{
    (void)state;
    char out[32];
    assert_int_equal(nfc_text(SLICE_LIT("Alice+x@example.test"), out, sizeof(out)), OK);
    assert_string_equal(out, "Alice+x@example.test");
}

static void test_combining_characters_are_put_together(void **state)
{
    (void)state;
    char out[32];
    assert_int_equal(nfc_text(SLICE_LIT("u\xcc\x88nser"), out, sizeof(out)), OK);
    assert_string_equal(out, "\xc3\xbcnser");
    assert_int_equal(nfc_text(SLICE_LIT("\xc3\xbcnser"), out, sizeof(out)), OK);
    assert_string_equal(out, "\xc3\xbcnser");
}

static void test_what_is_not_utf8_is_refused(void **state)
{
    (void)state;
    char out[32];
    assert_int_equal(nfc_text(SLICE_LIT("\xfcnser"), out, sizeof(out)), ERR_SYNTAX);
    assert_int_equal(nfc_text(SLICE_LIT("\xc3"), out, sizeof(out)), ERR_SYNTAX);
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char out[4];
    assert_int_equal(nfc_text(SLICE_LIT("abc"), out, sizeof(out)), OK);
    assert_int_equal(nfc_text(SLICE_LIT("abcd"), out, sizeof(out)), ERR_LIMIT);
    /* U+0958 becomes longer */
    assert_int_equal(nfc_text(SLICE_LIT("\xe0\xa5\x98"), out, sizeof(out)), ERR_LIMIT);
}

static void test_the_local_part_of_an_address_alone_is_changed(void **state)
{
    (void)state;
    struct address a;
    assert_int_equal(address_parse(&a, SLICE_LIT("\"u\xcc\x88 x\"@ex.test"), ADDRESS_UTF8), OK);
    assert_int_equal(nfc_address(&a), OK);
    assert_true(slice_is(address_text(&a), "\"\xc3\xbc x\"@ex.test"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ascii_stays_as_it_is),
        cmocka_unit_test(test_combining_characters_are_put_together),
        cmocka_unit_test(test_what_is_not_utf8_is_refused),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_the_local_part_of_an_address_alone_is_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
