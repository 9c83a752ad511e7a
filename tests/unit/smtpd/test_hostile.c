/* Smuggling, garbage and excess. */
#include "tests/unit/smtpd/fixture.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- hostile input --- */

static void test_only_crlf_dot_crlf_ends_data_and_other_line_ends_are_550(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char text[300];
        if (i == 0)
            hello();
        envelope();
        snprintf(text, sizeof(text),
            "DATA\r\nSubject: x\r\n\r\na%sMAIL FROM:<evil@x.test>\r\nRCPT TO:<bob@example.test>\r\n"
            "DATA\r\nevil\r\n.\r\nNOOP\r\n",
            ends[i]);
        say(text);
        expect("354 550 250");
    }
    assert_int_equal(f.accepts, 0);
}

static void test_nul_in_data_is_550(void **state)
{
    (void)state;
    hello();
    envelope();
    send_bytes(SLICE_LIT("DATA\r\na\0b\r\n.\r\nNOOP\r\n"));
    expect("354 550 250");
}

static void test_bare_lf_does_not_end_a_command(void **state)
{
    (void)state;
    hello();
    say("NOOP\nNOOP\r\nNOOP\rNOOP\r\nRSET\r\n");
    expect("500 500 250");
}

static void test_nul_in_a_command_is_500(void **state)
{
    (void)state;
    hello();
    send_bytes(SLICE_LIT("NO\0OP\r\nNOOP\r\n"));
    expect("500 250");
}

static void test_an_over_long_line_is_500_once_and_the_next_is_understood(void **state)
{
    (void)state;
    char text[9000];
    hello();
    memset(text, 'x', sizeof(text));
    send_bytes(slice_from(text, sizeof(text)));
    expect("500");
    send_bytes(slice_from(text, sizeof(text)));
    say("NOOP\r\nNOOP\r\n");
    expect("250");
    memcpy(text, "NOOP ", 5);
    memcpy(text + 4000, "\r\n", 2);
    send_bytes(slice_from(text, 4002));
    expect("250");
}

static void test_a_long_line_ended_by_crlf_cut_between_reads(void **state)
{
    (void)state;
    char text[5000];
    hello();
    memset(text, 'x', sizeof(text));
    text[4999] = '\r';
    send_bytes(slice_from(text, sizeof(text)));
    say("\nNOOP\r\n");
    expect("500 250");
}

static void test_an_endless_line_ends_the_session(void **state)
{
    (void)state;
    static char text[65536];
    hello();
    memset(text, 'x', sizeof(text));
    for (int i = 0; i < 17; i++) {
        (void)!send(f.client, text, sizeof(text), MSG_DONTWAIT | MSG_NOSIGNAL);
        spin();
    }
    expect("500 421");
}

static void test_too_many_errors_are_421(void **state)
{
    (void)state;
    hello();
    say("A\r\nB\r\nC\r\nD\r\nE\r\nF\r\nG\r\nH\r\nI\r\nJ\r\nK\r\nNOOP\r\n");
    expect("500 500 500 500 500 500 500 500 500 500 421");
    assert_true(ended());
}

static void test_http_is_cut_off(void **state)
{
    (void)state;
    connect_client("smtp", "127.0.0.1");
    say("POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n");
    expect("220 421");
    assert_true(ended());
}

static void test_a_message_over_the_limit_is_552_and_read_to_its_end(void **state)
{
    (void)state;
    static char text[70000];
    hello();
    say("MAIL FROM:<a@b.test> SIZE=204801\r\n");
    expect("552");
    envelope();
    say("DATA\r\nSubject: x\r\n\r\n");
    memset(text, 'x', sizeof(text));
    for (size_t i = 70; i + 2 < sizeof(text); i += 72)
        memcpy(text + i, "\r\n", 2);
    for (int i = 0; i < 4; i++)
        send_bytes(slice_from(text, sizeof(text)));
    say("\r\n.\r\nNOOP\r\n");
    expect("354 552 250");
    assert_int_equal(f.accepts, 0);
    assert_int_equal(f.drops, 1);
}

static void test_a_hundred_received_fields_are_a_loop(void **state)
{
    (void)state;
    hello();
    envelope();
    say("DATA\r\n");
    for (int i = 0; i < 100; i++)
        say("Received: x\r\n");
    say("\r\nx\r\n.\r\n");
    assert_true(reply_has("554 5.4.6 "));
    expect("354 554");
}

static void test_too_many_recipients_are_452(void **state)
{
    (void)state;
    hello();
    say("MAIL FROM:<>\r\n");
    for (char c = 'a'; c <= 'f'; c++) {
        char text[64];
        snprintf(text, sizeof(text), "RCPT TO:<%c@example.test>\r\n", c);
        say(text);
    }
    assert_true(reply_has("452 4.5.3 "));
    expect("250 250 250 250 250 250 452");
}

static void test_what_follows_starttls_in_plaintext_is_never_obeyed(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf cert, key;
    buf_init(&cert, 65536);
    buf_init(&key, 65536);
    assert_int_equal(tls_self_signed("mx.example.test", &cert, &key, &err), OK);
    f.server.tls = tls_server_new(buf_slice(&cert), &err);
    assert_non_null(f.server.tls);
    hello();
    envelope();
    say("STARTTLS\r\nRSET\r\nMAIL FROM:<evil@x.test>\r\nNOOP\r\n");
    expect("220");
    say("NOOP\r\n"); /* no handshake: the end */
    expect("");
    assert_true(ended());
    fd_close(&f.client);
    spin();
    tls_context_free(f.server.tls);
    f.server.tls = NULL;
    buf_clear(&cert);
    buf_wipe(&key);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_only_crlf_dot_crlf_ends_data_and_other_line_ends_are_550),
        TEST(test_nul_in_data_is_550),
        TEST(test_bare_lf_does_not_end_a_command),
        TEST(test_nul_in_a_command_is_500),
        TEST(test_an_over_long_line_is_500_once_and_the_next_is_understood),
        TEST(test_a_long_line_ended_by_crlf_cut_between_reads),
        TEST(test_what_follows_starttls_in_plaintext_is_never_obeyed),
        TEST(test_an_endless_line_ends_the_session),
        TEST(test_too_many_errors_are_421),
        TEST(test_http_is_cut_off),
        TEST(test_a_message_over_the_limit_is_552_and_read_to_its_end),
        TEST(test_a_hundred_received_fields_are_a_loop),
        TEST(test_too_many_recipients_are_452),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
