/* Messages and recipients on their way to qmgr, and what happens when others fail. */
#include "tests/unit/smtpd/fixture.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- bodies and recipients beyond one record --- */

static void test_a_big_body_goes_to_the_lent_file(void **state)
{
    (void)state;
    static char text[72000];
    hello();
    envelope();
    memset(text, 'y', sizeof(text));
    for (size_t i = 70; i + 2 <= sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    say("DATA\r\nSubject: big\r\n\r\n");
    send_bytes(slice_from(text, sizeof(text)));
    send_bytes(slice_from(text, sizeof(text)));
    say(".\r\nNOOP\r\n");
    expect("354 250 250");
    assert_int_equal(f.opens, 1);
    struct slice body = buf_slice(&f.body);
    ptrdiff_t at = slice_find(body, SLICE_LIT("\r\n\r\n"));
    assert_int_equal(body.n - (size_t)at - 4, 2 * sizeof(text));
    assert_memory_equal(body.p + at + 4, text, sizeof(text));
    assert_int_equal(f.drops, 0);
}

static void test_the_message_id_survives_a_body_that_arrives_with_the_header(void **state)
{
    (void)state;
    static char text[60000];
    static const char top[] = "DATA\r\nMessage-ID: <m@x>\r\n\r\n";
    hello();
    envelope();
    memset(text, 'y', sizeof(text));
    memcpy(text, top, sizeof(top) - 1);
    for (size_t i = 70; i + 2 <= sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    memcpy(text + sizeof(text) - 5, "\r\n.\r\n", 5);
    send_bytes(slice_from(text, sizeof(text)));
    expect("354 250");
    struct envelope e;
    struct reader reader = reader_of(buf_slice(&f.envelope));
    assert_int_equal(record_get(&reader, &envelope_record, &e), OK);
    assert_true(slice_is(e.message_id, "<m@x>"));
}

static void test_no_room_for_a_big_body_is_452(void **state)
{
    (void)state;
    static char text[72000];
    f.no_file = true;
    hello();
    envelope();
    memset(text, 'y', sizeof(text));
    for (size_t i = 70; i + 2 <= sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    say("DATA\r\nSubject: big\r\n\r\n");
    send_bytes(slice_from(text, sizeof(text)));
    say(".\r\nNOOP\r\n");
    expect("354 452 250");
    assert_int_equal(f.accepts, 0);
}

static void test_many_recipients_travel_ahead_of_the_message(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<>\r\nRCPT TO:<many-a@example.test>\r\nRCPT TO:<many-b@example.test>\r\n"
        "DATA\r\nx\r\n.\r\n");
    expect("250 250 250 354 250");
    assert_in_range(f.mores, 1, 9);
    struct reader reader = reader_of(buf_slice(&f.recipients));
    struct recipient r;
    unsigned count = 0;
    while (reader.rest.n && record_get(&reader, &recipient_record, &r) == OK)
        count++;
    assert_int_equal(count, 800);
}

static void test_the_same_recipient_twice_is_one(void **state)
{
    (void)state;
    hello();
    envelope();
    say("RCPT TO:<alice@EXAMPLE.test>\r\nDATA\r\nx\r\n.\r\n");
    expect("250 354 250");
    struct reader reader = reader_of(buf_slice(&f.recipients));
    struct recipient r;
    assert_int_equal(record_get(&reader, &recipient_record, &r), OK);
    assert_true(reader_done(&reader));
}

static void test_rset_lets_qmgr_drop_nothing_it_never_had(void **state)
{
    (void)state;
    hello();
    envelope();
    say("RSET\r\n");
    expect("250");
    assert_int_equal(f.drops, 0);
}

/* --- relaying, networks, the local socket, LMTP --- */

static void test_relaying_is_refused_for_loopback_and_allowed_for_networks(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<x@far.test>\r\n");
    expect("250 554");
    fd_close(&f.client);
    spin();
    connect_client("smtp", "192.0.2.77");
    say("EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@far.test>\r\n");
    expect("220 250 250 250");
}

static void test_a_domain_is_needed_except_for_postmaster(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<root>\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob>\r\nRCPT TO:<PostMaster>\r\n");
    expect("501 250 501 250");
}

/* RFC 5321 §4.5.1, §4.1.3 */
static void test_a_literal_of_ours_is_our_host_name(void **state)
{
    (void)state;
    hello(); /* over a pair of sockets: loopback is our end */
    say("MAIL FROM:<a@b.test>\r\nRCPT TO:<postmaster@[127.0.0.1]>\r\n"
        "RCPT TO:<bob@[IPv6:::1]>\r\nRCPT TO:<bob@[IPv6:0:0::ffff:127.0.0.1]>\r\n"
        "RCPT TO:<postmaster@[192.0.2.1]>\r\nRCPT TO:<bob@[IPv6:2001:db8::1]>\r\n"
        "DATA\r\nA: b\r\n\r\nx\r\n.\r\n");
    expect("250 250 250 250 554 554 354 250");
    struct reader r = reader_of(buf_slice(&f.recipients));
    struct recipient to;
    assert_int_equal(record_get(&r, &recipient_record, &to), OK);
    assert_true(slice_is(to.address, "postmaster@mx.example.test"));
    assert_int_equal(record_get(&r, &recipient_record, &to), OK);
    assert_true(slice_is(to.address, "bob@mx.example.test"));
}

static void test_submitted_messages_are_completed(void **state)
{
    (void)state;
    connect_client("submit", "uid:1000");
    say("EHLO x\r\nMAIL FROM:<root>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nTo: x\r\n\r\nx\r\n.\r\n");
    expect("220 250 250 250 354 250");
    assert_true(
        body_has("Received: by mx.example.test (Veredus, from userid 1000) with ESMTP id "));
    assert_true(body_has("\r\nDate: "));
    assert_true(body_has("\r\nMessage-ID: <"));
    assert_true(body_has("\r\nFrom: <root@mx.example.test>\r\n"));
}

static void test_bcc_of_a_submitted_message_goes_and_stays_in_others(void **state)
{
    (void)state;
    connect_client("submit", "uid:1000");
    say("EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nTo: x\r\nBCC: secret\r\n"
        " more\r\nCc: y\r\n\r\nBcc: text\r\n.\r\n");
    expect("220 250 250 250 354 250");
    assert_true(slice_ends(buf_slice(&f.body), "\r\nTo: x\r\nCc: y\r\n\r\nBcc: text\r\n"));
    fd_close(&f.client);
    spin();
    hello();
    envelope();
    say("DATA\r\nBcc: z\r\n\r\nx\r\n.\r\n");
    expect("354 250");
    assert_true(slice_ends(buf_slice(&f.body), "\r\nBcc: z\r\n\r\nx\r\n"));
}

static void test_text_without_a_header_does_not_become_one(void **state)
{
    (void)state;
    connect_client("submit", "uid:1000");
    say("EHLO x\r\nMAIL FROM:<root>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nhello there\r\n.\r\n");
    expect("220 250 250 250 354 250");
    assert_true(slice_ends(buf_slice(&f.body), "\r\n\r\nhello there\r\n"));
}

static void test_lmtp_answers_for_each_accepted_recipient(void **state)
{
    (void)state;
    connect_client("lmtp", "127.0.0.1");
    say("EHLO x\r\nHELO x\r\nLHLO x\r\nMAIL FROM:<>\r\nDATA\r\nRCPT TO:<alice@example.test>\r\n"
        "RCPT TO:<nobody@example.test>\r\nRCPT "
        "TO:<bob@example.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n");
    expect("220 500 500 250 250 503 250 550 250 354 250 250 221");
    assert_true(body_has(" with LMTP id "));
}

/* --- others fail --- */

static void lose(size_t i)
{
    ipc_free(f.others[i]);
    f.others[i] = NULL;
    f.peers[i].ipc = NULL; /* freed by its own close */
    list_remove(&f.peers[i].link);
    spin();
}

static void test_without_lookupd_rcpt_is_451(void **state)
{
    (void)state;
    hello();
    lose(0);
    say("MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n");
    expect("250 451 250");
}

static void test_without_qmgr_the_message_is_451(void **state)
{
    (void)state;
    hello();
    envelope();
    lose(1);
    say("DATA\r\nx\r\n.\r\nNOOP\r\n");
    assert_true(reply_has("451 4.3.0 "));
    expect("354 451 250");
}

static void test_qmgr_dying_before_its_answer_is_451(void **state)
{
    (void)state;
    f.qmgr_silent = true;
    hello();
    envelope();
    say("DATA\r\nx\r\n.\r\nNOOP\r\n");
    expect("");
    lose(1);
    expect("354 451 250");
}

static void test_a_client_that_leaves_while_others_work_is_forgotten(void **state)
{
    (void)state;
    f.lookup_silent = true;
    hello();
    say("MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\n");
    fd_close(&f.client);
    spin();
    struct route_verdict v = {.code = 550, .dsn = SLICE_LIT("5.1.1")};
    ipc_reply(f.others[0], f.held, 0, route_verdict_type, &v, -1);
    spin();
    assert_int_equal(f.server.nsessions, 0);
}

static void test_commands_wait_while_lookupd_thinks(void **state)
{
    (void)state;
    f.lookup_silent = true;
    hello();
    say("MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n");
    expect("");
    struct route_verdict v = {.code = 451, .dsn = SLICE_LIT("4.4.3"), .text = SLICE_LIT("later")};
    ipc_reply(f.others[0], f.held, 0, route_verdict_type, &v, -1);
    spin();
    expect("250 451 250");
}

static void test_silence_is_421_after_the_timeout(void **state)
{
    (void)state;
    hello();
    loop_advance(f.daemon.loop, 59000);
    spin();
    expect("");
    loop_advance(f.daemon.loop, 2000);
    spin();
    assert_true(reply_has("421 4.4.2 "));
    expect("421");
    assert_true(ended());
}

static void test_draining_ends_idle_sessions_and_finishes_others(void **state)
{
    (void)state;
    hello();
    envelope();
    f.daemon.draining = true;
    LIST_EACH(it, &f.server.sessions)
    session_shut_down(LIST_ENTRY(it, struct session, link));
    say("DATA\r\nx\r\n.\r\n");
    expect("354 250 421");
    assert_int_equal(f.accepts, 1);
}

static void shut_down(void)
{
    f.daemon.draining = true;
    LIST_EACH(it, &f.server.sessions)
    session_shut_down(LIST_ENTRY(it, struct session, link));
    spin();
}

static void test_a_client_that_came_before_draining_may_send_one_message(void **state)
{
    (void)state;
    hello();
    shut_down();
    expect("");
    envelope();
    say("DATA\r\nx\r\n.\r\n");
    expect("354 250 421");
    assert_int_equal(f.accepts, 1);
}

static void test_draining_waits_two_seconds_for_a_client_that_says_nothing(void **state)
{
    (void)state;
    hello();
    shut_down();
    loop_advance(f.daemon.loop, SESSION_GRACE_MS - 1);
    spin();
    say("NOOP\r\n");
    expect("250");
    loop_advance(f.daemon.loop, 1);
    spin();
    assert_true(reply_has("421 4.3.2 "));
    expect("421");
    assert_true(ended());
}

static void test_draining_ends_a_client_that_has_been_idle_for_longer_at_once(void **state)
{
    (void)state;
    hello();
    loop_advance(f.daemon.loop, SESSION_GRACE_MS);
    spin();
    shut_down();
    expect("421");
    assert_true(ended());
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_big_body_goes_to_the_lent_file),
        TEST(test_the_message_id_survives_a_body_that_arrives_with_the_header),
        TEST(test_no_room_for_a_big_body_is_452),
        TEST(test_many_recipients_travel_ahead_of_the_message),
        TEST(test_the_same_recipient_twice_is_one),
        TEST(test_rset_lets_qmgr_drop_nothing_it_never_had),
        TEST(test_relaying_is_refused_for_loopback_and_allowed_for_networks),
        TEST(test_a_domain_is_needed_except_for_postmaster),
        TEST(test_a_literal_of_ours_is_our_host_name),
        TEST(test_submitted_messages_are_completed),
        TEST(test_bcc_of_a_submitted_message_goes_and_stays_in_others),
        TEST(test_text_without_a_header_does_not_become_one),
        TEST(test_lmtp_answers_for_each_accepted_recipient),
        TEST(test_without_lookupd_rcpt_is_451),
        TEST(test_without_qmgr_the_message_is_451),
        TEST(test_qmgr_dying_before_its_answer_is_451),
        TEST(test_a_client_that_leaves_while_others_work_is_forgotten),
        TEST(test_commands_wait_while_lookupd_thinks),
        TEST(test_silence_is_421_after_the_timeout),
        TEST(test_draining_ends_idle_sessions_and_finishes_others),
        TEST(test_a_client_that_came_before_draining_may_send_one_message),
        TEST(test_draining_waits_two_seconds_for_a_client_that_says_nothing),
        TEST(test_draining_ends_a_client_that_has_been_idle_for_longer_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
