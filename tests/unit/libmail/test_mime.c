#include "libmail/charset.h"
#include "libmail/encoding.h"
#include "libmail/mime.h"
#include "libutil/error.h"

#include <setjmp.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 32 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

#define assert_slice(s, text) assert_string_equal(show(s), text)

static const char *show(struct slice s)
{
    return s.p ? arena_cstr(&arena, s) : "(none)";
}

static const char *decoded(struct slice text)
{
    struct buf b;
    buf_init(&b, 100000);
    rfc2047_decode(text, &b);
    const char *s = show(buf_slice(&b));
    buf_clear(&b);
    return s;
}

static const char *unencoded(const char *how, const char *text)
{
    struct buf b;
    buf_init(&b, 100000);
    encoding_decode(encoding_of(slice_of(how)), slice_of(text), &b);
    const char *s = show(buf_slice(&b));
    buf_clear(&b);
    return s;
}

/* RFC 2046 §5.1.1: a preamble, two parts of which one has no header, an epilogue. */
static const char simple[] = "From: a@b\r\n"
                             "Content-type: multipart/mixed; boundary=\"simple boundary\"\r\n"
                             "\r\n"
                             "This is the preamble.\r\n"
                             "--simple boundary\r\n"
                             "\r\n"
                             "Implicitly typed.\r\n"
                             "It does NOT end with a linebreak.\r\n"
                             "--simple boundary \t\r\n"
                             "Content-type: text/html; charset=us-ascii\r\n"
                             "\r\n"
                             "Explicit, ends with one.\r\n"
                             "\r\n"
                             "--simple boundary--\r\n"
                             "The epilogue.\r\n";

static void test_parts_of_a_multipart(void **state)
{
    (void)state;
    struct slice m = slice_of(simple);
    struct mime_part *root = mime_parse(m, &arena), *a, *b;
    assert_int_equal(root->kind, MIME_MULTIPART);
    a = mime_child(root, 1);
    b = mime_child(root, 2);
    assert_null(mime_child(root, 3));
    assert_null(mime_child(root, 0));
    assert_slice(mime_body(m, a), "Implicitly typed.\r\nIt does NOT end with a linebreak.");
    assert_slice(a->subtype, "PLAIN");
    assert_int_equal(a->header_size, 2);
    assert_int_equal(a->lines, 1);
    assert_slice(b->subtype, "html");
    assert_slice(mime_body(m, b), "Explicit, ends with one.\r\n");
    assert_int_equal(b->body_size, 26);
    assert_int_equal(root->end, m.n);
}

static void test_lf_messages_are_counted_with_crlf(void **state)
{
    (void)state;
    struct buf lf;
    buf_init(&lf, 10000);
    for (const char *p = simple; *p; p++)
        if (*p != '\r')
            buf_putc(&lf, *p);
    struct mime_part *crlf = mime_parse(slice_of(simple), &arena);
    struct mime_part *bare = mime_parse(buf_slice(&lf), &arena);
    assert_int_equal(bare->header_size, crlf->header_size);
    assert_int_equal(bare->body_size, crlf->body_size);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(mime_child(bare, i)->body_size, mime_child(crlf, i)->body_size);
        assert_int_equal(mime_child(bare, i)->header_size, mime_child(crlf, i)->header_size);
        assert_int_equal(mime_child(bare, i)->lines, mime_child(crlf, i)->lines);
    }
    assert_int_equal(mime_crlf_size(buf_slice(&lf)), strlen(simple));
    struct buf back;
    buf_init(&back, 10000);
    assert_int_equal(mime_put_crlf(&back, buf_slice(&lf)), OK);
    assert_true(slice_is(buf_slice(&back), simple));
    buf_clear(&back);
    buf_clear(&lf);
}

static void test_an_outer_delimiter_ends_inner_parts(void **state)
{
    (void)state;
    struct slice m = SLICE_LIT("Content-Type: multipart/mixed; boundary=o\n\n--o\n"
                               "Content-Type: multipart/alternative; boundary=i\n\n--i\n\none\n"
                               "--o\n\ntwo\n--o--\n");
    struct mime_part *root = mime_parse(m, &arena);
    struct mime_part *inner = mime_child(root, 1);
    assert_int_equal(inner->kind, MIME_MULTIPART);
    assert_slice(mime_body(m, mime_child(inner, 1)), "one");
    assert_null(mime_child(inner, 2));
    assert_slice(mime_body(m, mime_child(root, 2)), "two");
}

static void test_a_delimiter_in_a_header_ends_the_part(void **state)
{
    (void)state;
    struct slice m = SLICE_LIT("Content-Type: multipart/mixed; boundary=o\n\n--o\n"
                               "Subject: none\n--o\n\ntwo\n--o--\n");
    struct mime_part *root = mime_parse(m, &arena);
    assert_int_equal(mime_child(root, 1)->body_size, 0);
    assert_slice(mime_header(m, mime_child(root, 1)), "Subject: none\n");
    assert_slice(mime_body(m, mime_child(root, 2)), "two");
}

