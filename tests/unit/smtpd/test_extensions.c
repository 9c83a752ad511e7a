/* MT-PRIORITY, FUTURERELEASE, ETRN, SMTPUTF8, and what a header tells the queue. */
#include "tests/unit/smtpd/fixture.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static struct envelope queued(void)
{
    struct envelope e;
    struct reader reader = reader_of(buf_slice(&f.envelope));
    assert_int_equal(record_get(&reader, &envelope_record, &e), OK);
    return e;
}

/* A message with this MAIL command and header; returns its envelope. */
static struct envelope message(const char *mail, const char *header)
{
    say(mail);
    say("RCPT TO:<alice@example.test>\r\nDATA\r\n");
    say(header);
    say("\r\ntext\r\n.\r\n");
    expect("250 250 354 250");
    return queued();
}

static void trusted(void)
{
    connect_client("smtp", "192.0.2.7");
    say("EHLO client.test\r\n");
    expect("220 250");
}

static void submitter(void)
{
    connect_client("submission", "127.0.0.1");
    say("EHLO c\r\nAUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\nEHLO c\r\n");
    assert_true(reply_has("250-FUTURERELEASE 2592000 "));
    expect("220 250 235 250");
}

/* --- MT-PRIORITY --- */

static void test_priority_of_a_trusted_client_is_kept(void **state)
{
    (void)state;
    trusted();
    assert_int_equal(
        message("MAIL FROM:<a@b.test> MT-PRIORITY=5\r\n", "Subject: x\r\n").priority, 5);
    assert_true(body_has("PRIORITY 5;"));
}

static void test_priority_of_a_stranger_is_lowered_and_said(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test> MT-PRIORITY=9\r\n");
    assert_true(reply_has("250 2.3.6 0 is the new priority"));
    say("RSET\r\n");
    expect("250 250");
    assert_int_equal(
        message("MAIL FROM:<a@b.test> MT-PRIORITY=-3\r\n", "Subject: x\r\n").priority, -3);
}

static void test_bad_priorities_are_501(void **state)
{
    (void)state;
    trusted();
    say("MAIL FROM:<a@b.test> MT-PRIORITY=10\r\nMAIL FROM:<a@b.test> MT-PRIORITY=+1\r\n"
        "MAIL FROM:<a@b.test> MT-PRIORITY=\r\nMAIL FROM:<a@b.test> MT-PRIORITY=1 "
        "MT-PRIORITY=1\r\nMAIL FROM:<a@b.test> MT-PRIORITY=03\r\n"
        "MAIL FROM:<a@b.test> MT-PRIORITY=-0\r\n");
    expect("501 501 501 501 501 501");
}

/* --- FUTURERELEASE --- */

static void test_release_times_of_a_submitter(void **state)
{
    (void)state;
    submitter();
    int64_t now = loop_wall(f.daemon.loop);
    struct envelope e = message("MAIL FROM:<a@b.test> HOLDFOR=3600\r\n", "Subject: x\r\n");
    assert_true(e.hold_until == now + 3600000);
}

static void test_a_time_in_the_past_is_now(void **state)
{
    (void)state;
    submitter();
    struct envelope e =
        message("MAIL FROM:<a@b.test> HOLDUNTIL=1970-01-01T00:00:01Z\r\n", "Subject: x\r\n");
    assert_true(e.hold_until == 0);
}

static void test_bad_or_far_release_times_are_501(void **state)
{
    (void)state;
    submitter();
    say("MAIL FROM:<a@b.test> HOLDFOR=2592001\r\nMAIL FROM:<a@b.test> HOLDFOR=0\r\n"
        "MAIL FROM:<a@b.test> HOLDFOR=1 HOLDUNTIL=2027-01-01T00:00:00Z\r\n"
        "MAIL FROM:<a@b.test> HOLDUNTIL=2027-02-30T00:00:00Z\r\n"
        "MAIL FROM:<a@b.test> HOLDUNTIL=9999-01-01T00:00:00Z\r\n");
    expect("501 501 501 501 501");
}

static void test_future_release_is_not_for_strangers(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("EHLO x\r\n");
    assert_false(reply_has("FUTURERELEASE"));
    say("MAIL FROM:<a@b.test> HOLDFOR=1\r\n");
    expect("220 250 555");
}

/* --- ETRN --- */

