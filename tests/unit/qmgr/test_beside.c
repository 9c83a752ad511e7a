/* Very large messages that somebody looks at, or acts on, while others are to be served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/qmgr/scene.h"

/* Enough lines that the file is not read in the loop. */
enum { MANY = 1000 };

static int begin_scene(void **state)
{
    return begin_sized(state, 1 << 18);
}

/* One message with very many recipients and one with one, both of which wait. */
static void two_messages(struct scene *s)
{
    inject(&s->w, HUGE_ID, "remote", MANY);
    inject(&s->w, SMALL_ID, "remote", 1);
    for (int i = 0; i < 100; i++)
        pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, HUGE_ID)->content);
    assert_null(queue_find(&s->w.q, SMALL_ID)->content);
    assert_int_equal(s->slow.reads, 0);
}

static void test_others_are_served_while_a_huge_message_is_read_for_a_listing(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    held_back(s);
    assert_int_equal(s->a.answers, 0);
    show(&s->b, SMALL_ID, 0); /* another administrator */
    settle(&s->w);
    assert_int_equal(s->b.answers, 1);
    assert_int_equal(s->b.code, OK);
    s->w.answer = DELIVERED; /* and a client */
    inject(&s->w, 300, "remote", 1);
    assert_int_equal(s->w.code, 250);
    pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, 300));
    assert_int_equal(s->a.answers, 0);
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 2);
    assert_int_equal(s->a.listed[0], HUGE_ID);
    assert_false(s->a.more);
}

static void test_a_page_ends_before_a_huge_message(void **state)
{
    struct scene *s = *state;
    inject(&s->w, SMALL_ID, "remote", 1);
    inject(&s->w, HUGE_ID, "remote", MANY);
    for (int i = 0; i < 100; i++)
        pass(&s->w, 100);
    list(&s->a, 0);
    settle(&s->w);
    assert_int_equal(s->a.answers, 1);
    assert_int_equal(s->a.entries, 1);
    assert_true(s->a.more);
    list(&s->a, s->a.next);
    held_back(s);
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 1);
    assert_int_equal(s->a.listed[0], HUGE_ID);
    assert_int_equal(s->a.recipients, MANY);
}

static void test_a_message_that_goes_while_it_is_read_is_not_listed(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    held_back(s);
    act(&s->b, "delete", HUGE_ID, "");
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_int_equal(s->b.code, OK);
    assert_null(queue_find(&s->w.q, HUGE_ID));
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 1);
    assert_int_equal(s->a.listed[0], SMALL_ID);
}

static void test_a_message_that_goes_while_it_is_read_is_not_found(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    show(&s->a, HUGE_ID, 0);
    held_back(s);
    act(&s->b, "delete", HUGE_ID, "");
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    let_go(s, &s->a);
    assert_int_equal(s->a.code, ERR_NOT_FOUND);
}

static void test_a_message_held_while_it_is_read_is_listed_as_held(void **state)
{
    struct scene *s = *state;
    inject(&s->w, HUGE_ID, "remote", MANY);
    for (int i = 0; i < 100; i++)
        pass(&s->w, 100);
    list(&s->a, 0);
    held_back(s);
    act(&s->b, "hold", HUGE_ID, "");
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_int_equal(s->b.count, 1);
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 1);
    assert_string_equal(s->a.state, "held");
}

static void test_pages_of_a_huge_message_are_shown_from_one_reading(void **state)
{
    struct scene *s = *state;
    unsigned pages = 1;
    two_messages(s);
    show(&s->a, HUGE_ID, 0);
    held_back(s);
    let_go(s, &s->a);
    for (; s->a.next; pages++) {
        show(&s->a, HUGE_ID, (uint32_t)s->a.next);
        settle(&s->w);
        assert_int_equal(s->a.answers, 1);
    }
    assert_true(pages > 1);
    assert_int_equal(s->slow.reads, 1);
}

static void test_a_huge_message_that_changes_while_it_is_read_is_read_again_to_be_bounced(
    void **state)
{
    struct scene *s = *state;
    two_messages(s);
    act(&s->a, "bounce", HUGE_ID, "");
    held_back(s);
    act(&s->b, "hold", HUGE_ID, ""); /* its file is written to */
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_int_equal(s->b.count, 1);
    sem_post(&s->slow.go);
    while (s->slow.reads < 2) {
        loop_poll(s->w.q.loop);
        usleep(100);
    }
    assert_int_equal(s->a.answers, 0);
    let_go(s, &s->a);
    assert_int_equal(s->a.count, 1);
    for (int i = 0; i < 50 && s->w.reports == 0; i++)
        pass(&s->w, 100);
    assert_int_equal(s->w.reports, 1);
    assert_int_equal(s->w.told[0], MANY);
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, HUGE_ID));
}

static void test_a_flush_of_a_domain_goes_on_behind_a_huge_message(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    unsigned before = s->w.starts;
    act(&s->a, "flush", 0, "x.test");
    held_back(s);
    inject(&s->w, 300, "remote", 1);
    assert_int_equal(s->w.code, 250);
    let_go(s, &s->a);
    assert_int_equal(s->a.count, 2); /* what came later is left alone */
    pass(&s->w, 100);
    assert_true(s->w.starts > before + 2);
}

static void test_an_administrator_who_leaves_is_not_answered(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    held_back(s);
    ipc_free(s->a.end.ipc);
    s->a.gone = true;
    settle(&s->w);
    list(&s->b, 0); /* waits behind the other */
    settle(&s->w);
    sem_post(&s->slow.go);
    let_go(s, &s->b);
    assert_int_equal(s->b.entries, 2);
}

static void test_qmgr_ends_while_a_huge_message_is_read(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    show(&s->b, HUGE_ID, 0);
    end_while_held_back(s);
    assert_int_equal(s->a.answers, 0);
    assert_int_equal(s->b.answers, 0);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, begin_scene, end_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_others_are_served_while_a_huge_message_is_read_for_a_listing),
        SCENE(test_a_page_ends_before_a_huge_message),
        SCENE(test_a_message_that_goes_while_it_is_read_is_not_listed),
        SCENE(test_a_message_that_goes_while_it_is_read_is_not_found),
        SCENE(test_a_message_held_while_it_is_read_is_listed_as_held),
        SCENE(test_pages_of_a_huge_message_are_shown_from_one_reading),
        SCENE(test_a_huge_message_that_changes_while_it_is_read_is_read_again_to_be_bounced),
        SCENE(test_a_flush_of_a_domain_goes_on_behind_a_huge_message),
        SCENE(test_an_administrator_who_leaves_is_not_answered),
        SCENE(test_qmgr_ends_while_a_huge_message_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
