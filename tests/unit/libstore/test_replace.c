/* A delivery that is repeated, because a stop of the machine has left its file broken, is there
 * once also after the next stop: whatever that keeps of the names that were changed. Simulated,
 * with coexistence, where a session gives the file another name in between. */
#include "tests/unit/libstore/simulated.h"

#include <stdio.h>

#define MAIL "From: a@example.test\r\nSubject: hello\r\n\r\nText.\r\n"

static const char *const parts[] = {"mail/new", "mail/cur"};

static void deliver(struct store *s, bool before)
{
    const struct store_append_options opt = {.delivery = 7};
    assert_int_equal(append(s, SLICE_LIT(MAIL), &opt).duplicate, before);
}

static struct store_mailbox *look_at_one(struct store *s)
{
    struct store_mailbox *mb = look(s);
    assert_int_equal(store_count(mb), 1);
    return mb;
}

/* Leaves a beginning of each file, when asked to. */
static size_t files_in(const char *part, bool spoil)
{
    struct fs_entry e;
    size_t n = 0;
    int dir = fs_open(AT_FDCWD, part, O_RDONLY | O_DIRECTORY, 0);
    struct fs_dir *d = fs_dir_open(dir);
    assert_non_null(d);
    for (; fs_dir_next(d, &e); n++) {
        int fd = spoil ? fs_open(dir, e.name, O_RDWR, 0) : -1;
        assert_true(!spoil || (fs_truncate(fd, 5) == 0 && fs_sync(fd) == 0));
        fs_close(&fd);
    }
    fs_dir_close(d);
    return n;
}

static void assert_there_once(struct store *s)
{
    struct store_body body;
    struct store_msg m;
    struct error err;
    struct store_mailbox *mb = look_at_one(s);
    assert_true(store_get(mb, 1, &m));
    assert_int_equal(store_body(mb, m.uid, &body, &err), OK);
    assert_true(slice_is(body.content, MAIL));
    store_body_release(&body);
    store_unselect(mb);
    assert_int_equal(files_in(parts[0], false) + files_in(parts[1], false), 1);
}

static void test_message_put_right_is_there_once_after_the_next_stop(void **state)
{
    struct error err;
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        sim_init(&(struct sim_options){.seed = seed});
        struct store *s = open_store(true);
        deliver(s, false);
        assert_int_equal(store_sync(store_dirfd(s), &err), OK);
        assert_int_equal(files_in(parts[0], true), 1);
        store_unselect(look_at_one(s));
        assert_int_equal(files_in(parts[1], false), 1);
        deliver(s, true);
        store_close(s);
        sim_power_cut();
        assert_int_equal(files_in(parts[0], false) + files_in(parts[1], false), 1);
        s = open_store(true);
        deliver(s, true);
        assert_there_once(s);
        store_close(s);
        sim_free();
    }
}

static void repeat(void *arg, int number)
{
    (void)number;
    deliver(arg, true);
}

static void move(void *arg, int number)
{
    /* Made of the delivery's id. */
    static const char name[] = "/0700000000000000ddd168e4cb290774.veredus";
    char new[64], cur[64];
    (void)arg, (void)number;
    snprintf(new, sizeof(new), "%s%s", parts[0], name);
    snprintf(cur, sizeof(cur), "%s%s:2,", parts[1], name);
    assert_int_equal(fs_rename(AT_FDCWD, new, AT_FDCWD, cur), 0);
}

/* What a sync has made durable must not be replaced by what is not. */
static void test_whole_message_that_another_program_moves_is_not_replaced(void **state)
{
    struct error err;
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        sim_init(&(struct sim_options){.seed = seed, .switch_one_in = 8});
        struct store *s = open_store(true);
        deliver(s, false);
        assert_int_equal(store_sync(store_dirfd(s), &err), OK);
        sim_start(0, repeat, s);
        sim_start(1, move, NULL);
        assert_true(sim_run(0));
        sim_power_cut();
        s = open_store(true);
        assert_there_once(s);
        store_close(s);
        sim_free();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_put_right_is_there_once_after_the_next_stop),
        cmocka_unit_test(test_whole_message_that_another_program_moves_is_not_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
