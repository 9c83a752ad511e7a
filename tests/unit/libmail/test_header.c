#include "libmail/date.h"
#include "libmail/header.h"
#include "libmail/msgid.h"
#include "libmail/received.h"
#include "libutil/error.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static const char message[] = "Received: from a\r\n\tby b\r\nSubject : Hi\r\n there\r\nTo:x@y\r\n"
                              "Empty:\r\n\r\nBody: no field\r\n";

static void test_fields_are_iterated_with_their_folds(void **state)
{
    (void)state;
    struct header_iter it;
    struct header_field f;
    header_iter_init(&it, slice_of(message));
    assert_true(header_iter_next(&it, &f));
    assert_true(slice_is(f.name, "Received") && slice_is(f.body, " from a\r\n\tby b"));
    assert_true(header_iter_next(&it, &f));
    assert_true(slice_is(f.name, "Subject") && slice_is(f.raw, "Subject : Hi\r\n there\r\n"));
    assert_true(header_iter_next(&it, &f));
    assert_true(slice_is(f.body, "x@y"));
    assert_true(header_iter_next(&it, &f));
    assert_int_equal(f.body.n, 0);
    assert_false(header_iter_next(&it, &f));
    assert_true(slice_is(it.rest, "Body: no field\r\n"));
}

static void test_find_count_parts(void **state)
{
    (void)state;
    struct header_field f;
    struct slice m = slice_of(message);
    assert_true(header_find(m, "to", &f));
    assert_false(header_find(m, "Body", &f));
    assert_true(header_find(m, "RECEIVED", &f));
    assert_true(slice_is(header_body(m), "Body: no field\r\n"));
    assert_int_equal(header_part(m).n + header_body(m).n, m.n);
}

static void test_a_line_that_is_no_field_ends_the_header(void **state)
{
    (void)state;
    struct slice m = SLICE_LIT("To: a\nno field here\nCc: b\n");
    assert_false(header_find(m, "Cc", &(struct header_field){0}));
    assert_true(slice_is(header_body(m), "no field here\nCc: b\n"));
    assert_int_equal(header_body(SLICE_LIT("")).n, 0);
    assert_true(slice_is(header_body(SLICE_LIT(": x\n")), ": x\n"));
}

static void test_unfold(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(header_unfold(SLICE_LIT(" a\r\n\tb\n c "), &b), OK);
    assert_true(slice_is(buf_slice(&b), "a\tb c"));
    buf_clear(&b);
}

static void assert_date(const char *text, int64_t when, int zone)
{
    time_t t;
    int z;
    assert_int_equal(date_parse(slice_of(text), &t, &z), OK);
    assert_int_equal(t, when);
    assert_int_equal(z, zone);
}

static void test_dates_of_rfc5322(void **state)
{
    (void)state;
    assert_date("Fri, 21 Nov 1997 09:55:06 -0600", 880127706, -360);
    assert_date("Tue, 1 Jul 2003 10:52:37 +0200", 1057049557, 120);
    assert_date("Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n          "
                "     -0330 (Newfoundland Time)",
        -27723480, -210);
    assert_date("21 Nov 97 09:55:06 GMT", 880106106, 0);
    assert_date("21 Nov 97 09:55:06 EST", 880124106, -300);
    assert_date("29 Feb 2000 00:00:00 +0000", 951782400, 0);
}

static void test_dates_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "Fri", "32 Jan 2000 00:00 +0000",
        "30 Feb 2000 00:00 +0000", "29 Feb 1900 00:00 GMT", "1 Foo 2000 00:00 GMT",
        "1 Jan 2000 24:00 GMT", "1 Jan 2000", "1 Jan 20000 00:00 GMT", "2000-01-01 00:00:00"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        time_t t;
        if (date_parse(slice_of(bad[i]), &t, NULL) == OK)
            fail_msg("accepted: %s", bad[i]);
    }
}

static void test_date_prints_what_it_parses(void **state)
{
    (void)state;
    char text[DATE_TEXT];
    date_print_zone(880127706, -360, text);
    assert_string_equal(text, "Fri, 21 Nov 1997 09:55:06 -0600");
    date_print_zone(0, 345, text);
    assert_string_equal(text, "Thu, 01 Jan 1970 05:45:00 +0545");
}

