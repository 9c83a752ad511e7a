#include <setjmp.h>

#include "ctl/json.h"
#include "ctl/logline.h"

#include <cmocka.h>

static const char text[] =
    "2026-11-20T14:02:00.544Z remote[815] event=dlv.done qid=77 to=carol@x.example "
    "reply=\"421-4.7.28 \\\"slow\\\" down\\x01\" try=1 dsn=4.7";

static void test_line_is_taken_apart(void **state)
{
    (void)state;
    struct logline l;
    struct buf value;
    buf_init(&value, 256);
    assert_true(logline_parse(slice_of(text), &l));
    assert_true(slice_is(l.program, "remote"));
    assert_true(slice_is(l.pid, "815"));
    assert_true(logline_get(&l, "reply", &value));
    assert_true(slice_is(buf_slice(&value), "421-4.7.28 \"slow\" down\x01"));
    assert_true(logline_has(&l, "try", "1"));
    assert_false(logline_has(&l, "slow", "1"));
    buf_clear(&value);
}

static void test_other_lines_are_refused(void **state)
{
    (void)state;
    struct logline l;
    assert_false(logline_parse(SLICE_LIT(""), &l));
    assert_false(logline_parse(SLICE_LIT("2026-11-20T14:02:00.544Z remote event=x"), &l));
}

static void test_json_keeps_ids_as_strings_and_numbers_as_numbers(void **state)
{
    (void)state;
    struct logline l;
    struct buf out;
    buf_init(&out, 4096);
    assert_true(logline_parse(slice_of(text), &l));
    logline_json(&l, &out);
    assert_true(slice_is(buf_slice(&out),
        "{\"time\":\"2026-11-20T14:02:00.544Z\",\"daemon\":\"remote\",\"pid\":815,"
        "\"event\":\"dlv.done\",\"qid\":\"77\",\"to\":\"carol@x.example\","
        "\"reply\":\"421-4.7.28 \\\"slow\\\" down\\u0001\",\"try\":1,\"dsn\":\"4.7\"}"));
    buf_clear(&out);
}

static void test_json_replaces_bytes_that_are_not_utf8(void **state)
{
    (void)state;
    struct buf out;
    struct json j = {&out, false};
    buf_init(&out, 256);
    json_str(&j, NULL, SLICE_LIT("\xc3\xa4\xff\xed\xa0\x80z"));
    assert_true(slice_is(buf_slice(&out), "\"\xc3\xa4\\ufffd\\ufffd\\ufffd\\ufffdz\""));
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line_is_taken_apart),
        cmocka_unit_test(test_other_lines_are_refused),
        cmocka_unit_test(test_json_keeps_ids_as_strings_and_numbers_as_numbers),
        cmocka_unit_test(test_json_replaces_bytes_that_are_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
