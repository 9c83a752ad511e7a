/* Reading and writing mbox files. */
#include "libstore/mbox.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

#define FROM "From bob@example.test Sat Nov 21 02:00:00 2026\n"
enum { NOVEMBER = 1795226400 };

struct reading {
    FILE *file;
    struct mbox *mbox;
    struct mbox_message *m;
    struct buf text;
};

static struct reading start(const char *bytes, size_t n)
{
    struct reading r = {.file = tmpfile()};
    assert_non_null(r.file);
    assert_int_equal(fwrite(bytes, 1, n, r.file), n);
    rewind(r.file);
    r.mbox = mbox_new(r.file);
    buf_init(&r.text, 1 << 22);
    return r;
}

static struct reading start_text(const char *text)
{
    return start(text, strlen(text));
}

/* The next message whole; false when there is none. */
static bool next(struct reading *r)
{
    struct slice piece;
    buf_reset(&r->text);
    if (!mbox_next(r->mbox, &r->m))
        return false;
    while (mbox_piece(r->mbox, &piece)) {
        assert_true(piece.n > 0 && piece.n <= MBOX_PIECE);
        assert_int_equal(buf_put(&r->text, piece), OK);
    }
    return true;
}

static void assert_text(const struct reading *r, const char *want)
{
    if (!slice_is(buf_slice(&r->text), want))
        print_error("%.*s\n", SLICE_FMT(buf_slice(&r->text)));
    assert_true(slice_is(buf_slice(&r->text), want));
}

static void finish(struct reading *r)
{
    mbox_free(r->mbox);
    fclose(r->file);
    buf_clear(&r->text);
}

static void test_messages_are_divided_by_from_lines_after_an_empty_line(void **state)
{
    (void)state;
    struct reading r =
        start_text(FROM "Subject: a\n\nOne.\n\n\n" FROM "Subject: b\n\nTwo.\n" FROM "Three.\n\n");
    assert_true(next(&r));
    assert_text(&r, "Subject: a\n\nOne.\n\n");
    assert_int_equal(r.m->line, 1);
    assert_int_equal(r.m->date, NOVEMBER);
    assert_true(next(&r));
    assert_text(&r, "Subject: b\n\nTwo.\n" FROM "Three.\n");
    assert_int_equal(r.m->line, 7);
    assert_false(next(&r));
    finish(&r);
}

static void test_a_from_line_without_date_is_text(void **state)
{
    (void)state;
    struct reading r = start_text(FROM "Subject: a\n\nOne.\n\nFrom here on all is well 12:30\n");
    assert_true(next(&r));
    assert_text(&r, "Subject: a\n\nOne.\n\nFrom here on all is well 12:30\n");
    assert_false(next(&r));
    finish(&r);
}

static void test_quoted_from_lines_lose_one_mark(void **state)
{
    (void)state;
    struct reading r = start_text(FROM "Subject: a\n\n>From x\n>>From y\n> From z\n>Fromage\n");
    assert_true(next(&r));
    assert_text(&r, "Subject: a\n\nFrom x\n>From y\n> From z\n>Fromage\n");
    finish(&r);
}

static void test_zones_of_from_lines_are_understood(void **state)
{
    static const char *const lines[] = {"From a b c Sat Nov 21 02:00 2026\n\nx\n",
        "From - Sat Nov 21 04:00:00 2026 +0200\n\nx\n",
        "From x Fri Nov 20 21:30:00 -0430 2026\n\nx\n",
        "From x Sat Nov 21 02:00:00 UTC 2026\n\nx\n"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct reading r = start_text(lines[i]);
        assert_true(next(&r));
        assert_int_equal(r.m->date, NOVEMBER);
        finish(&r);
    }
}

static void test_status_fields_are_flags_and_not_in_the_message(void **state)
{
    (void)state;
    struct reading r = start_text(FROM "Subject: a\nStatus: RO\nX-Status: AF\nX-Keywords: $Label1  "
                                       "work\nTo: b\n\nStatus: body\n");
    assert_true(next(&r));
    assert_text(&r, "Subject: a\nTo: b\n\nStatus: body\n");
    assert_int_equal(r.m->flags, STORE_SEEN | STORE_ANSWERED | STORE_FLAGGED);
    assert_int_equal(r.m->nkeywords, 2);
    assert_true(slice_is(r.m->keywords[0], "$Label1") && slice_is(r.m->keywords[1], "work"));
    finish(&r);
}

static void test_lines_before_the_first_message_are_counted(void **state)
{
    (void)state;
    struct reading r = start_text("rubbish\nmore\n\n" FROM "Subject: a\n\nx\n");
    assert_true(next(&r));
    assert_text(&r, "Subject: a\n\nx\n");
    assert_int_equal(mbox_strays(r.mbox), 2);
    finish(&r);
    r = start_text("");
    assert_false(next(&r));
    assert_int_equal(mbox_strays(r.mbox), 0);
    finish(&r);
}

static void test_endless_lines_and_nuls_pass_in_pieces(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 1 << 22);
    buf_puts(&text, FROM "Subject: a\n\n");
    for (size_t i = 0; i < 300000; i++)
        buf_putc(&text, i % 1000 ? 'x' : '\0');
    struct reading r = start(buf_slice(&text).p, buf_len(&text));
    assert_true(next(&r));
    assert_int_equal(buf_len(&r.text), 300000 + strlen("Subject: a\n\n"));
    assert_false(next(&r));
    finish(&r);
    buf_clear(&text);
}