static void test_a_boundary_that_prefixes_another_is_not_confused(void **state)
{
    (void)state;
    struct slice m = SLICE_LIT("Content-Type: multipart/mixed; boundary=ab\n\n--ab\n"
                               "Content-Type: multipart/mixed; boundary=abc--\n\n--abc--\n\nx\n"
                               "--abc----\n--abd\n--ab--\n");
    struct mime_part *root = mime_parse(m, &arena), *inner = mime_child(root, 1);
    assert_slice(mime_body(m, mime_child(inner, 1)), "x");
    assert_null(mime_child(inner, 2));
    assert_null(mime_child(root, 2));
}

static void test_messages_within(void **state)
{
    (void)state;
    struct slice m = SLICE_LIT("Content-Type: multipart/digest; boundary=d\n\n--d\n\n"
                               "Subject: first\n\nbody 1\n--d\n"
                               "Content-Type: message/rfc822\n\nSubject: second\n"
                               "Content-Type: text/html\n\nbody 2\n--d--\n");
    struct mime_part *root = mime_parse(m, &arena);
    for (unsigned i = 1; i <= 2; i++) {
        struct mime_part *p = mime_child(root, i);
        assert_int_equal(p->kind, MIME_MESSAGE);
        assert_slice(mime_body(m, p->first), i == 1 ? "body 1" : "body 2");
        assert_int_equal(p->end, p->first->end);
    }
    assert_slice(mime_child(root, 2)->first->subtype, "html");
}

static void test_unusable_types_are_text_plain(void **state)
{
    (void)state;
    static const char *const bad[] = {"Content-Type: foo\n\nx", "Content-Type: /\n\nx",
        "Content-Type: multipart/mixed\n\n--\n\nx", "Content-Type: multipart/x; boundary=\n\nx",
        "Content-Type: a b/c\n\nx", "", "\n", "x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct mime_part *p = mime_parse(slice_of(bad[i]), &arena);
        assert_int_equal(p->kind, MIME_LEAF);
        assert_true(slice_iis(p->type, "text") && slice_iis(p->subtype, "plain"));
    }
}

static void test_parameters(void **state)
{
    (void)state;
    struct slice word;
    struct mime_param *p = mime_params_parse(
        SLICE_LIT(" text/plain (a (nested) \\) comment) ;\r\n charset=us-ascii (plain; text) ;"
                  " x = \"a \\\"q\\\";b\";bad;=;; Y=1;"),
        &word, &arena);
    assert_slice(word, "text/plain");
    assert_slice(mime_param(p, "charset", &arena), "us-ascii");
    assert_slice(mime_param(p, "X", &arena), "a \"q\";b");
    assert_slice(mime_param(p, "y", &arena), "1");
    assert_null(mime_param(p, "z", &arena).p);
}

static void test_parameters_of_rfc_2231(void **state)
{
    (void)state;
    struct slice word;
    struct mime_param *p = mime_params_parse(
        SLICE_LIT("message/external-body; access-type=URL; URL*1=\"cs.utk.edu/pub/moore\";"
                  " URL*0=\"ftp://\"; title*0*=us-ascii'en'This%20is%20even%20more%20;"
                  " title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\";"
                  " name*=iso-8859-1''%E9t%E9; name=plain; broken*5=x"),
        &word, &arena);
    assert_slice(mime_param(p, "url", &arena), "ftp://cs.utk.edu/pub/moore");
    assert_slice(mime_param(p, "title", &arena), "This is even more ***fun*** isn't it!");
    assert_slice(mime_param(p, "name", &arena), "\xc3\xa9t\xc3\xa9");
    assert_null(mime_param(p, "broken", &arena).p);
}

static void test_hostile_messages_cost_no_more_than_their_size(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 64 << 20);
    buf_puts(&b, "Content-Type: multipart/mixed; boundary=b\n\n");
    for (int i = 0; i < 10000; i++)
        buf_puts(&b, "--b\n\nx\n");
    struct mime_part *root = mime_parse(buf_slice(&b), &arena);
    unsigned parts = 0;
    for (struct mime_part *p = root->first; p; p = p->next)
        parts++;
    assert_int_equal(parts, MIME_MAX_PARTS - 1);
    assert_int_equal(root->end, buf_len(&b));

    buf_reset(&b);
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i);
    clock_t begin = clock();
    for (int i = 0; i < 4000000; i++)
        buf_puts(&b, "--\n");
    root = mime_parse(buf_slice(&b), &arena);
    assert_true((clock() - begin) / CLOCKS_PER_SEC < 10);
    unsigned depth = 0;
    for (struct mime_part *p = root; p; p = p->first)
        depth++;
    assert_int_equal(depth, MIME_MAX_DEPTH + 1);
    buf_clear(&b);
}

