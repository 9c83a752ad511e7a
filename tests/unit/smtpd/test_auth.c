/* AUTH. */
#include "tests/unit/smtpd/fixture.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- authentication --- */

#define GOOD "AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=" /* \0alice@example.test\0secret */
#define BAD "AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw=="  /* \0alice@example.test\0wrong */

static void submission(void)
{
    connect_client("submission", "127.0.0.1");
    say("EHLO x\r\n");
    assert_true(reply_has("250-AUTH PLAIN LOGIN\r\n"));
    expect("220 250");
}

static void test_submission_needs_login(void **state)
{
    (void)state;
    submission();
    say("MAIL FROM:<alice@example.test>\r\nAUTH PLAIN " GOOD
        "\r\nMAIL FROM:<alice@example.test>\r\n"
        "RCPT TO:<x@far.test>\r\n");
    expect("530 235 250 250");
}

static void test_auth_plain_and_login_by_challenge(void **state)
{
    (void)state;
    submission();
    say("AUTH PLAIN\r\n");
    expect("334");
    say(GOOD "\r\n");
    expect("235");
    say("AUTH PLAIN " GOOD "\r\n");
    expect("503");
    fd_close(&f.client);
    submission();
    say("AUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS50ZXN0\r\n");
    assert_true(reply_has("334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n"));
    say("c2VjcmV0\r\n");
    expect("334 334 235");
}

static void test_auth_failures(void **state)
{
    (void)state;
    submission();
    say("AUTH PLAIN " BAD "\r\nAUTH FROB\r\nAUTH PLAIN !!\r\nAUTH PLAIN =\r\nAUTH PLAIN AAAA\r\n");
    expect("535 504 501 501 501");
    say("AUTH\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN AHRlbXAAeA==\r\nNOOP\r\n");
    expect("501 334 501 454 250");
}

#define BAD5                                                                            \
    "AUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD \
    "\r\nAUTH PLAIN " BAD "\r\n"

static void test_five_failures_end_the_session_but_not_on_loopback(void **state)
{
    (void)state;
    submission();
    say(BAD5 "NOOP\r\n");
    expect("535 535 535 535 535 250");
    fd_close(&f.client);
    connect_client("submission", "198.51.100.1");
    f.service.plaintext_auth = PLAINTEXT_ALWAYS;
    say("EHLO x\r\n" BAD5);
    expect("220 250 535 535 535 535 535 421");
}

static void test_auth_is_not_offered_on_port_25_nor_in_plaintext_from_afar(void **state)
{
    (void)state;
    hello();
    say("AUTH PLAIN " GOOD "\r\n");
    expect("502");
    fd_close(&f.client);
    connect_client("submission", "198.51.100.1");
    say("EHLO x\r\n");
    assert_false(reply_has("AUTH"));
    say("AUTH PLAIN " GOOD "\r\n");
    expect("220 250 538");
}

static void test_auth_within_a_transaction_is_503(void **state)
{
    (void)state;
    submission();
    f.service.auth = DEMAND_OPTIONAL;
    say("MAIL FROM:<a@b.test>\r\nAUTH PLAIN " GOOD "\r\n");
    expect("250 503");
}

static void test_an_over_long_answer_ends_the_exchange(void **state)
{
    (void)state;
    static char text[9000];
    submission();
    say("AUTH PLAIN\r\n");
    memset(text, 'A', sizeof(text));
    send_bytes(slice_from(text, sizeof(text)));
    say("\r\nNOOP\r\n");
    assert_true(reply_has("500 5.5.6 "));
    expect("334 500 250");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_submission_needs_login),
        TEST(test_auth_plain_and_login_by_challenge),
        TEST(test_auth_failures),
        TEST(test_five_failures_end_the_session_but_not_on_loopback),
        TEST(test_auth_is_not_offered_on_port_25_nor_in_plaintext_from_afar),
        TEST(test_auth_within_a_transaction_is_503),
        TEST(test_an_over_long_answer_ends_the_exchange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
