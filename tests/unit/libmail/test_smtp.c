#include "libmail/base64.h"
#include "libmail/smtp_data.h"
#include "libmail/smtp_grammar.h"
#include "libmail/smtp_reply.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

enum { ALL_EXT = 31 };

struct fixture {
    struct arena arena;
    struct smtp_mail mail;
    struct smtp_rcpt rcpt;
    struct smtp_refusal why;
};

static struct fixture f;

static int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    arena_init(&f.arena, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&f.arena);
    return 0;
}

static int mail(const char *args, unsigned ext)
{
    return smtp_parse_mail(slice_of(args), ext, &f.arena, &f.mail, &f.why);
}

static int rcpt(const char *args)
{
    return smtp_parse_rcpt(slice_of(args), ALL_EXT, false, &f.arena, &f.rcpt, &f.why);
}

static void test_command_line_is_cut_at_the_first_space(void **state)
{
    (void)state;
    struct smtp_command c = smtp_command_split(SLICE_LIT("MAIL FROM:<a@b> SIZE=1  "));
    assert_true(slice_is(c.verb, "MAIL") && slice_is(c.args, "FROM:<a@b> SIZE=1"));
    c = smtp_command_split(SLICE_LIT("QUIT"));
    assert_true(slice_is(c.verb, "QUIT") && c.args.n == 0);
}

static void test_mail_with_all_parameters(void **state)
{
    (void)state;
    assert_int_equal(mail("FROM:<a@B.org> SIZE=1000 BODY=8bitmime RET=HDRS ENVID=QQ+2B314 "
                          "AUTH=e+3Dmc2@example.com SMTPUTF8",
                         ALL_EXT),
        OK);
    assert_string_equal(f.mail.sender.text, "a@b.org");
    assert_int_equal(f.mail.size, 1000);
    assert_int_equal(f.mail.body, BODY_8BITMIME);
    assert_int_equal(f.mail.ret, RET_HDRS);
    assert_true(slice_is(f.mail.envid, "QQ+314"));
    assert_true(slice_is(f.mail.auth, "e=mc2@example.com"));
    assert_true(f.mail.smtputf8);
}

static void test_mail_null_sender_and_space_behind_the_colon(void **state)
{
    (void)state;
    assert_int_equal(mail("from: <>", ALL_EXT), OK);
    assert_int_equal(f.mail.sender.len, 0);
}

/* As curl --mail-auth writes it. */
static void test_mail_auth_in_angle_brackets_is_understood(void **state)
{
    (void)state;
    assert_int_equal(mail("FROM:<a@b.org> AUTH=<c@d.org> SIZE=1", ALL_EXT), OK);
    assert_true(slice_is(f.mail.auth, "c@d.org"));
    assert_int_equal(mail("FROM:<a@b.org> AUTH=<>", ALL_EXT), OK);
    assert_true(slice_is(f.mail.auth, "<>"));
    assert_int_equal(mail("FROM:<a@b.org> AUTH=<c@d.org", ALL_EXT), ERR_SYNTAX);
    assert_int_equal(mail("FROM:<a@b.org> AUTH=<", ALL_EXT), ERR_SYNTAX);
}

static void assert_mail_refused(const char *args, unsigned code, const char *dsn)
{
    assert_int_equal(mail(args, ALL_EXT & ~SMTP_EXT_SMTPUTF8), ERR_SYNTAX);
    assert_int_equal(f.why.code, code);
    assert_string_equal(f.why.dsn, dsn);
}

static void test_mail_syntax_errors(void **state)
{
    (void)state;
    assert_mail_refused("", 501, "5.5.4");
    assert_mail_refused("<a@b>", 501, "5.5.4");
    assert_mail_refused("TO:<a@b>", 501, "5.5.4");
    assert_mail_refused("FROM:a@b", 501, "5.1.7");
    assert_mail_refused("FROM:<a@b", 501, "5.1.7");
    assert_mail_refused("FROM:<a@b>SIZE=1", 501, "5.1.7");
    assert_mail_refused("FROM:<a b@c>", 501, "5.1.7");
}

