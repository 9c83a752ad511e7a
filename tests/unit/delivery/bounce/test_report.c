#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "delivery/bounce/report.h"

static const char letter[] = "Subject: hello\r\nFrom: bob@sender.test\r\n\r\nthe body\r\n";

struct made {
    struct buf recipients, out;
    struct report report;
    char boundary[REPORT_BOUNDARY];
};

static void add(struct made *m, const struct report_recipient *rr)
{
    assert_int_equal(record_put(&m->recipients, &report_recipient_record, rr), OK);
    m->report.recipients = buf_slice(&m->recipients);
}

static void setup(struct made *m, enum report_kind kind)
{
    *m = (struct made){.report = {.kind = kind,
                           .envelope = {.sender = SLICE_LIT("bob@sender.test"),
                               .envid = SLICE_LIT("env-1"),
                               .received = 1795226400000},
                           .original = {letter, sizeof(letter) - 1},
                           .size = sizeof(letter) - 1,
                           .hostname = SLICE_LIT("mx.test"),
                           .subject = SLICE_LIT("About {count} at {hostname}"),
                           .text = SLICE_LIT("Queue id {queue-id}.\nUntil {until}"),
                           .to = SLICE_LIT("bob@sender.test"),
                           .qid = 1,
                           .report_qid = 2,
                           .now = 1795226500000}};
    buf_init(&m->recipients, 65536);
    buf_init(&m->out, 65536);
}

static const char *build(struct made *m)
{
    report_choose_form(&m->report);
    assert_int_equal(report_head(&m->report, &m->out, m->boundary), OK);
    buf_put(&m->out, report_returned(&m->report));
    assert_int_equal(report_tail(m->boundary, &m->out), OK);
    buf_putc(&m->out, '\0');
    return buf_slice(&m->out).p;
}

static void teardown(struct made *m)
{
    buf_clear(&m->recipients);
    buf_clear(&m->out);
}

static const struct report_recipient refused = {.address = {"carol@x.test", 12},
    .original = {"info@y.test", 11},
    .orcpt = {"rfc822;info@y.test", 18},
    .status = FAILED,
    .dsn = {"5.1.1", 5},
    .text = {"550 5.1.1 no such user", 22},
    .mta = {"mx.x.test", 9},
    .last_attempt = 1795226450000};

static void test_a_failure_report_has_the_fields_of_rfc_3464(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_FAILURE);
    add(&m, &refused);
    const char *text = build(&m);
    assert_non_null(strstr(text, "From: Mail Delivery System <MAILER-DAEMON@mx.test>\r\n"));
    assert_non_null(strstr(text, "Auto-Submitted: auto-replied\r\n"));
    assert_non_null(strstr(text, "multipart/report; report-type=delivery-status;"));
    assert_non_null(
        strstr(text, "\r\nOriginal-Envelope-Id: env-1\r\nReporting-MTA: dns; mx.test\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nOriginal-Recipient: rfc822;info@y.test\r\n"
                                 "Final-Recipient: rfc822; carol@x.test\r\n"
                                 "Action: failed\r\nStatus: 5.1.1\r\n"
                                 "Remote-MTA: dns; mx.x.test\r\n"
                                 "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
                                 "Last-Attempt-Date: "));
    teardown(&m);
}

static const char *diagnosis(struct made *m, struct slice text)
{
    struct report_recipient r = refused;
    r.text = text;
    setup(m, REPORT_FAILURE);
    add(m, &r);
    return strstr(build(m), "Diagnostic-Code: ");
}

