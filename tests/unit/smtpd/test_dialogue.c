/* What a session answers, and in which order. */
#include "tests/unit/smtpd/fixture.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the dialogue --- */

static void test_greeting_and_ehlo(void **state)
{
    (void)state;
    connect_client("smtp", "198.51.100.1");
    assert_true(reply_has("220 mx.example.test ESMTP Veredus\r\n"));
    say("EHLO x\r\n");
    assert_true(reply_has("250-SIZE 204800\r\n"));
    assert_true(reply_has("250-PIPELINING\r\n"));
    assert_false(reply_has("AUTH"));
    assert_false(reply_has("STARTTLS")); /* no certificate */
    expect("220 250");
}

static void test_a_message_reaches_qmgr_with_envelope_and_received(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<s@Else.test> BODY=8BITMIME RET=HDRS ENVID=e1\r\n"
        "RCPT TO:<alice@example.test> NOTIFY=DELAY ORCPT=rfc822;a@b\r\nDATA\r\n");
    expect("250 250 354");
    say("Subject: x\r\nMessage-ID: <m@x>\r\n\r\n..dot\r\n.\r\nQUIT\r\n");
    assert_true(reply_has("250 2.0.0 Ok: queued as "));
    expect("250 221");
    assert_true(ended());
    struct envelope e;
    struct recipient r;
    struct reader reader = reader_of(buf_slice(&f.envelope));
    assert_int_equal(record_get(&reader, &envelope_record, &e), OK);
    assert_true(slice_is(e.sender, "s@else.test"));
    assert_true(slice_is(e.envid, "e1") && e.ret == RET_HDRS && e.body == BODY_8BITMIME);
    assert_true(slice_is(e.message_id, "<m@x>") && slice_is(e.helo, "client.test"));
    reader = reader_of(buf_slice(&f.recipients));
    assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
    assert_true(slice_is(r.address, "alice@example.test") && r.notify == NOTIFY_DELAY);
    assert_true(slice_is(r.orcpt, "rfc822;a@b") && slice_is(r.original, "alice@example.test"));
    assert_true(slice_starts(buf_slice(&f.body),
        "Received: from client.test (localhost [127.0.0.1])\r\n\tby mx.example.test (Veredus) with "
        "ESMTP id "));
    assert_true(body_has("\r\n\tfor <alice@example.test>;\r\n\t"));
    assert_true(
        slice_ends(buf_slice(&f.body), "\r\nSubject: x\r\nMessage-ID: <m@x>\r\n\r\n.dot\r\n"));
    assert_false(body_has("Date:"));
}

static void test_pipelined_replies_come_in_order(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<s@else.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT "
        "TO:<alice@example.test>\r\n"
        "NOOP\r\nRCPT TO:<x@far.test>\r\nFROB\r\nRSET\r\nQUIT\r\n");
    expect("250 550 250 250 554 500 250 221");
}

static void test_a_whole_session_in_one_write(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: "
        "a\r\n\r\nb\r\n.\r\n"
        "MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nc\r\n.\r\nQUIT\r\n");
    expect("220 250 250 250 354 250 250 250 354 250 221");
    assert_int_equal(f.accepts, 2);
}

static void test_byte_by_byte_is_the_same(void **state)
{
    (void)state;
    static const char text[] = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
                               "Subject: a\r\n\r\n..\r\n.\r\nQUIT\r\n";
    connect_client("smtp", "127.0.0.1");
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        send_bytes(slice_from(text + i, 1));
    expect("220 250 250 250 354 250 221");
    assert_true(slice_ends(buf_slice(&f.body), "\r\n\r\n.\r\n"));
}

static void test_replies_of_others_cannot_break_the_dialogue(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<s@else.test>\r\nRCPT TO:<nobody@example.test>\r\n");
    assert_true(reply_has("550 5.1.1 No such  user\r\n"));
}

/* --- order of commands --- */

static void test_mail_before_hello_is_503(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nNOOP\r\nHELP\r\nVRFY x\r\n");
    expect("220 503 503 503 250 214 252");
}

static void test_rcpt_after_failed_mail_is_503(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a b@c>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n");
    expect("501 503 503");
}

static void test_nested_mail_is_503_and_keeps_the_first(void **state)
{
    (void)state;
    hello();
    envelope();
    say("MAIL FROM:<b@c.test>\r\nDATA\r\n");
    expect("503 354");
}

static void test_data_without_valid_recipients_is_554(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test>\r\nDATA\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\n");
    expect("250 554 550 554");
}

static void check_reset_by(const char *command, const char *code)
{
    envelope();
    say(command);
    expect(code);
    say("RCPT TO:<alice@example.test>\r\nDATA\r\n");
    expect("503 503");
}

static void test_rset_ehlo_and_helo_forget_the_transaction(void **state)
{
    (void)state;
    hello();
    check_reset_by("RSET\r\n", "250");
    check_reset_by("HELO x\r\n", "250");
    check_reset_by("EHLO x\r\n", "250");
}

static void test_a_bad_ehlo_keeps_the_transaction(void **state)
{
    (void)state;
    hello();
    envelope();
    say("EHLO\r\nDATA\r\n");
    expect("501 354");
}

static void test_the_transaction_is_forgotten_after_every_answer_to_data(void **state)
{
    (void)state;
    hello();
    envelope();
    say("DATA\r\nx\r\n.\r\nDATA\r\nRCPT TO:<alice@example.test>\r\n");
    expect("354 250 503 503");
    f.qmgr_code = 452;
    envelope();
    say("DATA\r\nx\r\n.\r\nDATA\r\n");
    assert_true(reply_has("452 4.3.1 Disk full\r\n"));
    expect("354 452 503");
    envelope();
    say("DATA\r\nx\ny\r\n.\r\nDATA\r\n");
    expect("354 550 503");
}

static void test_arguments_where_none_belong_are_501(void **state)
{
    (void)state;
    hello();
    envelope();
    say("DATA now\r\nRSET now\r\nQUIT now\r\nDATA\r\n");
    expect("501 501 501 354");
}

static void test_helo_takes_no_esmtp_parameters(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("HELO x\r\nMAIL FROM:<a@b.test> SIZE=1\r\nMAIL FROM:<a@b.test>\r\n");
    expect("220 250 555 250");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_greeting_and_ehlo),
        TEST(test_a_message_reaches_qmgr_with_envelope_and_received),
        TEST(test_pipelined_replies_come_in_order),
        TEST(test_a_whole_session_in_one_write),
        TEST(test_byte_by_byte_is_the_same),
        TEST(test_replies_of_others_cannot_break_the_dialogue),
        TEST(test_mail_before_hello_is_503),
        TEST(test_rcpt_after_failed_mail_is_503),
        TEST(test_nested_mail_is_503_and_keeps_the_first),
        TEST(test_data_without_valid_recipients_is_554),
        TEST(test_rset_ehlo_and_helo_forget_the_transaction),
        TEST(test_a_bad_ehlo_keeps_the_transaction),
        TEST(test_the_transaction_is_forgotten_after_every_answer_to_data),
        TEST(test_arguments_where_none_belong_are_501),
        TEST(test_helo_takes_no_esmtp_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
