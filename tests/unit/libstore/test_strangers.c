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

static void test_empty_file_whose_name_tells_a_size_is_told(void **state)
{
    struct fixture *f = *state;
    write_file(f, "cur/1.M1.host,S=14:2,", "");
    take_in(f);
    assert_told(f, "message 1: the file holds nothing");
    take_in(f); /* as it says */
    assert_told(f, "`rebuild` keeps it");
}

static void test_empty_file_of_a_stranger_is_no_fault(void **state)
{
    struct fixture *f = *state;
    write_file(f, "cur/1.M1.host:2,", "");
    write_file(f, "cur/2.M1.host,S=0:2,", "");
    take_in(f);
    assert_int_equal(problems(f, INBOX), 0);
}

/* The name reached the disk before the machine stopped, the data and the record did not. */
static void test_own_file_that_was_never_written_is_told(void **state)
{
    struct fixture *f = *state;
    write_file(f, "cur/00112233445566778899aabbccddeeff.veredus:2,", "");
    take_in(f);
    assert_told(f, "message 1: the file holds nothing");
}

/* As above, but the record is there, and the size, too, where `size` is that of the message. */
static void appended_and_spoiled(struct fixture *f, int size, const char *told)
{
    static const char text[] = "Subject: a\r\n\r\nx\r\n";
    char path[256], full[600];
    append(f, INBOX, SLICE_LIT(text));
    path_of(f, "cur", path);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
        assert_int_equal(truncate(full, 0), 0);
        assert_int_equal(truncate(full, size < 0 ? (off_t)strlen(text) : size), 0);
    }
    closedir(d);
    assert_told(f, told);
    assert_told(f, "`rebuild` keeps it");
    take_in(f);
    assert_told(f, told);
}

static void test_message_of_zeros_is_told(void **state)
{
    appended_and_spoiled(*state, -1, "message 1: the file holds zeros alone");
}

static void test_message_of_no_bytes_is_told(void **state)
{
    appended_and_spoiled(*state, 0, "message 1: message 1 has 0 bytes instead of 17");
}

static void test_message_cut_short_is_told(void **state)
{
    appended_and_spoiled(*state, 7, "message 1: message 1 has 7 bytes instead of 17");
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
        IN_BOTH(test_empty_file_whose_name_tells_a_size_is_told),
        IN_BOTH(test_empty_file_of_a_stranger_is_no_fault),
        cmocka_unit_test_setup_teardown(
            test_own_file_that_was_never_written_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_of_zeros_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_of_no_bytes_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_cut_short_is_told, setup, teardown),
        IN_BOTH(test_what_is_no_file_is_no_message),
        cmocka_unit_test_setup_teardown(test_message_that_became_a_link_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_that_became_a_fifo_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_message_that_became_a_directory_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_that_vanished_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
