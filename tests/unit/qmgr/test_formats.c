#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libmail/text.h"
#include "libutil/log.h"
#include "qmgr/logrec.h"
#include "qmgr/parked.h"

/* --- log records ----------------------------------------------------------------------------- */

static void make_record(struct buf *b)
{
    struct logrec_accept a = {.envelope = SLICE_LIT("env"),
        .recipients = SLICE_LIT("rcpts"),
        .size = 4,
        .body = SLICE_LIT("body")};
    buf_init(b, 4096);
    assert_int_equal(logrec_put_accept(b, SPOOL_FORMAT, 77, &a), OK);
    logrec_seal(b, SPOOL_FORMAT, 5, 4);
}

static void test_a_record_comes_back_as_it_was(void **state)
{
    (void)state;
    struct buf b;
    struct logrec rec;
    struct logrec_accept a;
    make_record(&b);
    assert_int_equal(logrec_decode(buf_slice(&b), &rec), OK);
    assert_int_equal(rec.type, LOGREC_ACCEPT);
    assert_int_equal(rec.sequence, 5);
    assert_int_equal(rec.committed, 4);
    assert_int_equal(rec.qid, 77);
    assert_int_equal(rec.total, buf_len(&b));
    assert_int_equal(rec.total % LOGREC_ALIGN, 0);
    assert_int_equal(logrec_get_accept(rec.payload, rec.version, &a), OK);
    assert_true(slice_is(a.body, "body") && slice_is(a.recipients, "rcpts"));
    buf_clear(&b);
}

static void test_a_record_with_any_bit_flipped_is_corrupt(void **state)
{
    (void)state;
    struct buf b;
    struct logrec rec;
    make_record(&b);
    size_t padded = buf_len(&b) - 4; /* the last bytes may be padding, which nothing covers */
    for (size_t i = 0; i < padded * 8; i++) {
        b.data[i / 8] = (char)(b.data[i / 8] ^ 1 << i % 8);
        assert_int_not_equal(logrec_decode(buf_slice(&b), &rec), OK);
        b.data[i / 8] = (char)(b.data[i / 8] ^ 1 << i % 8);
    }
    buf_clear(&b);
}

static void test_a_record_cut_anywhere_is_corrupt(void **state)
{
    (void)state;
    struct buf b;
    struct logrec rec;
    make_record(&b);
    for (size_t n = 0; n < buf_len(&b); n++)
        assert_int_equal(logrec_decode(slice_first(buf_slice(&b), n), &rec), ERR_CORRUPT);
    buf_clear(&b);
}

static void test_a_newer_record_is_refused_by_version(void **state)
{
    (void)state;
    struct buf b;
    struct logrec rec;
    make_record(&b);
    logrec_seal(&b, LOGREC_VERSION + 1, 5, 4);
    assert_int_equal(logrec_decode(buf_slice(&b), &rec), ERR_VERSION);
    assert_int_equal(rec.version, LOGREC_VERSION + 1);
    buf_clear(&b);
}

/* --- text ------------------------------------------------------------------------------------ */

static void test_text_keeps_any_bytes(void **state)
{
    (void)state;
    struct buf b;
    struct arena arena;
    struct parked_state out;
    struct parked_state in = {.index = 3,
        .next = -5,
        .dsn = SLICE_LIT("4.4.1"),
        .text = SLICE_LIT("a = b%20\r\n\t\x01\xff end "),
        .mta = SLICE_LIT("")};
    buf_init(&b, 4096);
    arena_init(&arena, 65536);
    assert_int_equal(text_put(&b, "state", &parked_state_record, &in), OK);
    struct slice line = buf_slice(&b);
    assert_int_equal(slice_chr(line, '\n'), line.n - 1);
    line.n--;
    slice_cut(&line, ' ');
    assert_int_equal(text_get(line, &parked_state_record, &out, &arena), OK);
    assert_true(slice_eq(out.text, in.text));
    assert_int_equal(out.next, -5);
    assert_int_equal(out.index, 3);
    assert_int_equal(out.mta.n, 0);
    arena_reset(&arena);
    buf_clear(&b);
}

static void test_text_of_an_unknown_field_or_bad_escape_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"colour=red", "index=", "index=-1", "text=%4", "text=%zz",
        "text=%00", "index", "dsn=12345678901234567"};
    struct arena arena;
    struct parked_state out;
    arena_init(&arena, 65536);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_not_equal(text_get(slice_of(bad[i]), &parked_state_record, &out, &arena), OK);
    assert_int_equal(text_get(SLICE_LIT("index=1"), &parked_state_record, &out, &arena), OK);
    arena_reset(&arena);
}

/* --- parked files ---------------------------------------------------------------------------- */