static void test_mail_parameter_errors(void **state)
{
    (void)state;
    assert_mail_refused("FROM:<a@b> FOO=1", 555, "5.5.4");
    assert_mail_refused("FROM:<a@b> SMTPUTF8", 555, "5.5.4");
    assert_mail_refused("FROM:<a@b> SIZE=1 SIZE=1", 501, "5.5.4");
    assert_mail_refused("FROM:<a@b> SIZE", 501, "5.5.4");
    assert_mail_refused("FROM:<a@b> SIZE=x", 501, "5.5.4");
    assert_mail_refused("FROM:<a@b> SIZE=-1", 501, "5.5.4");
    assert_mail_refused("FROM:<a@b> BODY=9BIT", 501, "5.5.4");
    assert_mail_refused("FROM:<a@b> RET=ALL", 501, "5.5.4");
    assert_mail_refused("FROM:<a@b> ENVID=a+0A", 501, "5.5.4");
    assert_mail_refused("FROM:<\xc3\xa9@b>", 553, "5.6.7");
}

static void test_mail_size_beyond_64_bits_is_huge_not_an_error(void **state)
{
    (void)state;
    assert_int_equal(mail("FROM:<a@b> SIZE=99999999999999999999", ALL_EXT), OK);
    assert_true(f.mail.size == UINT64_MAX);
}

static void test_a_parameter_not_offered_is_555(void **state)
{
    (void)state;
    assert_int_equal(mail("FROM:<a@b> RET=FULL", ALL_EXT & ~SMTP_EXT_DSN), ERR_SYNTAX);
    assert_int_equal(f.why.code, 555);
}

