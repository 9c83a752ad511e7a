#include "ctl/letter.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static struct letter l;
static struct buf seen;

static void open_letter(const char *text, size_t n, bool dot_ends)
{
    struct error err = {0};
    int fd = memfd_create("letter", 0);
    assert_int_equal(write(fd, text, n), n);
    lseek(fd, 0, SEEK_SET);
    letter_init(&l, fd, dot_ends);
    buf_init(&seen, 65536);
    assert_int_equal(letter_read_header(&l, &err), OK);
}

static void close_letter(void)
{
    close(l.fd);
    letter_clear(&l);
    buf_clear(&seen);
}

static struct slice rest_of_letter(void)
{
    int rc;
    struct error err;
    while (letter_read(&l, &rc, &err))
        ;
    assert_int_equal(rc, OK);
    return buf_slice(&l.text);
}

static void assert_letter(
    const char *text, size_t n, bool dot_ends, const char *header, const char *body)
{
    open_letter(text, n, dot_ends);
    assert_true(slice_is(buf_slice(&l.header), header));
    assert_true(slice_is(rest_of_letter(), body));
    close_letter();
}
#define ASSERT_LETTER(text, dot_ends, header, body) \
    assert_letter(text, sizeof(text) - 1, dot_ends, header, body)

static void test_line_ends_of_any_kind_become_crlf(void **state)
{
    (void)state;
    ASSERT_LETTER("To: a\n\nb\nc", true, "To: a\r\n", "b\r\nc\r\n");
    ASSERT_LETTER("To: a\r\n\r\nb\r\n", true, "To: a\r\n", "b\r\n");
    ASSERT_LETTER("To: a\n\nb\rc\r\r\nd", true, "To: a\r\n", "b\r\nc\r\n\r\nd\r\n");
    ASSERT_LETTER("To: a\n\nb\0c\n", true, "To: a\r\n", "bc\r\n");
}

static void test_a_lone_dot_ends_the_letter_unless_told_otherwise(void **state)
{
    (void)state;
    ASSERT_LETTER("To: a\n\nb\n.\nc\n", true, "To: a\r\n", "b\r\n");
    ASSERT_LETTER("To: a\n\nb\r\n.\r\nc\n", true, "To: a\r\n", "b\r\n");
    ASSERT_LETTER("To: a\n\nb\n.\nc\n", false, "To: a\r\n", "b\r\n.\r\nc\r\n");
    ASSERT_LETTER("To: a\n\n..\n.b\n", true, "To: a\r\n", "..\r\n.b\r\n");
    ASSERT_LETTER("To: a\n\n.", true, "To: a\r\n", "");
    ASSERT_LETTER(".\nx", true, "", "");
}

static void test_a_dot_cut_off_a_long_line_does_not_end_the_letter(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 2 * LETTER_LINE_MAX);
    buf_puts(&text, "To: a\n\n");
    for (int i = 0; i < LETTER_LINE_MAX; i++)
        buf_putc(&text, 'x');
    buf_puts(&text, ".\nend\n");
    open_letter(buf_slice(&text).p, buf_len(&text), true);
    assert_true(slice_ends(rest_of_letter(), "x\r\n.\r\nend\r\n"));
    close_letter();
    buf_clear(&text);
}

static void test_text_without_a_header_is_text(void **state)
{
    (void)state;
    ASSERT_LETTER("hello there\nTo: a\n", true, "", "hello there\r\nTo: a\r\n");
    ASSERT_LETTER("\nTo: a\n", true, "", "To: a\r\n");
    ASSERT_LETTER("", true, "", "");
    ASSERT_LETTER("To: a", true, "To: a\r\n", "");
}

static void test_the_line_of_an_mbox_is_dropped(void **state)
{
    (void)state;
    ASSERT_LETTER("From a@b Sat Nov 21\nTo: a\n\nx\n", true, "To: a\r\n", "x\r\n");
}

static int note(struct slice local, struct slice domain, void *arg)
{
    (void)arg;
    return buf_printf(&seen, "%.*s@%.*s;", SLICE_FMT(local), SLICE_FMT(domain));
}

static void assert_recipients(const char *text, const char *recipients, const char *header)
{
    struct error err = {0};
    open_letter(text, strlen(text), true);
    assert_int_equal(letter_recipients(&l, note, NULL, &err), OK);
    assert_true(slice_is(buf_slice(&seen), recipients));
    assert_true(slice_is(buf_slice(&l.header), header));
    close_letter();
}

static void test_recipients_come_from_the_header_and_bcc_goes(void **state)
{
    (void)state;
    assert_recipients("To: A <a@x>,\n b\nCc: g: c@y;\nbcc: d@z,\n e@z\nSubject: s\n\n",
        "a@x;b@;c@y;d@z;e@z;", "To: A <a@x>,\r\n b\r\nCc: g: c@y;\r\nSubject: s\r\n");
    assert_recipients("To: a@x\nResent-To: b@y\nResent-Bcc: c@z\n\n", "b@y;c@z;",
        "To: a@x\r\nResent-To: b@y\r\n");
}

static void test_malformed_addresses_are_an_error(void **state)
{
    (void)state;
    struct error err = {0};
    open_letter("To: a b c\n\n", 11, true);
    assert_int_equal(letter_recipients(&l, note, NULL, &err), ERR_SYNTAX);
    close_letter();
}

static void test_input_in_small_pieces_is_the_same(void **state)
{
    (void)state;
    static const char text[] = "Subject: folded\n again\nTo: a\n\n.x\n.\nno\n";
    struct error err = {0};
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
            (void)!write(fds[1], text + i, 1);
            usleep(200);
        }
        _exit(0);
    }
    close(fds[1]);
    letter_init(&l, fds[0], true);
    assert_int_equal(letter_read_header(&l, &err), OK);
    assert_true(slice_is(buf_slice(&l.header), "Subject: folded\r\n again\r\nTo: a\r\n"));
    assert_true(slice_is(rest_of_letter(), ".x\r\n"));
    close_letter();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_ends_of_any_kind_become_crlf),
        cmocka_unit_test(test_a_lone_dot_ends_the_letter_unless_told_otherwise),
        cmocka_unit_test(test_a_dot_cut_off_a_long_line_does_not_end_the_letter),
        cmocka_unit_test(test_text_without_a_header_is_text),
        cmocka_unit_test(test_the_line_of_an_mbox_is_dropped),
        cmocka_unit_test(test_recipients_come_from_the_header_and_bcc_goes),
        cmocka_unit_test(test_malformed_addresses_are_an_error),
        cmocka_unit_test(test_input_in_small_pieces_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