static void put_first(struct buf *b)
{
    static struct recipient to[2] = {
        {.address = {"a@x.test", 8}, .transport = {"remote", 6}, .nexthop = {"x.test", 6}},
        {.address = {"b@x.test", 8}, .transport = {"remote", 6}, .nexthop = {"x.test", 6}}};
    static struct parked_state states[2] = {
        {.index = 0, .state = RCPT_WAITING}, {.index = 1, .state = RCPT_WAITING}};
    struct parked p = {.message = {.qid = SLICE_LIT("bcdf"), .due = 7},
        .envelope = {.sender = SLICE_LIT("s@y.test"), .received = 9},
        .recipients = to,
        .states = states,
        .count = 2};
    buf_init(b, 65536);
    assert_int_equal(parked_put(b, &p), OK);
}

static void put_second(struct buf *b)
{
    struct parked_message m = {.qid = SLICE_LIT("bcdf"), .due = 8, .held = true};
    struct parked_state done = {.index = 1, .state = RCPT_DONE};
    assert_int_equal(parked_put_update(b, SPOOL_FORMAT, &m, &done, 1), OK);
}

static void test_a_parked_message_comes_back_with_its_last_update(void **state)
{
    (void)state;
    struct buf b;
    struct arena arena;
    struct parked p;
    struct error err;
    arena_init(&arena, 65536);
    put_first(&b);
    put_second(&b);
    assert_int_equal(parked_parse(buf_slice(&b), 0, &arena, &p, &err), OK);
    assert_int_equal(p.count, 2);
    assert_true(slice_is(p.envelope.sender, "s@y.test"));
    assert_true(p.message.held);
    assert_int_equal(p.states[0].state, RCPT_WAITING);
    assert_int_equal(p.states[1].state, RCPT_DONE);
    assert_int_equal(p.end, buf_len(&b));
    arena_reset(&arena);
    buf_clear(&b);
}

static void test_a_parked_update_cut_anywhere_counts_as_none(void **state)
{
    (void)state;
    struct buf b;
    struct arena arena;
    struct parked p;
    struct error err;
    put_first(&b);
    size_t whole = buf_len(&b);
    put_second(&b);
    arena_init(&arena, 16 * 1024 * 1024);
    for (size_t n = whole; n < buf_len(&b); n++) {
        assert_int_equal(parked_parse(slice_first(buf_slice(&b), n), 0, &arena, &p, &err), OK);
        assert_int_equal(p.states[1].state, RCPT_WAITING);
        assert_int_equal(p.end, whole);
    }
    arena_reset(&arena);
    buf_clear(&b);
}

static void test_a_parked_message_whose_first_block_is_damaged_is_corrupt(void **state)
{
    (void)state;
    struct buf b;
    struct arena arena;
    struct parked p;
    struct error err;
    put_first(&b);
    arena_init(&arena, 16 * 1024 * 1024);
    for (size_t n = 0; n < buf_len(&b); n++) {
        assert_int_not_equal(parked_parse(slice_first(buf_slice(&b), n), 0, &arena, &p, &err), OK);
        b.data[n] = (char)(b.data[n] ^ 1);
        assert_int_not_equal(parked_parse(buf_slice(&b), 0, &arena, &p, &err), OK);
        b.data[n] = (char)(b.data[n] ^ 1);
    }
    arena_reset(&arena);
    buf_clear(&b);
}

static void test_a_parked_message_of_a_newer_format_is_refused_by_name(void **state)
{
    (void)state;
    struct arena arena;
    struct parked p;
    struct error err;
    arena_init(&arena, 65536);
    assert_int_equal(parked_parse(SLICE_LIT("== veredus parked message, format 3 ==\nwhatever\n"),
                         0, &arena, &p, &err),
        ERR_VERSION);
    assert_non_null(strstr(err.text, "format 3"));
    arena_reset(&arena);
}

static void test_parked_names_are_exact(void **state)
{
    (void)state;
    char path[PARKED_NAME];
    uint64_t qid, size;
    parked_path(12345, 678, path);
    assert_true(parked_parse_name(path + 7, &qid, &size));
    assert_int_equal(qid, 12345);
    assert_int_equal(size, 678);
    static const char *const bad[] = {"", "-", "new.1", "bcdf", "bcdf-", "bcdf-01", "bcdf-1x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(parked_parse_name(bad[i], &qid, &size));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_record_comes_back_as_it_was),
        cmocka_unit_test(test_a_record_with_any_bit_flipped_is_corrupt),
        cmocka_unit_test(test_a_record_cut_anywhere_is_corrupt),
        cmocka_unit_test(test_a_newer_record_is_refused_by_version),
        cmocka_unit_test(test_text_keeps_any_bytes),
        cmocka_unit_test(test_text_of_an_unknown_field_or_bad_escape_is_refused),
        cmocka_unit_test(test_a_parked_message_comes_back_with_its_last_update),
        cmocka_unit_test(test_a_parked_update_cut_anywhere_counts_as_none),
        cmocka_unit_test(test_a_parked_message_whose_first_block_is_damaged_is_corrupt),
        cmocka_unit_test(test_a_parked_message_of_a_newer_format_is_refused_by_name),
        cmocka_unit_test(test_parked_names_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
