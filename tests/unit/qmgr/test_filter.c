/* Which messages a filter finds, and recipients that are added to a parked message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "qmgr/filter.h"

enum { NOW = 10000000 };

static struct rcpt rcpts[2];
static struct content content;

static int setup(void **state)
{
    (void)state;
    rcpts[0] = (struct rcpt){.to = {.address = SLICE_LIT("a@one.test")},
        .st = {.state = RCPT_DONE, .text = SLICE_LIT("delivered long ago")}};
    rcpts[1] = (struct rcpt){.to = {.address = SLICE_LIT("b@Two.test")},
        .st = {.state = RCPT_WAITING, .text = SLICE_LIT("421 Try Again later")}};
    content = (struct content){.rcpts = rcpts, .count = 2};
    content.envelope.sender = SLICE_LIT("s@from.test");
    content.envelope.received = NOW - 60000;
    return 0;
}

static bool fits(struct queue_filter f)
{
    return filter_fits(&f, &content, SLICE_LIT("deferred"), NOW);
}

static void test_an_empty_filter_fits_everything(void **state)
{
    (void)state;
    struct queue_filter f;
    assert_int_equal(filter_read(SLICE_LIT(""), &f), OK);
    assert_true(filter_is_empty(&f));
    assert_true(fits(f));
    assert_true(filter_fits(&f, NULL, SLICE_LIT("damaged"), NOW));
}

static void test_a_filter_survives_packing_and_garbage_is_refused(void **state)
{
    (void)state;
    struct queue_filter f = {.older = 5,
                            .sender = SLICE_LIT("x"),
                            .domain = SLICE_LIT("y"),
                            .state = SLICE_LIT("held"),
                            .reason = SLICE_LIT("z")},
                        got;
    struct buf b;
    buf_init(&b, 1024);
    assert_int_equal(record_put(&b, &queue_filter_record, &f), OK);
    assert_int_equal(filter_read(buf_slice(&b), &got), OK);
    assert_int_equal(got.older, 5);
    assert_true(slice_is(got.reason, "z"));
    assert_false(filter_is_empty(&got));
    assert_int_not_equal(filter_read(slice_first(buf_slice(&b), buf_len(&b) - 1), &got), OK);
    buf_putc(&b, 'x');
    assert_int_not_equal(filter_read(buf_slice(&b), &got), OK);
    buf_clear(&b);
}

static void test_age_is_at_least_older_and_less_than_younger(void **state)
{
    (void)state;
    assert_true(fits((struct queue_filter){.older = 60000}));
    assert_false(fits((struct queue_filter){.older = 60001}));
    assert_true(fits((struct queue_filter){.younger = 60001}));
    assert_false(fits((struct queue_filter){.younger = 60000}));
}

static void test_sender_is_an_address_a_domain_or_null(void **state)
{
    (void)state;
    assert_true(fits((struct queue_filter){.sender = SLICE_LIT("S@FROM.test")}));
    assert_true(fits((struct queue_filter){.sender = SLICE_LIT("@from.TEST")}));
    assert_false(fits((struct queue_filter){.sender = SLICE_LIT("@rom.test")}));
    assert_false(fits((struct queue_filter){.sender = SLICE_LIT("from.test")}));
    assert_false(fits((struct queue_filter){.sender = SLICE_LIT("<>")}));
    content.envelope.sender = SLICE_LIT("");
    assert_true(fits((struct queue_filter){.sender = SLICE_LIT("<>")}));
    assert_false(fits((struct queue_filter){.sender = SLICE_LIT("@from.test")}));
}

static void test_finished_recipients_count_neither_for_domain_nor_reason(void **state)
{
    (void)state;
    assert_true(fits((struct queue_filter){.domain = SLICE_LIT("two.test")}));
    assert_false(fits((struct queue_filter){.domain = SLICE_LIT("one.test")}));
    assert_false(fits((struct queue_filter){.domain = SLICE_LIT("wo.test")}));
    assert_false(fits((struct queue_filter){.domain = SLICE_LIT(".wo.test")}));
    assert_true(fits((struct queue_filter){.domain = SLICE_LIT(".two.test")}));
    assert_true(fits((struct queue_filter){.domain = SLICE_LIT(".test")}));
    assert_true(fits((struct queue_filter){.reason = SLICE_LIT("try again")}));
    assert_false(fits((struct queue_filter){.reason = SLICE_LIT("long ago")}));
}

static void test_every_part_has_to_fit(void **state)
{
    (void)state;
    struct queue_filter f = {.domain = SLICE_LIT("two.test"), .state = SLICE_LIT("deferred")};
    assert_true(fits(f));
    f.state = SLICE_LIT("held");
    assert_false(fits(f));
}

static void test_what_cannot_be_read_fits_only_by_its_state(void **state)
{
    (void)state;
    struct queue_filter f = {.state = SLICE_LIT("damaged")};
    assert_true(filter_fits(&f, NULL, SLICE_LIT("damaged"), NOW));
    f.older = 1;
    assert_false(filter_fits(&f, NULL, SLICE_LIT("damaged"), NOW));
}

/* --- growth of a parked message -------------------------------------------------------------- */

