#include "libmail/imapstruct.h"
#include "libutil/error.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

struct texts {
    struct buf envelope, body, structure;
    struct arena arena;
};

static struct texts t;

static int setup(void **state)
{
    (void)state;
    arena_init(&t.arena, 16 << 20);
    buf_init(&t.envelope, 1 << 20);
    buf_init(&t.body, 1 << 20);
    buf_init(&t.structure, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&t.arena);
    buf_clear(&t.envelope);
    buf_clear(&t.body);
    buf_clear(&t.structure);
    return 0;
}

static const char *text(struct buf *b)
{
    return arena_cstr(&t.arena, buf_slice(b));
}

static void make(const char *message)
{
    buf_reset(&t.envelope);
    buf_reset(&t.body);
    buf_reset(&t.structure);
    assert_int_equal(
        imap_structure(slice_of(message), &t.arena, &t.envelope, &t.body, &t.structure), OK);
}

/* The message of RFC 3501 §8. */
static void test_envelope_of_the_rfc_example(void **state)
{
    (void)state;
    make("Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
         "From: Terry Gray <gray@cac.washington.edu>\r\n"
         "Subject: IMAP4rev1 WG mtg summary and minutes\r\n"
         "To: imap@cac.washington.edu\r\n"
         "cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
         "Message-Id: <B27397-0100000@cac.washington.edu>\r\n"
         "MIME-Version: 1.0\r\n"
         "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\none\r\ntwo\r\n");
    assert_string_equal(text(&t.envelope),
        "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" "
        "\"IMAP4rev1 WG mtg summary and minutes\" "
        "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
        "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
        "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
        "((NIL NIL \"imap\" \"cac.washington.edu\")) "
        "((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")"
        "(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL "
        "\"<B27397-0100000@cac.washington.edu>\")");
    assert_string_equal(
        text(&t.body), "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 10 2)");
    assert_string_equal(text(&t.structure),
        "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 10 2 NIL NIL NIL NIL)");
}

static void test_groups_routes_and_eight_bit(void **state)
{
    (void)state;
    make("From: =?utf-8?Q?=C3=A9?= <@r1,@r2:a@b>\nSubject: caf\xc3\xa9 \"q\"\n"
         "To: friends: x@y, \"Q. \\\"R\\\"\" <z@w>;, nobody:;\nBcc: \n\n");
    assert_string_equal(text(&t.envelope),
        "(NIL {9}\r\ncaf\xc3\xa9 \"q\" "
        "((\"=?utf-8?Q?=C3=A9?=\" \"@r1,@r2\" \"a\" \"b\")) "
        "((\"=?utf-8?Q?=C3=A9?=\" \"@r1,@r2\" \"a\" \"b\")) "
        "((\"=?utf-8?Q?=C3=A9?=\" \"@r1,@r2\" \"a\" \"b\")) "
        "((NIL NIL \"friends\" NIL)(NIL NIL \"x\" \"y\")"
        "(\"Q. \\\"R\\\"\" NIL \"z\" \"w\")(NIL NIL NIL NIL)"
        "(NIL NIL \"nobody\" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)");
}

static void test_no_header_at_all(void **state)
{
    (void)state;
    make("");
    assert_string_equal(text(&t.envelope), "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    assert_string_equal(
        text(&t.body), "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0)");
}

static void test_multipart_with_extension_data(void **state)
{
    (void)state;
    make("Content-Type: multipart/mixed; boundary=b\r\nContent-Language: en, de\r\n\r\n--b\r\n\r\n"
         "hi\r\n\r\n--b\r\nContent-Type: image/png; name=\"a b.png\"\r\n"
         "Content-Transfer-Encoding: base64\r\nContent-ID: <1@x>\r\nContent-MD5: Q2hlY2s=\r\n"
         "Content-Disposition: attachment; filename*=utf-8''a.png\r\n\r\nAAAA\r\n--b--\r\n");
    assert_string_equal(text(&t.body),
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 4 1)"
        "(\"image\" \"png\" (\"name\" \"a b.png\") \"<1@x>\" NIL \"base64\" 4) \"mixed\")");
    assert_string_equal(text(&t.structure),
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 4 1 NIL NIL NIL NIL)"
        "(\"image\" \"png\" (\"name\" \"a b.png\") \"<1@x>\" NIL \"base64\" 4 \"Q2hlY2s=\" "
        "(\"attachment\" (\"filename*\" \"utf-8''a.png\")) NIL NIL) \"mixed\" "
        "(\"boundary\" \"b\") NIL (\"en\" \"de\") NIL)");
}

static void test_message_within_has_envelope_body_and_lines(void **state)
{
    (void)state;
    make("Content-Type: message/rfc822\n\nSubject: in\n\nx\ny\n");
    assert_string_equal(text(&t.body),
        "(\"message\" \"rfc822\" NIL NIL NIL \"7BIT\" 21 "
        "(NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) "
        "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 6 2) 4)");
}

static void test_a_multipart_without_parts_shows_an_empty_one(void **state)
{
    (void)state;
    make("Content-Type: multipart/mixed; boundary=b\n\nnothing\n");
    assert_string_equal(text(&t.body),
        "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0) \"mixed\")");
}

/* RFC 3501 §7.4.2: MESSAGE/RFC822 promises envelope, body and lines, which a part that ends
 * within its header does not have. */
static void test_parts_without_a_body_promise_no_structure(void **state)
{
    (void)state;
    make("Content-Type: multipart/mixed; boundary=x\r\n\r\n"
         "--x\r\nContent-Type: message/rfc822\r\n"
         "--x\r\nContent-Type: multipart/mixed; boundary=y\r\n--x--\r\n");
    assert_string_equal(text(&t.body),
        "((\"APPLICATION\" \"OCTET-STREAM\" NIL NIL NIL \"7BIT\" 0)"
        "(\"APPLICATION\" \"OCTET-STREAM\" (\"boundary\" \"y\") NIL NIL \"7BIT\" 0) \"mixed\")");
}

static void test_a_full_buffer_is_an_error(void **state)
{
    (void)state;
    struct buf small;
    buf_init(&small, 10);
    assert_int_equal(
        imap_structure(SLICE_LIT("A: b\n\n"), &t.arena, &small, NULL, NULL), ERR_LIMIT);
    buf_clear(&small);
}

static void test_strings(void **state)
{
    (void)state;
    imap_put_string(&t.body, SLICE_LIT("a\\b\"c"));
    imap_put_string(&t.body, (struct slice){"x\0y\r", 4});
    imap_put_nstring(&t.body, (struct slice){NULL, 0});
    imap_put_nstring(&t.body, SLICE_LIT(""));
    assert_string_equal(text(&t.body), "\"a\\\\b\\\"c\"{3}\r\nxy\rNIL\"\"");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_envelope_of_the_rfc_example),
        TEST(test_groups_routes_and_eight_bit),
        TEST(test_no_header_at_all),
        TEST(test_multipart_with_extension_data),
        TEST(test_message_within_has_envelope_body_and_lines),
        TEST(test_a_multipart_without_parts_shows_an_empty_one),
        TEST(test_parts_without_a_body_promise_no_structure),
        TEST(test_a_full_buffer_is_an_error),
        TEST(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