static void test_etrn_for_a_domain_that_is_passed_on(void **state)
{
    (void)state;
    trusted();
    say("ETRN Relayed.test\r\n");
    assert_string_equal(f.etrn, "relayed.test");
    assert_true(reply_has("253 2.0.0 OK, 3 pending messages"));
    say("ETRN empty.test\r\nETRN @relayed.test\r\n");
    assert_string_equal(f.etrn, ".relayed.test");
    expect("253 251 253");
}

static void test_etrn_refusals(void **state)
{
    (void)state;
    trusted();
    say("ETRN\r\nETRN kept.test\r\nETRN sub.relayed.test\r\nETRN #q\r\nETRN a b\r\n"
        "MAIL FROM:<>\r\nETRN relayed.test\r\n");
    expect("500 459 459 459 501 250 503");
    assert_string_equal(f.etrn, "");
}

static void test_etrn_is_not_for_strangers(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("EHLO x\r\n");
    assert_false(reply_has("ETRN"));
    say("ETRN relayed.test\r\n");
    expect("220 250 459");
}

/* --- SMTPUTF8 --- */

static void test_utf8_addresses_need_smtputf8(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<j\xc3\xb6rg@b.test>\r\nMAIL FROM:<a@b.test>\r\n"
        "RCPT TO:<j\xc3\xb6rg@example.test>\r\nRSET\r\nVRFY j\xc3\xb6rg\r\nVRFY j\xc3\xb6rg "
        "SMTPUTF8\r\n");
    expect("553 250 553 250 553 252");
}

static void test_utf8_addresses_with_smtputf8(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<j\xc3\xb6rg@B\xc3\xbc"
        "cher.test> SMTPUTF8\r\n"
        "RCPT TO:<\xce\xb1@example.test> ORCPT=utf-8;\xce\xb1@example.test\r\nDATA\r\n"
        "Subject: \xc3\xbc\r\n\r\nx\r\n.\r\n");
    expect("250 250 354 250");
    struct envelope e = queued();
    assert_true(e.smtputf8 && e.utf8_header);
    assert_true(slice_is(e.sender, "j\xc3\xb6rg@xn--bcher-kva.test"));
    assert_true(body_has(" with UTF8SMTP id "));
    struct recipient r;
    struct reader reader = reader_of(buf_slice(&f.recipients));
    assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
    assert_true(slice_is(r.orcpt, "utf-8;\xce\xb1@example.test"));
}

static void test_malformed_utf8_is_refused(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<j\xc3@b.test> SMTPUTF8\r\nMAIL FROM:<a@\xe2\x80\x8e.test> SMTPUTF8\r\n"
        "MAIL FROM:<a@b.test> SMTPUTF8=1\r\n");
    expect("501 501 501");
}

static void test_an_ascii_header_is_noticed(void **state)
{
    (void)state;
    hello();
    struct envelope e = message("MAIL FROM:<a@b.test> SMTPUTF8\r\n", "Subject: x\r\n");
    assert_true(e.smtputf8 && !e.utf8_header);
}

/* --- what the header says --- */

static void test_bulk_mail_is_recognised(void **state)
{
    (void)state;
    static const char *const bulk[] = {"Precedence: bulk\r\n", "PRECEDENCE: List\r\n",
        "List-Id: <a.b>\r\n", "List-Unsubscribe: <mailto:x@y>\r\n",
        "Auto-Submitted: auto-replied; x=y\r\n"};
    static const char *const not [] = {
        "Subject: List-Id: x\r\n", "Auto-Submitted: No\r\n", "Precedence: special-delivery\r\n"};
    hello();
    for (size_t i = 0; i < ARRAY_LEN(bulk); i++)
        assert_true(message("MAIL FROM:<a@b.test>\r\n", bulk[i]).bulk);
    for (size_t i = 0; i < ARRAY_LEN(not ); i++)
        assert_false(message("MAIL FROM:<a@b.test>\r\n", not [i]).bulk);
}

static void test_a_rule_puts_the_message_on_hold(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\n"
        "RCPT TO:<suspect@example.test>\r\nDATA\r\nx\r\n.\r\n");
    expect("250 250 250 354 250");
    assert_true(slice_is(queued().hold, "recipient=suspect@example.test"));
    assert_int_equal(message("MAIL FROM:<a@b.test>\r\n", "A: b\r\n").hold.n, 0);
}

/* --- DSN --- */