static void test_rcpt_with_dsn_parameters(void **state)
{
    (void)state;
    assert_int_equal(rcpt("TO:<b@c> NOTIFY=success,DELAY ORCPT=rfc822;Bob+2Bx@c.example"), OK);
    assert_int_equal(f.rcpt.notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    assert_true(slice_is(f.rcpt.orcpt, "rfc822;Bob+x@c.example"));
    assert_int_equal(rcpt("TO:<b@c> NOTIFY=NEVER"), OK);
    assert_int_equal(f.rcpt.notify, NOTIFY_NEVER);
}

static void assert_rcpt_refused(const char *args, unsigned code, const char *dsn)
{
    assert_int_equal(rcpt(args), ERR_SYNTAX);
    assert_int_equal(f.why.code, code);
    assert_string_equal(f.why.dsn, dsn);
}

static void test_rcpt_errors(void **state)
{
    (void)state;
    assert_rcpt_refused("TO:<>", 501, "5.1.3");
    assert_rcpt_refused("TO:b@c", 501, "5.1.3");
    assert_rcpt_refused("FROM:<b@c>", 501, "5.5.4");
    assert_rcpt_refused("TO:<b@c> NOTIFY=NEVER,DELAY", 501, "5.5.4");
    assert_rcpt_refused("TO:<b@c> NOTIFY=", 501, "5.5.4");
    assert_rcpt_refused("TO:<b@c> ORCPT=rfc822", 501, "5.5.4");
    assert_rcpt_refused("TO:<b@c> ORCPT=;x", 501, "5.5.4");
    assert_rcpt_refused("TO:<b@c> SIZE=1", 555, "5.5.4");
}

static void test_xtext_round_trip(void **state)
{
    (void)state;
    struct buf enc, dec;
    buf_init(&enc, 100);
    buf_init(&dec, 100);
    assert_int_equal(xtext_encode(SLICE_LIT("a+b=c d\x7f"), &enc), OK);
    assert_true(slice_is(buf_slice(&enc), "a+2Bb+3Dc+20d+7F"));
    assert_int_equal(xtext_decode(buf_slice(&enc), &dec), OK);
    assert_true(slice_is(buf_slice(&dec), "a+b=c d\x7f"));
    assert_int_equal(xtext_decode(SLICE_LIT("a+2"), &dec), ERR_SYNTAX);
    assert_int_equal(xtext_decode(SLICE_LIT("a+2b"), &dec), ERR_SYNTAX);
    assert_int_equal(xtext_decode(SLICE_LIT("a b"), &dec), ERR_SYNTAX);
    buf_clear(&enc);
    buf_clear(&dec);
}

/* Feeds text in pieces of `piece` octets; returns how many octets were consumed. */
static size_t feed(struct smtp_data *d, const char *text, size_t n, size_t piece, struct buf *out)
{
    size_t used = 0;
    smtp_data_init(d, 1000, 100);
    while (used < n && !smtp_data_done(d)) {
        struct slice part = slice_first(slice_from(text + used, n - used), piece);
        used += smtp_data_feed(d, part, out);
    }
    return used;
}

static void assert_data(
    const char *text, size_t n, const char *content, size_t consumed, enum smtp_data_fault fault)
{
    for (size_t piece = 1; piece <= n; piece++) {
        struct smtp_data d;
        struct buf out;
        buf_init(&out, 2000);
        assert_int_equal(feed(&d, text, n, piece, &out), consumed);
        assert_int_equal(d.fault, fault);
        assert_true(smtp_data_done(&d));
        if (fault == SMTP_DATA_GOOD)
            assert_true(slice_is(buf_slice(&out), content));
        buf_clear(&out);
    }
}
#define ASSERT_DATA(text, content, consumed, fault) \
    assert_data(text, sizeof(text) - 1, content, consumed, fault)

static void test_data_ends_at_crlf_dot_crlf_and_dots_are_unstuffed(void **state)
{
    (void)state;
    ASSERT_DATA("a\r\n..b\r\n...\r\n.\r\nQUIT", "a\r\n.b\r\n..\r\n", 16, SMTP_DATA_GOOD);
    ASSERT_DATA(".\r\n", "", 3, SMTP_DATA_GOOD);
    ASSERT_DATA("\r\n.\r\n", "\r\n", 5, SMTP_DATA_GOOD);
    ASSERT_DATA(".a\r\n.\r\n", "a\r\n", 7, SMTP_DATA_GOOD);
}

static void test_data_bare_line_ends_never_end_it_and_are_a_fault(void **state)
{
    (void)state;
    ASSERT_DATA("a\n.\nb\r\n.\r\n", "", 10, SMTP_DATA_BARE_LF);
    ASSERT_DATA("a\n.\r\nb\r\n.\r\n", "", 11, SMTP_DATA_BARE_LF);
    ASSERT_DATA("a\r\n.\nb\r\n.\r\n", "", 11, SMTP_DATA_BARE_LF);
    ASSERT_DATA("a\r.\rb\r\n.\r\n", "", 10, SMTP_DATA_BARE_CR);
    ASSERT_DATA("a\r\n.\rb\r\n.\r\n", "", 11, SMTP_DATA_BARE_CR);
    ASSERT_DATA("a\r\n.\r\r\n.\r\n", "", 10, SMTP_DATA_BARE_CR);
    ASSERT_DATA("a\r.\r\nb\r\n.\r\n", "", 11, SMTP_DATA_BARE_CR);
    ASSERT_DATA("a\n\r\n.\r\n", "", 7, SMTP_DATA_BARE_LF);
}

static void test_data_nul_is_a_fault(void **state)
{
    (void)state;
    ASSERT_DATA("a\0b\r\n.\r\n", "", 8, SMTP_DATA_NUL);
}

/* Octets are looked at eight at a time: each must be seen wherever it is. */
static void test_data_every_octet_is_seen_at_every_place(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++)
        for (size_t at = 0; at < 20; at++) {
            char text[] = "xaaaaaaaaaaaaaaaaaaaaa\r\n.\r\n";
            struct smtp_data whole, single;
            struct buf a, b;
            buf_init(&a, 100);
            buf_init(&b, 100);
            text[1 + at] = (char)c;
            size_t n = feed(&whole, text, sizeof(text) - 1, sizeof(text), &a);
            assert_int_equal(n, feed(&single, text, sizeof(text) - 1, 1, &b));
            assert_int_equal(whole.fault, single.fault);
            assert_int_equal(whole.eight_bit, c >= 0x80);
            assert_int_equal(single.eight_bit, c >= 0x80);
            assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
            buf_clear(&a);
            buf_clear(&b);
        }
}

