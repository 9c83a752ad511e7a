/* What other tools and time leave in a Maildir: each is taken as what it is, and told. */
#include "tests/unit/libstore/fixture.h"

static void assert_told(struct fixture *f, const char *what)
{
    struct buf report;
    buf_init(&report, 1 << 16);
    int n = store_verify(f->store, INBOX, &report, &f->err);
    if (n < 1 || slice_find(buf_slice(&report), slice_of(what)) < 0)
        print_error("%d: %.*s\n", n, SLICE_FMT(buf_slice(&report)));
    assert_true(n >= 1);
    assert_true(slice_find(buf_slice(&report), slice_of(what)) >= 0);
    buf_clear(&report);
}

static void take_in(struct fixture *f)
{
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    reopen(f);
}

static void test_one_name_in_new_and_cur_is_one_message(void **state)
{
    struct fixture *f = *state;
    write_file(f, "new/1.M1.host", "Subject: a\n\nx\n");
    write_file(f, "cur/1.M1.host:2,FS", "Subject: a\n\nx\n");
    take_in(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    assert_body(f, mb, 1, "Subject: a\r\n\r\nx\r\n");
    store_unselect(mb);
    take_in(f);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    store_unselect(mb);
}

static void test_wrong_sizes_in_a_name_are_not_believed(void **state)
{
    struct fixture *f = *state;
    struct store_msg m;
    write_file(f, "cur/1.M1.host,S=5,W=99999:2,", "Subject: a\n\nx\n");
    take_in(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_true(store_get(mb, 1, &m));
    assert_int_equal(m.size, strlen("Subject: a\r\n\r\nx\r\n"));
    assert_body(f, mb, 1, "Subject: a\r\n\r\nx\r\n");
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_empty_file_is_an_empty_message(void **state)
{
    struct fixture *f = *state;
    struct store_msg m;
    write_file(f, "cur/1.M1.host:2,", "");
    take_in(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_true(store_get(mb, 1, &m));
    assert_int_equal(m.size, 0);
    assert_body(f, mb, 1, "");
    store_unselect(mb);
}

static void test_what_is_no_file_is_no_message(void **state)
{
    struct fixture *f = *state;
    char path[256];
    write_file(f, "secret", "not mail");
    path_of(f, "cur/dir:2,", path);
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(f, "cur/fifo:2,", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    path_of(f, "cur/link:2,", path);
    assert_int_equal(symlink("../secret", path), 0);
    take_in(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 0);
    store_unselect(mb);
}

/* Its place is taken by something that must not be followed nor waited for. */
static void replaced(struct fixture *f, void (*put)(const char *path))
{
    char path[256];
    struct store_body body;
    write_file(f, "cur/1.M1.host:2,", "Subject: a\n\nx\n");
    take_in(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    path_of(f, "cur/1.M1.host:2,", path);
    assert_int_equal(unlink(path), 0);
    if (put)
        put(path);
    assert_int_not_equal(store_body(mb, 1, &body, &f->err), OK);
    store_unselect(mb);
    assert_told(f, "message 1");
}

static void put_link(const char *path)
{
    assert_int_equal(symlink("/etc/passwd", path), 0);
}

static void put_fifo(const char *path)
{
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void put_dir(const char *path)
{
    assert_int_equal(mkdir(path, 0700), 0);
}

static void test_message_that_became_a_link_is_told(void **state)
{
    replaced(*state, put_link);
}

static void test_message_that_became_a_fifo_is_told(void **state)
{
    replaced(*state, put_fifo);
}

static void test_message_that_became_a_directory_is_told(void **state)
{
    replaced(*state, put_dir);
}

static void test_message_that_vanished_is_told(void **state)
{
    replaced(*state, NULL);
}

#define IN_BOTH(t)                                       \
    cmocka_unit_test_setup_teardown(t, setup, teardown), \
        cmocka_unit_test_setup_teardown(t, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_one_name_in_new_and_cur_is_one_message),
        IN_BOTH(test_wrong_sizes_in_a_name_are_not_believed),
        IN_BOTH(test_empty_file_is_an_empty_message),
        IN_BOTH(test_what_is_no_file_is_no_message),
        cmocka_unit_test_setup_teardown(test_message_that_became_a_link_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_that_became_a_fifo_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_message_that_became_a_directory_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_that_vanished_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
