#include "libutil/arena.h"
#include "libutil/buf.h"
#include "libutil/error.h"
#include "libutil/heap.h"
#include "libutil/list.h"
#include "libutil/map.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static void test_buf_over_its_maximum_changes_nothing_and_sticks(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 8);
    assert_int_equal(buf_puts(&b, "12345678"), OK);
    assert_int_equal(buf_puts(&b, "9"), ERR_LIMIT);
    assert_true(b.failed);
    assert_true(slice_is(buf_slice(&b), "12345678"));
    buf_reset(&b);
    assert_int_equal(buf_puts(&b, "9"), OK);
    buf_clear(&b);
}

static void test_buf_consume_then_put_reuses_room(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    buf_puts(&b, "abcd");
    buf_consume(&b, 3);
    assert_int_equal(buf_puts(&b, "efg"), OK);
    assert_true(slice_is(buf_slice(&b), "defg"));
    buf_clear(&b);
}

static void test_reader_short_input_is_bad_for_good(void **state)
{
    (void)state;
    struct reader r = reader_of(SLICE_LIT("\x01\x00"));
    assert_int_equal(get_u16(&r), 1);
    assert_int_equal(get_u32(&r), 0);
    assert_true(r.bad);
    assert_false(reader_done(&r));
}

static void test_numbers_have_one_strict_parser(void **state)
{
    (void)state;
    uint64_t v;
    assert_int_equal(slice_u64(SLICE_LIT("18446744073709551615"), 0, UINT64_MAX, &v), OK);
    assert_true(v == UINT64_MAX);
    assert_int_equal(slice_u64(SLICE_LIT("18446744073709551616"), 0, UINT64_MAX, &v), ERR_LIMIT);
    assert_int_equal(slice_u64(SLICE_LIT(""), 0, 9, &v), ERR_SYNTAX);
    assert_int_equal(slice_u64(SLICE_LIT("+1"), 0, 9, &v), ERR_SYNTAX);
    assert_int_equal(slice_u64(SLICE_LIT("10"), 0, 9, &v), ERR_LIMIT);
    int64_t i;
    assert_int_equal(slice_i64(SLICE_LIT("-5"), -9, 9, &i), OK);
    assert_int_equal(i, -5);
}

static void count_up(void *arg)
{
    ++*(int *)arg;
}

static void test_letters_and_digits_are_what_they_are_said_to_be(void **state)
{
    (void)state;
    int lower = 0, upper = 0, either = 0;
    for (int c = -128; c < 128; c++) {
        lower += hex_digit_lower((char)c) >= 0;
        upper += hex_digit_upper((char)c) >= 0;
        either += hex_digit((char)c) >= 0;
    }
    assert_int_equal(lower, 16);
    assert_int_equal(upper, 16);
    assert_int_equal(either, 22);
    assert_int_equal(hex_digit('9'), 9);
    assert_int_equal(hex_digit('a'), 10);
    assert_int_equal(hex_digit('F'), 15);
    assert_true(slice_is_ascii(SLICE_LIT("")) && slice_is_ascii(SLICE_LIT("a\x7f")));
    assert_false(slice_is_ascii(SLICE_LIT("a\x80")) || slice_is_ascii(SLICE_LIT("\xff")));
}

static void test_arena_past_its_cap_refuses_and_reset_runs_hooks(void **state)
{
    (void)state;
    struct arena a;
    int resets = 0;
    arena_init(&a, 10000);
    assert_int_equal(arena_on_reset(&a, count_up, &resets), OK);
    assert_non_null(arena_alloc(&a, 5000));
    assert_null(arena_alloc(&a, 10001));
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_true(slice_is(arena_printf(&a, "%d-%s", 7, "x"), "7-x"));
    arena_reset(&a);
    assert_int_equal(resets, 1);
    assert_int_equal(a.used, 0);
}

static void test_map_keeps_what_was_set_through_growth_and_removal(void **state)
{
    (void)state;
    struct map m;
    int values[1000];
    map_init(&m);
    for (int i = 0; i < 1000; i++)
        assert_null(map_set_id(&m, (uint64_t)i, &values[i]));
    for (int i = 0; i < 1000; i += 2)
        assert_ptr_equal(map_remove_id(&m, (uint64_t)i), &values[i]);
    assert_int_equal(map_count(&m), 500);
    for (int i = 0; i < 1000; i++)
        assert_ptr_equal(map_get_id(&m, (uint64_t)i), i % 2 ? &values[i] : NULL);
    map_clear(&m);
}

static void test_heap_yields_keys_in_order_after_moves(void **state)
{
    (void)state;
    struct heap h;
    struct heap_node nodes[200] = {0};
    heap_init(&h);
    for (int i = 0; i < 200; i++)
        heap_set(&h, &nodes[i], (i * 7919) % 200);
    heap_set(&h, &nodes[5], -1);
    heap_remove(&h, &nodes[6]);
    int64_t last = -2;
    int seen = 0;
    for (struct heap_node *n; (n = heap_min(&h)); seen++) {
        assert_true(n->key >= last);
        last = n->key;
        heap_remove(&h, n);
    }
    assert_int_equal(seen, 199);
    heap_clear(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_over_its_maximum_changes_nothing_and_sticks),
        cmocka_unit_test(test_buf_consume_then_put_reuses_room),
        cmocka_unit_test(test_reader_short_input_is_bad_for_good),
        cmocka_unit_test(test_numbers_have_one_strict_parser),
        cmocka_unit_test(test_letters_and_digits_are_what_they_are_said_to_be),
        cmocka_unit_test(test_arena_past_its_cap_refuses_and_reset_runs_hooks),
        cmocka_unit_test(test_map_keeps_what_was_set_through_growth_and_removal),
        cmocka_unit_test(test_heap_yields_keys_in_order_after_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