static void test_content_length_says_where_a_message_ends(void **state)
{
    (void)state;
    /* With the empty line behind it, without, and without any. */
    struct reading r =
        start_text(FROM "Content-Length: 51\n\na\n\n" FROM "\n\n" FROM
                        "Content-Length: 2\n\nb\n" FROM "Content-Length: 3\n\nc\n\n");
    assert_true(next(&r));
    assert_text(&r, "Content-Length: 51\n\na\n\n" FROM "\n");
    assert_true(next(&r));
    assert_text(&r, "Content-Length: 2\n\nb\n");
    assert_true(next(&r));
    assert_text(&r, "Content-Length: 3\n\nc\n\n");
    assert_false(next(&r));
    finish(&r);
}

static void test_a_wrong_content_length_swallows_nothing(void **state)
{
    (void)state;
    static const char *const lengths[] = {
        "0", "1", "4", "40", "99999", "18446744073709551615", "-5", "x"};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        char text[500];
        snprintf(text, sizeof(text), FROM "Content-Length: %s\n\na\n\n" FROM "\nb\n\n" FROM "\nc\n",
            lengths[i]);
        struct reading r = start_text(text);
        assert_true(next(&r));
        assert_true(slice_ends(buf_slice(&r.text), "\n\na\n"));
        assert_true(next(&r));
        assert_text(&r, "\nb\n");
        assert_true(next(&r));
        assert_text(&r, "\nc\n");
        assert_false(next(&r));
        finish(&r);
    }
}

static void test_crlf_files_and_missing_line_ends(void **state)
{
    (void)state;
    struct reading r = start_text("From a@b Sat Nov 21 02:00:00 2026\r\nS: x\r\n\r\n>From x\r\n\r\n"
                                  "From a@b Sat Nov 21 02:00:00 2026\r\n\r\n\xff\r\n\r\nend");
    assert_true(next(&r));
    assert_text(&r, "S: x\r\n\r\nFrom x\r\n");
    assert_true(next(&r));
    assert_text(&r, "\r\n\xff\r\n\nend");
    assert_false(next(&r));
    finish(&r);
}

static void test_what_is_not_read_of_a_message_is_passed_over(void **state)
{
    (void)state;
    struct reading r = start_text(FROM "Subject: a\n\nx\n\n" FROM "Subject: b\n\ny\n");
    assert_true(mbox_next(r.mbox, &r.m));
    assert_true(next(&r));
    assert_text(&r, "Subject: b\n\ny\n");
    finish(&r);
}

static void test_what_is_written_reads_back_the_same(void **state)
{
    (void)state;
    const char *text =
        "Return-Path: <bob@example.test>\r\nSubject: a\r\n\r\nFrom me\r\n>From you\r\n"
        "\r\n" FROM "\r\n\r\n";
    struct mbox_message about = {.date = NOVEMBER,
        .flags = STORE_SEEN | STORE_DRAFT | STORE_DELETED,
        .keywords = {SLICE_LIT("$Label1"), SLICE_LIT("work")},
        .nkeywords = 2};
    struct reading r = start_text("");
    assert_int_equal(mbox_write(r.file, slice_of(text), &about), OK);
    assert_int_equal(mbox_write(r.file, SLICE_LIT("Subject: b\r\nStatus: RO\r\n\r\n"),
                         &(struct mbox_message){.date = 1}),
        OK);
    rewind(r.file);
    assert_true(next(&r));
    assert_text(
        &r, "Return-Path: <bob@example.test>\nSubject: a\n\nFrom me\n>From you\n\n" FROM "\n\n");
    assert_int_equal(r.m->date, NOVEMBER);
    assert_int_equal(r.m->flags, about.flags);
    assert_int_equal(r.m->nkeywords, 2);
    assert_true(next(&r));
    assert_text(&r, "Subject: b\n\n");
    assert_int_equal(r.m->flags, 0);
    assert_false(next(&r));
    finish(&r);
}

/* They would be continued by whatever field comes before them. */
static void test_fields_of_notes_are_left_out_with_all_their_lines(void **state)
{
    (void)state;
    struct reading r = start_text("");
    assert_int_equal(
        mbox_write(r.file, SLICE_LIT("Subject: a\r\nX-Keywords: one\r\n two\r\nTo: b\r\n\r\n"),
            &(struct mbox_message){.date = 1}),
        OK);
    rewind(r.file);
    assert_true(next(&r));
    assert_text(&r, "Subject: a\nTo: b\n\n");
    finish(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_are_divided_by_from_lines_after_an_empty_line),
        cmocka_unit_test(test_a_from_line_without_date_is_text),
        cmocka_unit_test(test_quoted_from_lines_lose_one_mark),
        cmocka_unit_test(test_zones_of_from_lines_are_understood),
        cmocka_unit_test(test_status_fields_are_flags_and_not_in_the_message),
        cmocka_unit_test(test_lines_before_the_first_message_are_counted),
        cmocka_unit_test(test_endless_lines_and_nuls_pass_in_pieces),
        cmocka_unit_test(test_content_length_says_where_a_message_ends),
        cmocka_unit_test(test_a_wrong_content_length_swallows_nothing),
        cmocka_unit_test(test_crlf_files_and_missing_line_ends),
        cmocka_unit_test(test_what_is_not_read_of_a_message_is_passed_over),
        cmocka_unit_test(test_what_is_written_reads_back_the_same),
        cmocka_unit_test(test_fields_of_notes_are_left_out_with_all_their_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
