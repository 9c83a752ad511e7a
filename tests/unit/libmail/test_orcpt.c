/* Addresses of type utf-8 in ORCPT (RFC 6533 §3), and internationalised domains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libmail/date.h"
#include "libmail/idn.h"
#include "libmail/orcpt.h"

static void assert_decoded(const char *in, const char *out)
{
    struct buf b;
    buf_init(&b, 1024);
    assert_int_equal(orcpt_utf8_decode(slice_of(in), &b), out ? OK : ERR_SYNTAX);
    if (out)
        assert_true(slice_is(buf_slice(&b), out));
    buf_clear(&b);
}

static void test_embedded_characters_are_resolved(void **state)
{
    (void)state;
    assert_decoded("j\\x{F6}rg@x", "j\xc3\xb6rg@x");
    assert_decoded("j\xc3\xb6rg@x", "j\xc3\xb6rg@x");
    assert_decoded("a\\x{2B}b\\x{1F600}+2Bc", "a+b\xf0\x9f\x98\x80+c");
}

static void test_what_is_no_address_of_type_utf8_is_refused(void **state)
{
    (void)state;
    assert_decoded("\\x{D800}", NULL);
    assert_decoded("\\x{110000}", NULL);
    assert_decoded("\\x{}", NULL);
    assert_decoded("\\x{41", NULL);
    assert_decoded("\\x{0A}", NULL);
    assert_decoded("a\\b", NULL);
    assert_decoded("a+2", NULL);
    assert_decoded("a=b", NULL);
    assert_decoded("\xc3", NULL);
}

static void assert_encoded(const char *in, bool raw, const char *out)
{
    struct buf b;
    buf_init(&b, 1024);
    assert_int_equal(orcpt_utf8_encode(slice_of(in), raw, &b), OK);
    assert_true(slice_is(buf_slice(&b), out));
    buf_clear(&b);
}

static void test_encoding_keeps_to_what_the_channel_bears(void **state)
{
    (void)state;
    assert_encoded("j\xc3\xb6rg@x", true, "j\xc3\xb6rg@x");
    assert_encoded("j\xc3\xb6rg@x", false, "j\\x{F6}rg@x");
    assert_encoded("a+b \\", true, "a\\x{2B}b\\x{20}\\x{5C}");
}

static void test_domains_become_a_labels(void **state)
{
    (void)state;
    struct address a;
    assert_int_equal(address_parse(&a,
                         SLICE_LIT("\xc3\xa4@B\xc3\x9c"
                                   "CHER.test"),
                         ADDRESS_UTF8),
        OK);
    assert_int_equal(idn_address(&a), OK);
    assert_string_equal(a.text, "\xc3\xa4@xn--bcher-kva.test");
    assert_true(a.utf8);
    /* u with a combining diaeresis is the same name (NFC) */
    assert_int_equal(address_parse(&a,
                         SLICE_LIT("a@bu\xcc\x88"
                                   "cher.test"),
                         ADDRESS_UTF8),
        OK);
    assert_int_equal(idn_address(&a), OK);
    assert_string_equal(a.text, "a@xn--bcher-kva.test");
    assert_false(a.utf8);
    assert_int_equal(address_parse(&a, SLICE_LIT("a@\xe2\x80\x8e.test"), ADDRESS_UTF8), OK);
    assert_int_equal(idn_address(&a), ERR_SYNTAX);
}

static void test_rfc3339_dates(void **state)
{
    (void)state;
    time_t t;
    char text[DATE_TEXT];
    assert_int_equal(date_parse_rfc3339(SLICE_LIT("2026-11-21T06:00:00+01:00"), &t), OK);
    date_print_rfc3339(t, text);
    assert_string_equal(text, "2026-11-21T05:00:00Z");
    assert_int_equal(date_parse_rfc3339(SLICE_LIT("2026-11-21t05:00:00.25z"), &t), OK);
    static const char *const bad[] = {"2026-11-21", "2026-11-21 05:00:00Z", "2026-13-21T05:00:00Z",
        "2026-11-21T05:00:00", "2026-11-21T05:00:00.Z", "2026-11-21T05:00:00+0100", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(date_parse_rfc3339(slice_of(bad[i]), &t), ERR_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedded_characters_are_resolved),
        cmocka_unit_test(test_what_is_no_address_of_type_utf8_is_refused),
        cmocka_unit_test(test_encoding_keeps_to_what_the_channel_bears),
        cmocka_unit_test(test_domains_become_a_labels),
        cmocka_unit_test(test_rfc3339_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