static void assert_received(const struct received *r, const char *expected)
{
    struct buf b;
    struct slice rest;
    buf_init(&b, 2000);
    assert_int_equal(received_print(r, &b), OK);
    rest = buf_slice(&b);
    ptrdiff_t semi = slice_rchr(rest, ';');
    assert_true(semi > 0);
    assert_true(slice_is(slice_first(rest, (size_t)semi), expected));
    buf_clear(&b);
}

static void test_received_field_names_client_server_and_single_recipient(void **state)
{
    (void)state;
    struct received r = {.helo = SLICE_LIT("mail.example"),
        .client_name = SLICE_LIT("h.example"),
        .client = SLICE_LIT("2001:db8::1"),
        .by = SLICE_LIT("mx.example.test"),
        .with = received_with(false, true, true, true, false),
        .tls = SLICE_LIT("TLSv1.3 X"),
        .qid = SLICE_LIT("q1"),
        .recipient = SLICE_LIT("bob@example.test"),
        .uid = -1};
    assert_received(&r, "Received: from mail.example (h.example [IPv6:2001:db8::1])\r\n"
                        "\t(using TLSv1.3 X)\r\n\tby mx.example.test (Veredus) with ESMTPSA id "
                        "q1\r\n\tfor <bob@example.test>");
}

static void test_received_field_cannot_be_broken_by_the_client(void **state)
{
    (void)state;
    struct received r = {.helo = SLICE_LIT("a\r\nX: (evil);"),
        .client = SLICE_LIT("192.0.2.1"),
        .by = SLICE_LIT("mx"),
        .with = SLICE_LIT("SMTP"),
        .qid = SLICE_LIT("q"),
        .uid = -1};
    assert_received(&r, "Received: from a??X:??evil?? (unknown [192.0.2.1])\r\n"
                        "\tby mx (Veredus) with SMTP id q");
}

static void test_received_of_a_local_submitter(void **state)
{
    (void)state;
    struct received r = {
        .by = SLICE_LIT("mx"), .with = SLICE_LIT("ESMTP"), .qid = SLICE_LIT("q"), .uid = 1000};
    assert_received(&r, "Received: by mx (Veredus, from userid 1000) with ESMTP id q");
}

static void test_protocol_words(void **state)
{
    (void)state;
    assert_true(slice_is(received_with(false, false, false, false, false), "SMTP"));
    assert_true(slice_is(received_with(false, true, false, false, false), "ESMTP"));
    assert_true(slice_is(received_with(false, true, true, false, false), "ESMTPS"));
    assert_true(slice_is(received_with(false, true, false, true, false), "ESMTPA"));
    assert_true(slice_is(received_with(true, true, false, false, false), "LMTP"));
    assert_true(slice_is(received_with(false, true, true, false, true), "UTF8SMTPS"));
    assert_true(slice_is(received_with(true, true, false, true, true), "UTF8LMTPA"));
}

static void test_message_ids(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(msgid_new(SLICE_LIT("h.example"), &b), OK);
    assert_true(slice_ends(buf_slice(&b), "@h.example>"));
    assert_true(slice_eq(msgid_find(buf_slice(&b)), buf_slice(&b)));
    assert_true(slice_is(msgid_find(SLICE_LIT("\r\n <a@b> (x) <c@d>")), "<a@b>"));
    assert_null(msgid_find(SLICE_LIT("none")).p);
    assert_null(msgid_find(SLICE_LIT("<a\r\nb>")).p);
    buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_iterated_with_their_folds),
        cmocka_unit_test(test_find_count_parts),
        cmocka_unit_test(test_a_line_that_is_no_field_ends_the_header),
        cmocka_unit_test(test_unfold),
        cmocka_unit_test(test_dates_of_rfc5322),
        cmocka_unit_test(test_dates_that_are_none),
        cmocka_unit_test(test_date_prints_what_it_parses),
        cmocka_unit_test(test_received_field_names_client_server_and_single_recipient),
        cmocka_unit_test(test_received_field_cannot_be_broken_by_the_client),
        cmocka_unit_test(test_received_of_a_local_submitter),
        cmocka_unit_test(test_protocol_words),
        cmocka_unit_test(test_message_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