static void test_data_long_line_and_size_are_faults(void **state)
{
    (void)state;
    struct smtp_data d;
    struct buf out;
    char text[1200];
    buf_init(&out, 2000);
    memset(text, 'x', sizeof(text));
    smtp_data_init(&d, 1000, 100);
    smtp_data_feed(&d, slice_from(text, 100), &out);
    assert_int_equal(d.fault, SMTP_DATA_GOOD);
    smtp_data_feed(&d, slice_from(text, 1), &out);
    assert_int_equal(d.fault, SMTP_DATA_LONG_LINE);
    smtp_data_init(&d, 1000, 5000);
    smtp_data_feed(&d, slice_from(text, 1000), &out);
    assert_int_equal(d.fault, SMTP_DATA_GOOD);
    smtp_data_feed(&d, slice_from(text, 1), &out);
    assert_int_equal(d.fault, SMTP_DATA_TOO_BIG);
    assert_int_equal(d.size, 1001);
    assert_int_equal(buf_len(&out), 1100);
    buf_clear(&out);
}

static void assert_stuffed(const char *content, const char *wire)
{
    for (size_t piece = 1; piece <= strlen(content) + 1; piece++) {
        struct smtp_stuff s;
        struct buf out;
        struct slice rest = slice_of(content);
        buf_init(&out, 1000);
        smtp_stuff_init(&s);
        while (rest.n) {
            assert_int_equal(smtp_stuff_feed(&s, slice_first(rest, piece), &out), OK);
            rest = slice_from_index(rest, piece);
        }
        assert_int_equal(smtp_stuff_end(&s, &out), OK);
        assert_true(slice_is(buf_slice(&out), wire));
        buf_clear(&out);
    }
}

static void test_stuffing(void **state)
{
    (void)state;
    assert_stuffed("", ".\r\n");
    assert_stuffed("a\r\n.b\r\n.\r\n", "a\r\n..b\r\n..\r\n.\r\n");
    assert_stuffed(".a.b", "..a.b\r\n.\r\n");
}

static int read_reply(struct smtp_reply *r, const char *text, struct buf *in)
{
    buf_init(in, 65536);
    smtp_reply_init(r);
    buf_puts(in, text);
    return smtp_reply_read(r, in);
}

static void test_reply_of_several_lines(void **state)
{
    (void)state;
    struct smtp_reply r;
    struct buf in, out;
    struct slice params;
    buf_init(&out, 1000);
    assert_int_equal(read_reply(&r,
                         "250-mx.example greets you\r\n250-SIZE 1000\r\n250-AUTH PLAIN "
                         "LOGIN\r\n250 STARTTLS\r\n354 go\r\n",
                         &in),
        1);
    assert_int_equal(r.code, 250);
    assert_int_equal(r.lines, 4);
    assert_true(slice_is(smtp_reply_line(&r, 0), "mx.example greets you"));
    assert_true(smtp_reply_offers(&r, "starttls", NULL));
    assert_true(smtp_reply_offers(&r, "AUTH", &params));
    assert_true(slice_is(params, "PLAIN LOGIN"));
    assert_false(smtp_reply_offers(&r, "PIPELINING", NULL));
    smtp_reply_reset(&r);
    assert_int_equal(smtp_reply_read(&r, &in), 1);
    assert_int_equal(r.code, 354);
    smtp_reply_reset(&r);
    assert_int_equal(smtp_reply_read(&r, &in), 0);
    smtp_reply_clear(&r);
    buf_clear(&in);
    buf_clear(&out);
}