static void test_success_of_a_list_is_reported_as_expanded(void **state)
{
    (void)state;
    struct recipient r;
    unsigned notify[] = {NOTIFY_SUCCESS | NOTIFY_FAILURE, NOTIFY_FAILURE, NOTIFY_FAILURE};
    static const char *const transports[] = {TRANSPORT_EXPANDED, "virtual", "virtual"};
    hello();
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<list@example.test> NOTIFY=SUCCESS,FAILURE\r\n"
        "DATA\r\nx\r\n.\r\n");
    expect("250 250 354 250");
    struct reader reader = reader_of(buf_slice(&f.recipients));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
        assert_int_equal(r.notify, notify[i]);
        assert_true(slice_is(r.transport, transports[i]));
    }
    assert_int_equal(reader.rest.n, 0);
}

static void test_success_is_reported_of_who_was_in_a_list_before(void **state)
{
    (void)state;
    struct recipient r;
    bool found = false;
    hello();
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<list@example.test> NOTIFY=DELAY ORCPT=rfc822;l@x\r\n"
        "RCPT TO:<two@example.test> NOTIFY=SUCCESS ORCPT=rfc822;a@x\r\n"
        "RCPT TO:<two@example.test>\r\nDATA\r\nx\r\n.\r\n");
    expect("250 250 250 250 354 250");
    struct reader reader = reader_of(buf_slice(&f.recipients));
    while (reader.rest.n) {
        assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
        if (!slice_is(r.address, "two@example.test")) {
            assert_int_equal(r.notify, NOTIFY_DELAY);
            continue;
        }
        assert_false(found);
        found = true;
        assert_int_equal(r.notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
        assert_true(slice_is(r.orcpt, "rfc822;a@x"));
        assert_true(slice_is(r.original, "two@example.test"));
    }
    assert_true(found);
}

static void test_never_is_taken_back_by_who_asks_for_success(void **state)
{
    (void)state;
    struct recipient r;
    hello();
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test> NOTIFY=NEVER\r\n"
        "RCPT TO:<alice@example.test> NOTIFY=SUCCESS\r\nDATA\r\nx\r\n.\r\n");
    expect("250 250 250 354 250");
    struct reader reader = reader_of(buf_slice(&f.recipients));
    assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
    assert_int_equal(r.notify, NOTIFY_SUCCESS);
    assert_true(reader_done(&reader));
}

/* --- BDAT --- */

static void test_chunks_make_a_message(void **state)
{
    (void)state;
    hello();
    envelope();
    say("BDAT 10\r\nSubject: xBDAT 9\r\n\r\n\r\n.\r\n.yBDAT 0 LAST\r\n");
    expect("250 250 250");
    assert_true(body_has("\r\nSubject: x\r\n\r\n.\r\n.y\r\n"));
    assert_int_equal(f.accepts, 1);
}

static void test_a_chunk_byte_by_byte_is_the_same(void **state)
{
    (void)state;
    static const char text[] = "BDAT 14 LAST\r\nA: b\r\n\r\nhi\r\n"
                               "\r\nNOOP\r\n";
    hello();
    envelope();
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        send_bytes(slice_from(text + i, 1));
    expect("250 250");
    assert_true(body_has("\r\nA: b\r\n\r\nhi\r\n\r\n"));
}