static void test_only_a_reply_is_a_diagnosis_of_type_smtp(void **state)
{
    (void)state;
    static const struct {
        struct slice text;
        const char *field;
    } cases[] = {
        {{"mx.x.test[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO)", 61},
            "Diagnostic-Code: smtp; 550 5.1.1 no\r\n"},
        {{"mx.x.test[192.0.2.1] said: 421 late said: 999 x (in reply to EHLO)", 66},
            "Diagnostic-Code: smtp; 421 late said: 999 x\r\n"},
        {{"connect to mx.x.test[192.0.2.1]: timed out", 42},
            "Diagnostic-Code: X-Veredus; connect to mx.x.test[192.0.2.1]: timed out\r\n"},
        {{"mx.x.test[192.0.2.1] said: what", 31}, "Diagnostic-Code: X-Veredus; mx.x.test"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct made m;
        const char *field = diagnosis(&m, cases[i].text);
        assert_non_null(field);
        assert_int_equal(strncmp(field, cases[i].field, strlen(cases[i].field)), 0);
        assert_null(strstr(build(&m), " host mx.x.test said"));
        teardown(&m);
    }
}

static void test_without_ret_full_only_the_header_goes_back_unless_whole(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_FAILURE);
    add(&m, &refused);
    const char *text = build(&m);
    assert_non_null(strstr(text, "text/rfc822-headers"));
    assert_null(strstr(text, "the body"));
    teardown(&m);
    setup(&m, REPORT_FAILURE);
    m.report.whole = true;
    add(&m, &refused);
    text = build(&m);
    assert_non_null(strstr(text, "Content-Type: message/rfc822"));
    assert_non_null(strstr(text, "the body"));
    teardown(&m);
}

static void test_a_reply_cannot_forge_fields_or_parts(void **state)
{
    (void)state;
    struct made m;
    struct report_recipient evil = refused;
    setup(&m, REPORT_FAILURE);
    evil.text = SLICE_LIT("550 no\r\nAction: delivered\r\n\r\n--x\r\n\xff");
    evil.mta = SLICE_LIT("mx\r\nX: y");
    add(&m, &evil);
    const char *text = build(&m);
    assert_null(strstr(text, "\r\nAction: delivered"));
    assert_null(strstr(text, "\r\nX: y"));
    assert_false(report_is_8bit(&m.report));
    assert_null(strchr(text, '\xff'));
    teardown(&m);
}

static void test_status_fits_the_action_whatever_the_agent_said(void **state)
{
    (void)state;
    struct made m;
    struct report_recipient odd = refused;
    setup(&m, REPORT_SUCCESS);
    odd.status = RELAYED_NO_DSN;
    add(&m, &odd);
    const char *text = build(&m);
    assert_non_null(strstr(text, "Action: relayed\r\nStatus: 2.0.0\r\n"));
    teardown(&m);
}

static void test_a_delay_report_says_until_when(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_DELAY);
    m.report.will_retry_until = 1795312800000;
    add(&m, &refused);
    const char *text = build(&m);
    assert_non_null(strstr(text, "Action: delayed\r\nStatus: 4.0.0\r\n"));
    assert_non_null(strstr(text, "\r\nWill-Retry-Until: "));
    teardown(&m);
}

static void test_boundaries_never_repeat(void **state)
{
    (void)state;
    struct made a, b;
    setup(&a, REPORT_FAILURE);
    setup(&b, REPORT_FAILURE);
    build(&a);
    build(&b);
    assert_string_not_equal(a.boundary, b.boundary);
    teardown(&a);
    teardown(&b);
}

static void test_words_and_placeholders_of_the_administrator(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_FAILURE);
    m.report.subject = SLICE_LIT("Unzustellbar f\xc3\xbcr {count}");
    m.report.text = SLICE_LIT("Gr\xc3\xbc\xc3\x9f"
                              "e von {hostname}\nEnde = {x}");
    add(&m, &refused);
    const char *text = build(&m);
    assert_non_null(strstr(text, "\r\nSubject: =?utf-8?B?VW56dXN0ZWxsYmFyIGbDvHIgMQ==?=\r\n"));
    assert_non_null(
        strstr(text, "charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"));
    assert_non_null(strstr(text, "\r\nGr=C3=BC=C3=9Fe von mx.test\r\nEnde =3D {x}\r\n"));
    assert_false(report_is_8bit(&m.report));
    teardown(&m);
}