static void test_reply_with_enhanced_code(void **state)
{
    (void)state;
    struct smtp_reply r;
    struct buf in, out;
    buf_init(&out, 1000);
    assert_int_equal(read_reply(&r, "550-5.1.1 no\r\n550 5.1.1 user\x01\r\n", &in), 1);
    assert_string_equal(r.dsn, "5.1.1");
    smtp_reply_print(&r, &out);
    assert_true(slice_is(buf_slice(&out), "550 5.1.1 no user?"));
    smtp_reply_clear(&r);
    buf_clear(&in);
    assert_int_equal(read_reply(&r, "250 5.1.1 class differs\r\n", &in), 1);
    assert_string_equal(r.dsn, "");
    smtp_reply_clear(&r);
    buf_clear(&in);
    buf_clear(&out);
}

static void test_reply_arriving_in_pieces(void **state)
{
    (void)state;
    struct smtp_reply r;
    struct buf in;
    assert_int_equal(read_reply(&r, "220-a\r\n22", &in), 0);
    buf_puts(&in, "0 b\r\n");
    assert_int_equal(smtp_reply_read(&r, &in), 1);
    assert_int_equal(r.lines, 2);
    smtp_reply_clear(&r);
    buf_clear(&in);
}

static void test_replies_that_are_not_smtp(void **state)
{
    (void)state;
    static const char *const bad[] = {"SSH-2.0\r\n", "25\r\n", "250_x\r\n", "199 x\r\n",
        "650 x\r\n", "250-a\r\n251 b\r\n", "\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct smtp_reply r;
        struct buf in;
        assert_int_equal(read_reply(&r, bad[i], &in), ERR_SYNTAX);
        smtp_reply_clear(&r);
        buf_clear(&in);
    }
}

static void test_base64_vectors_of_rfc4648(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xff\xfe", "//4="}};
    struct buf b;
    buf_init(&b, 100);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_reset(&b);
        assert_int_equal(base64_encode(slice_of(pairs[i][0]), &b), OK);
        assert_true(slice_is(buf_slice(&b), pairs[i][1]));
        buf_reset(&b);
        assert_int_equal(base64_decode(slice_of(pairs[i][1]), &b), OK);
        assert_true(slice_is(buf_slice(&b), pairs[i][0]));
    }
    static const char *const bad[] = {
        "Z", "Zg=", "Zg", "Zh==", "Zm9=", "Z===", "====", "Zm=v", "Zm9v\n", "Zm 9", "Zg==Zg=="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(base64_decode(slice_of(bad[i]), &b), ERR_SYNTAX);
    buf_clear(&b);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_command_line_is_cut_at_the_first_space),
        TEST(test_mail_with_all_parameters),
        TEST(test_mail_null_sender_and_space_behind_the_colon),
        TEST(test_mail_auth_in_angle_brackets_is_understood),
        TEST(test_mail_syntax_errors),
        TEST(test_mail_parameter_errors),
        TEST(test_mail_size_beyond_64_bits_is_huge_not_an_error),
        TEST(test_a_parameter_not_offered_is_555),
        TEST(test_rcpt_with_dsn_parameters),
        TEST(test_rcpt_errors),
        TEST(test_xtext_round_trip),
        TEST(test_data_ends_at_crlf_dot_crlf_and_dots_are_unstuffed),
        TEST(test_data_bare_line_ends_never_end_it_and_are_a_fault),
        TEST(test_data_nul_is_a_fault),
        TEST(test_data_every_octet_is_seen_at_every_place),
        TEST(test_data_long_line_and_size_are_faults),
        TEST(test_stuffing),
        TEST(test_reply_of_several_lines),
        TEST(test_reply_with_enhanced_code),
        TEST(test_reply_arriving_in_pieces),
        TEST(test_replies_that_are_not_smtp),
        TEST(test_base64_vectors_of_rfc4648),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
