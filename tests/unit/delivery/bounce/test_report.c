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
                           .to = SLICE_LIT("bob@sender.test"),
                           .qid = 1,
                           .report_qid = 2,
                           .now = 1795226500000}};
    buf_init(&m->recipients, 65536);
    buf_init(&m->out, 65536);
}

static const char *build(struct made *m)
{
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
    assert_false(report_is_8bit(slice_of(text)));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_report_has_the_fields_of_rfc_3464),
        cmocka_unit_test(test_without_ret_full_only_the_header_goes_back_unless_whole),
        cmocka_unit_test(test_a_reply_cannot_forge_fields_or_parts),
        cmocka_unit_test(test_status_fits_the_action_whatever_the_agent_said),
        cmocka_unit_test(test_a_delay_report_says_until_when),
        cmocka_unit_test(test_boundaries_never_repeat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