static void test_a_small_arena_is_an_answer(void **state)
{
    (void)state;
    struct arena small;
    arena_init(&small, 100);
    assert_null(mime_parse(slice_of(simple), &small));
    arena_reset(&small);
}

static void test_encoded_words(void **state)
{
    (void)state;
    /* RFC 2047 §8 */
    assert_string_equal(decoded(SLICE_LIT("(=?ISO-8859-1?Q?a?=)")), "(a)");
    assert_string_equal(decoded(SLICE_LIT("=?ISO-8859-1?Q?a?= b")), "a b");
    assert_string_equal(decoded(SLICE_LIT("=?ISO-8859-1?Q?a?= \r\n =?ISO-8859-1?Q?b?=")), "ab");
    assert_string_equal(decoded(SLICE_LIT("=?ISO-8859-1?Q?a_b?=")), "a b");
    assert_string_equal(decoded(SLICE_LIT("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=")), "a b");
    assert_string_equal(decoded(SLICE_LIT("=?utf-8*en?B?w6k=?= x")), "\xc3\xa9 x");
    assert_string_equal(decoded(SLICE_LIT("=?KOI8-R?B?8NLJ18XU?=")),
        "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82");
    /* A character split between words */
    assert_string_equal(decoded(SLICE_LIT("=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=")), "\xc3\xa9");
}

static void test_malformed_words_stay(void **state)
{
    (void)state;
    static const char *const same[] = {"=?", "=?utf-8?", "=?utf-8?Q?", "=?utf-8?Q?a",
        "=?utf-8?X?a?=", "=??Q?a?=", "a=?b", "=?utf-8?Q?a?"};
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        assert_string_equal(decoded(slice_of(same[i])), same[i]);
    assert_string_equal(decoded(SLICE_LIT("folded\r\n line")), "folded line");
    assert_string_equal(decoded(SLICE_LIT("bad \xff byte")), "bad \xef\xbf\xbd byte");
}

static void test_transfer_encodings(void **state)
{
    (void)state;
    assert_string_equal(unencoded("Base64", "SGVs\r\nbG8h\r\n*IA==junk"), "Hello! ");
    assert_string_equal(unencoded("base64", "SGVsbG8"), "Hello");
    assert_string_equal(unencoded("quoted-printable", "a=3Db=\r\nc= \t\nd=ZZ="), "a=bcd=ZZ");
    assert_string_equal(unencoded("8bit", "a=3D"), "a=3D");
    assert_string_equal(unencoded("x-unknown", "a"), "a");
}

static const char *utf8_of(const char *set, const char *text)
{
    struct buf b;
    buf_init(&b, 1000);
    charset_to_utf8(charset_find(slice_of(set)), slice_of(text), &b);
    const char *s = show(buf_slice(&b));
    buf_clear(&b);
    return s;
}

static void test_charsets(void **state)
{
    (void)state;
    assert_string_equal(utf8_of("iso-8859-15", "\xa4"), "\xe2\x82\xac");
    assert_string_equal(utf8_of("windows-1252", "\x80"), "\xe2\x82\xac");
    assert_string_equal(utf8_of("CP1251", "\xcf"), "\xd0\x9f");
    assert_string_equal(utf8_of("iso-2022-jp", "\xe9"), "\xc3\xa9"); /* unknown: Latin 1 */
    assert_string_equal(utf8_of("utf-8", "a\xc0\x80z\xed\xa0\x80"),
        "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_null(charset_find(SLICE_LIT("iso-2022-jp")));
}

static void test_folding_ignores_case(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    utf8_fold(SLICE_LIT("ABz \xc3\x89 \xd0\x9f \xce\xa3 \xc5\xb8 \xc4\x8c"), &b);
    assert_slice(buf_slice(&b), "abz \xc3\xa9 \xd0\xbf \xcf\x83 \xc3\xbf \xc4\x8d");
    buf_clear(&b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_parts_of_a_multipart),
        TEST(test_lf_messages_are_counted_with_crlf),
        TEST(test_an_outer_delimiter_ends_inner_parts),
        TEST(test_a_delimiter_in_a_header_ends_the_part),
        TEST(test_a_boundary_that_prefixes_another_is_not_confused),
        TEST(test_messages_within),
        TEST(test_unusable_types_are_text_plain),
        TEST(test_parameters),
        TEST(test_parameters_of_rfc_2231),
        TEST(test_hostile_messages_cost_no_more_than_their_size),
        TEST(test_a_small_arena_is_an_answer),
        TEST(test_encoded_words),
        TEST(test_malformed_words_stay),
        TEST(test_transfer_encodings),
        TEST(test_charsets),
        TEST(test_folding_ignores_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
