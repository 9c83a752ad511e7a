#include "libstore/format.h"
#include "libstore/name.h"
#include "tests/unit/libstore/fixture.h"

static void assert_disk(const char *folder, const char *disk)
{
    char out[NAME_DISK_MAX];
    assert_int_equal(name_to_disk(slice_of(folder), out), OK);
    assert_string_equal(out, disk);
    if (strcmp(disk, ".") == 0)
        return;
    struct buf back;
    buf_init(&back, 1000);
    assert_int_equal(name_from_disk(slice_of(disk), &back), OK);
    assert_true(slice_is(buf_slice(&back), folder));
    buf_clear(&back);
}

static void test_names_are_written_as_maildir_plus_plus_and_read_back(void **state)
{
    (void)state;
    assert_disk("INBOX", ".");
    assert_disk("inbox", ".");
    assert_disk("Sent", ".Sent");
    assert_disk("Sent/2024", ".Sent.2024");
    assert_disk("INBOX/x", ".INBOX.x");
    assert_disk("a&b", ".a&-b");
    assert_disk("Entw\xc3\xbcrfe", ".Entw&APw-rfe");
    assert_disk("\xe5\x8f\xb0\xe5\x8c\x97", ".&U,BTFw-");
    assert_disk("\xf0\x9f\x93\xa7", ".&2D3c5w-");
    assert_disk("v1.2", ".v1&AC4-2");
    assert_disk("..", ".&AC4ALg-");
    assert_disk("../../etc", ".&AC4ALg-.&AC4ALg-.etc");
    assert_disk("tmp", ".tmp");
    assert_disk(" a ", ". a ");
}

static void test_bad_names_are_syntax_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "/", "a/", "/a", "a//b", "a\nb", "a\x01", "a\x7f", "\xff",
        "\xc3", "\xc0\xae", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xc2\x85"};
    char out[NAME_DISK_MAX], longer[300];
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(name_to_disk(slice_of(bad[i]), out), ERR_SYNTAX);
    assert_int_equal(name_to_disk(slice_from("a\0b", 3), out), ERR_SYNTAX);
    memset(longer, 'x', sizeof(longer));
    assert_int_equal(name_to_disk(slice_from(longer, 249), out), OK);
    assert_int_equal(name_to_disk(slice_from(longer, 250), out), ERR_SYNTAX);
    /* Short in UTF-8, too long on disk. */
    for (size_t i = 0; i + 4 <= 240; i += 4)
        memcpy(longer + i, "\xe5\x8f\xb0x", 4);
    assert_int_equal(name_to_disk(slice_from(longer, 240), out), ERR_SYNTAX);
}

static void test_directories_we_would_not_write_are_no_folders(void **state)
{
    (void)state;
    static const char *const bad[] = {".", "..", "cur", "", ".a..b", ".a.", ".&", ".&AGE-", ".&APw",
        ".a\xc3\xbc", ".&2D0-", ".&AC8-", ".inbox", ".INBOX"};
    struct buf out;
    buf_init(&out, 1000);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(name_from_disk(slice_of(bad[i]), &out), ERR_SYNTAX);
        assert_int_equal(buf_len(&out), 0);
    }
    buf_clear(&out);
}

static void test_mail_directory_cannot_be_left(void **state)
{
    struct fixture *f = *state;
    struct store *s;
    int at = open(f->dir, O_RDONLY | O_DIRECTORY);
    char path[256];
    snprintf(path, sizeof(path), "%s/link", f->dir);
    assert_int_equal(symlink("/tmp", path), 0);
    static const char *const bad[] = {"..", "mail/..", "/tmp", "link", "link/x", "mail//x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(store_open(at, bad[i], &f->opt, &s, &f->err), ERR_DENIED);
    struct store_options no_create = {0};
    assert_int_equal(store_open(at, "absent", &no_create, &s, &f->err), ERR_NOT_FOUND);
    assert_int_equal(store_open(at, "new/deep", &f->opt, &s, &f->err), OK);
    store_close(s);
    close(at);
}

static void test_folder_that_is_a_link_is_not_opened(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct store_status st;
    path_of(f, ".evil", path);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_false(store_exists(f->store, SLICE_LIT("evil")));
    assert_true(store_status(f->store, SLICE_LIT("evil"), &st, &f->err) != OK);
}

static void test_uid_sets_merge_and_iterate(void **state)
{
    (void)state;
    struct uidset s = {0};
    uint32_t order[] = {5, 7, 6, 1, 3, 2, 10, UINT32_MAX, 9, 5};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        uidset_add(&s, order[i]);
    assert_uids(&s, "1:3,5:7,9:10,4294967295");
    uidset_add_range(&s, 4, 8);
    assert_uids(&s, "1:10,4294967295");
    assert_int_equal(uidset_count(&s), 11);
    uint32_t uid = 0, n = 0;
    while (uidset_next(&s, &uid))
        n++;
    assert_int_equal(n, 11);
    assert_true(uidset_has(&s, 4));
    assert_false(uidset_has(&s, 11));
    uidset_add_range(&s, 0, UINT32_MAX);
    assert_int_equal(s.n, 1);
    uidset_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_written_as_maildir_plus_plus_and_read_back),
        cmocka_unit_test(test_bad_names_are_syntax_errors),
        cmocka_unit_test(test_directories_we_would_not_write_are_no_folders),
        cmocka_unit_test_setup_teardown(test_mail_directory_cannot_be_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder_that_is_a_link_is_not_opened, setup, teardown),
        cmocka_unit_test(test_uid_sets_merge_and_iterate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