static struct recipient to[3] = {{.address = SLICE_LIT("a@one.test")},
    {.address = SLICE_LIT("b@two.test")}, {.address = SLICE_LIT("c@three.test")}};
static struct parked_state states[3] = {{.index = 0, .state = RCPT_WAITING},
    {.index = 1, .state = RCPT_WAITING}, {.index = 2, .state = RCPT_WAITING}};
static const struct parked_message line = {.qid = SLICE_LIT("m")};

static void put_grown(struct buf *b)
{
    struct parked p = {.message = line, .recipients = to, .states = states, .count = 1};
    buf_init(b, 65536);
    states[0].state = RCPT_WAITING;
    assert_int_equal(parked_put(b, &p), OK);
    states[0].state = RCPT_DONE;
    assert_int_equal(parked_put_growth(b, SPOOL_FORMAT, &line, to + 1, 2, states, 3), OK);
}

static void test_an_update_may_add_recipients(void **state)
{
    (void)state;
    struct buf b;
    struct arena arena;
    struct parked p;
    struct error err;
    put_grown(&b);
    arena_init(&arena, 1 << 20);
    assert_int_equal(parked_parse(buf_slice(&b), 0, &arena, &p, &err), OK);
    assert_int_equal(p.count, 3);
    assert_int_equal(p.end, buf_len(&b));
    assert_int_equal(p.states[0].state, RCPT_DONE);
    assert_true(slice_is(p.recipients[2].address, "c@three.test"));
    assert_int_equal(
        parked_put_update(&b, SPOOL_FORMAT, &line, states, 3), OK); /* and later ones know them */
    assert_int_equal(parked_parse(buf_slice(&b), 0, &arena, &p, &err), OK);
    assert_int_equal(p.count, 3);
    arena_reset(&arena);
    buf_clear(&b);
}

static void test_a_growth_cut_anywhere_counts_as_none(void **state)
{
    (void)state;
    struct buf b;
    put_grown(&b);
    for (size_t n = buf_len(&b) - 1; n > 0; n--) {
        struct arena arena;
        struct parked p;
        struct error err;
        arena_init(&arena, 1 << 20);
        int rc = parked_parse(slice_first(buf_slice(&b), n), 0, &arena, &p, &err);
        if (rc == OK) {
            assert_int_equal(p.count, 1);
            assert_int_equal(p.states[0].state, RCPT_WAITING);
        }
        arena_reset(&arena);
    }
    buf_clear(&b);
}

static void test_an_added_recipient_without_a_state_is_corrupt(void **state)
{
    (void)state;
    struct buf b;
    struct arena arena;
    struct parked p = {.message = line, .recipients = to, .states = states, .count = 1};
    struct error err;
    buf_init(&b, 65536);
    arena_init(&arena, 1 << 20);
    assert_int_equal(parked_put(&b, &p), OK);
    assert_int_equal(parked_put_growth(&b, SPOOL_FORMAT, &line, to + 1, 1, states, 1), OK);
    assert_int_equal(parked_parse(buf_slice(&b), 0, &arena, &p, &err), ERR_CORRUPT);
    arena_reset(&arena);
    buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_an_empty_filter_fits_everything, setup),
        cmocka_unit_test_setup(test_a_filter_survives_packing_and_garbage_is_refused, setup),
        cmocka_unit_test_setup(test_age_is_at_least_older_and_less_than_younger, setup),
        cmocka_unit_test_setup(test_sender_is_an_address_a_domain_or_null, setup),
        cmocka_unit_test_setup(test_finished_recipients_count_neither_for_domain_nor_reason, setup),
        cmocka_unit_test_setup(test_every_part_has_to_fit, setup),
        cmocka_unit_test_setup(test_what_cannot_be_read_fits_only_by_its_state, setup),
        cmocka_unit_test(test_an_update_may_add_recipients),
        cmocka_unit_test(test_a_growth_cut_anywhere_counts_as_none),
        cmocka_unit_test(test_an_added_recipient_without_a_state_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