static void test_an_expanded_alias_is_said_to_be(void **state)
{
    (void)state;
    struct made m;
    struct report_recipient list = {.address = SLICE_LIT("list@x.test"),
        .status = EXPANDED,
        .dsn = SLICE_LIT("2.0.0"),
        .text = SLICE_LIT("stands for others")};
    setup(&m, REPORT_SUCCESS);
    add(&m, &list);
    assert_non_null(strstr(build(&m), "Action: expanded\r\nStatus: 2.0.0\r\n"));
    teardown(&m);
}

static const struct report_recipient greek = {.address = {"\xce\xb1@x.test", 9},
    .original = {"\xce\xb1@x.test", 9},
    .orcpt = {"utf-8;\xce\xb1@x.test", 15},
    .status = FAILED,
    .dsn = {"5.1.1", 5},
    .text = {"no user \xce\xb1", 10}};

static void test_a_report_by_smtputf8_has_the_forms_of_rfc_6533(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_FAILURE);
    m.report.envelope.smtputf8 = true;
    m.report.whole = true;
    add(&m, &greek);
    const char *text = build(&m);
    assert_true(m.report.utf8);
    assert_non_null(strstr(text, "report-type=global-delivery-status;"));
    assert_non_null(strstr(text, "Content-Type: message/global-delivery-status\r\n"));
    assert_non_null(strstr(text, "Content-Type: message/global\r\n"));
    assert_non_null(strstr(text, "Original-Recipient: utf-8;\xce\xb1@x.test\r\n"
                                 "Final-Recipient: utf-8; \xce\xb1@x.test\r\n"));
    teardown(&m);
    setup(&m, REPORT_FAILURE);
    m.report.envelope.smtputf8 = true;
    add(&m, &refused);
    assert_null(strstr(build(&m), "global")); /* all of it is ASCII */
    teardown(&m);
}

static void test_without_smtputf8_addresses_are_written_in_ascii(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_FAILURE);
    add(&m, &greek);
    const char *text = build(&m);
    assert_non_null(strstr(text, "Original-Recipient: utf-8;\\x{3B1}@x.test\r\n"
                                 "Final-Recipient: utf-8; \\x{3B1}@x.test\r\n"));
    for (const char *p = text; *p; p++)
        assert_true((unsigned char)*p < 128);
    teardown(&m);
}

static void test_the_client_is_named_with_its_address(void **state)
{
    (void)state;
    struct made m;
    setup(&m, REPORT_FAILURE);
    m.report.envelope.helo = SLICE_LIT("me.test");
    m.report.envelope.client = SLICE_LIT("192.0.2.1");
    m.report.envelope.client_name = SLICE_LIT("real.test");
    add(&m, &refused);
    assert_non_null(strstr(
        build(&m), "Received-From-MTA: dns; me.test (real.test [192.0.2.1])\r\nArrival-Date: "));
    teardown(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_report_has_the_fields_of_rfc_3464),
        cmocka_unit_test(test_only_a_reply_is_a_diagnosis_of_type_smtp),
        cmocka_unit_test(test_without_ret_full_only_the_header_goes_back_unless_whole),
        cmocka_unit_test(test_a_reply_cannot_forge_fields_or_parts),
        cmocka_unit_test(test_status_fits_the_action_whatever_the_agent_said),
        cmocka_unit_test(test_a_delay_report_says_until_when),
        cmocka_unit_test(test_boundaries_never_repeat),
        cmocka_unit_test(test_words_and_placeholders_of_the_administrator),
        cmocka_unit_test(test_an_expanded_alias_is_said_to_be),
        cmocka_unit_test(test_a_report_by_smtputf8_has_the_forms_of_rfc_6533),
        cmocka_unit_test(test_without_smtputf8_addresses_are_written_in_ascii),
        cmocka_unit_test(test_the_client_is_named_with_its_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