static void test_a_refused_chunk_is_read_to_its_end(void **state)
{
    (void)state;
    hello();
    say("BDAT 6\r\nQUIT\r\nMAIL FROM:<a@b.test>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    expect("503 250 554 250");
    say("BDAT\r\nBDAT x\r\nBDAT -1\r\n");
    expect("501 501 501");
}

static void test_a_chunk_with_a_wrong_word_is_read_to_its_end_and_missing(void **state)
{
    (void)state;
    hello();
    envelope();
    say("BDAT 6 FIRST\r\nQUIT\r\nBDAT 8 LAST\r\nA: b\r\n\r\nNOOP\r\n");
    expect("501 501 250");
    assert_int_equal(f.accepts, 0);
}

static void test_a_chunk_that_nobody_could_read_ends_the_session(void **state)
{
    (void)state;
    hello();
    envelope();
    say("BDAT 99999999999999999999 LAST\r\nRSET\r\nMAIL FROM:<>\r\n");
    expect("421");
    assert_int_equal(f.accepts, 0);
}

/* RFC 3030 §2: a client that pipelines does not wait for the answer before its next message. */
static void test_a_refused_last_chunk_ends_its_message(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test>\r\nBDAT 6 LAST\r\nQUIT\r\n");
    expect("250 554");
    envelope();
    say("BDAT 8 LAST\r\nA: b\r\n\r\n");
    expect("250");
    assert_int_equal(f.accepts, 1);
}

static void test_between_chunks_only_chunks_are_taken(void **state)
{
    (void)state;
    hello();
    envelope();
    say("BDAT 3\r\nA: RCPT TO:<bob@example.test>\r\nDATA\r\nMAIL FROM:<>\r\nNOOP\r\nRSET\r\n"
        "BDAT 1 LAST\r\nx");
    expect("250 503 503 503 250 250 503");
    assert_int_equal(f.accepts, 0);
}

static void test_lines_in_chunks_are_checked_as_behind_data(void **state)
{
    (void)state;
    hello();
    envelope();
    say("BDAT 3 LAST\r\na\nb");
    expect("550");
    envelope();
    say("BDAT 4 LAST\r\nx: \r");
    expect("550");
    envelope();
    say("BDAT 2\r\na\rBDAT 3 LAST\r\n\nb\n");
    expect("250 550");
    assert_int_equal(f.accepts, 0);
}

static void test_big_chunks_go_to_a_file(void **state)
{
    (void)state;
    char *text = xcalloc(1, 100001);
    hello();
    envelope();
    memset(text, 'x', 100000);
    for (size_t i = 78; i < 100000; i += 80)
        memcpy(text + i, "\r\n", 2);
    memcpy(text, "A: b\r\n\r\n", 8);
    say("BDAT 100000\r\n");
    send_bytes(slice_from(text, 100000));
    say("BDAT 100000\r\n");
    send_bytes(slice_from(text, 100000));
    expect("250 250");
    say("BDAT 2 LAST\r\n\r\n");
    expect("250");
    assert_int_equal(f.opens, 1);
    assert_true(buf_len(&f.body) > 200000);
    envelope();
    say("BDAT 300000 LAST\r\n");
    for (size_t i = 0; i < 3; i++)
        send_bytes(slice_from(text, 100000));
    expect("552");
    free(text);
}

static void test_lmtp_answers_the_last_chunk_for_each_recipient(void **state)
{
    (void)state;
    connect_client("lmtp", "127.0.0.1");
    say("LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\n"
        "BDAT 2\r\nA:BDAT 4 LAST\r\n\r\n\r\n");
    expect("220 250 250 250 250 250 250 250");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_priority_of_a_trusted_client_is_kept),
        TEST(test_priority_of_a_stranger_is_lowered_and_said),
        TEST(test_bad_priorities_are_501),
        TEST(test_release_times_of_a_submitter),
        TEST(test_a_time_in_the_past_is_now),
        TEST(test_bad_or_far_release_times_are_501),
        TEST(test_future_release_is_not_for_strangers),
        TEST(test_etrn_for_a_domain_that_is_passed_on),
        TEST(test_etrn_refusals),
        TEST(test_etrn_is_not_for_strangers),
        TEST(test_utf8_addresses_need_smtputf8),
        TEST(test_utf8_addresses_with_smtputf8),
        TEST(test_malformed_utf8_is_refused),
        TEST(test_an_ascii_header_is_noticed),
        TEST(test_bulk_mail_is_recognised),
        TEST(test_a_rule_puts_the_message_on_hold),
        TEST(test_success_of_a_list_is_reported_as_expanded),
        TEST(test_success_is_reported_of_who_was_in_a_list_before),
        TEST(test_never_is_taken_back_by_who_asks_for_success),
        TEST(test_chunks_make_a_message),
        TEST(test_a_chunk_byte_by_byte_is_the_same),
        TEST(test_a_refused_chunk_is_read_to_its_end),
        TEST(test_a_chunk_with_a_wrong_word_is_read_to_its_end_and_missing),
        TEST(test_a_chunk_that_nobody_could_read_ends_the_session),
        TEST(test_a_refused_last_chunk_ends_its_message),
        TEST(test_between_chunks_only_chunks_are_taken),
        TEST(test_lines_in_chunks_are_checked_as_behind_data),
        TEST(test_big_chunks_go_to_a_file),
        TEST(test_lmtp_answers_the_last_chunk_for_each_recipient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
