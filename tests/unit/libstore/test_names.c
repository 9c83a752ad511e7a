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
    char out[NAME_DISK_MAX];
    assert_int_equal(name_to_disk(SLICE_LIT("inBox/x"), out), OK);
    assert_string_equal(out, ".INBOX.x");
    assert_disk("inboxes/x", ".inboxes.x");
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
        "\xc3", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xc0\xae", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "a\xc2\x85"};
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

/* Of others: UTF-8 as it stands, and what is no modified UTF-7 at all. */
static void assert_raw(const char *disk, const char *folder)
{
    char out[NAME_DISK_MAX];
    struct buf back;
    buf_init(&back, 1000);
    assert_int_equal(name_from_disk(slice_of(disk), &back), OK);
    assert_true(slice_is(buf_slice(&back), folder));
    assert_int_equal(name_to_raw(slice_of(folder), out), OK);
    assert_string_equal(out, disk);
    assert_int_equal(name_to_disk(slice_of(folder), out), OK);
    assert_string_not_equal(out, disk);
    buf_clear(&back);
}

static void test_names_that_others_wrote_as_they_stand_are_read(void **state)
{
    (void)state;
    char out[NAME_DISK_MAX];
    assert_raw(".Entw\xc3\xbcrfe.2024", "Entw\xc3\xbcrfe/2024");
    assert_raw(".R&D", "R&D");
    assert_raw(".&", "&");
    assert_raw(".&APw", "&APw");
    assert_raw(".&AGE-", "&AGE-"); /* an 'a' written so that we would not */
    assert_raw(".inbox.child", "inbox/child");
    /* What we write is no second name, and a dot within a level cannot be told from one between. */
    assert_int_equal(name_to_raw(SLICE_LIT("Sent/2024"), out), ERR_NOT_FOUND);
    assert_int_equal(name_to_raw(SLICE_LIT("\xc3\xbc.x"), out), ERR_NOT_FOUND);
    assert_int_equal(name_to_raw(SLICE_LIT("&APw-"), out), ERR_NOT_FOUND);
    assert_int_equal(name_to_raw(SLICE_LIT("INBOX"), out), ERR_NOT_FOUND);
}

static void test_every_byte_is_kept_or_refused(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char folder[] = {'a', (char)c, 'b'}, disk[NAME_DISK_MAX];
        struct buf back;
        int rc = name_to_disk(slice_from(folder, 3), disk);
        assert_int_equal(rc, c < ' ' || c >= 0x7f ? ERR_SYNTAX : OK);
        if (rc)
            continue;
        buf_init(&back, 100);
        assert_null(strchr(disk, '/'));
        assert_int_equal(name_from_disk(slice_of(disk), &back), OK);
        assert_true(slice_eq(buf_slice(&back), slice_from(folder, 3)));
        buf_clear(&back);
    }
}

/* A name is kept as it was sent: composed and decomposed letters are two folders, since either may
 * be there on disk already. */
static void test_names_are_not_normalised(void **state)
{
    (void)state;
    assert_disk("\xc3\xa9", ".&AOk-");
    assert_disk("e\xcc\x81", ".e&AwE-");
}

static bool is_listed(struct fixture *f, const char *folder)
{
    struct store_folder *folders;
    size_t n, found = 0;
    assert_int_equal(store_list(f->store, &folders, &n, &f->err), OK);
    for (size_t i = 0; i < n; i++)
        found += slice_is(folders[i].name, folder);
    store_list_free(folders, n);
    assert_true(found <= 1);
    return found;
}

static bool is_directory(struct fixture *f, const char *name)
{
    char path[256];
    struct stat st;
    path_of(f, name, path);
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void test_folders_with_raw_names_are_used_renamed_and_deleted(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct store_status st;
    static const char *const made[] = {
        ".\xc3\xbc", ".\xc3\xbc/cur", ".\xc3\xbc/new", ".\xc3\xbc/tmp", ".\xc3\xbc.x"};
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        path_of(f, made[i], path);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_true(is_listed(f, "\xc3\xbc"));
    assert_true(is_listed(f, "\xc3\xbc/x"));
    append(f, SLICE_LIT("\xc3\xbc"), SLICE_LIT(MAIL));
    assert_int_equal(store_status(f->store, SLICE_LIT("\xc3\xbc"), &st, &f->err), OK);
    assert_int_equal(st.messages, 1);
    assert_false(is_directory(f, ".&APw-"));
    assert_int_equal(store_create(f->store, SLICE_LIT("\xc3\xbc"), &f->err), ERR_EXISTS);
    assert_int_equal(
        store_rename(f->store, SLICE_LIT("\xc3\xbc"), SLICE_LIT("\xc3\xa4"), &f->err), OK);
    assert_true(is_directory(f, ".&AOQ-") && is_directory(f, ".&AOQ-.x"));
    assert_int_equal(store_status(f->store, SLICE_LIT("\xc3\xa4"), &st, &f->err), OK);
    assert_int_equal(st.messages, 1);
    /* Where both are there, ours is the folder. */
    path_of(f, ".\xc3\xa4", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(is_listed(f, "\xc3\xa4"));
    assert_int_equal(store_delete(f->store, SLICE_LIT("\xc3\xa4"), &f->err), OK);
    assert_true(is_directory(f, ".\xc3\xa4"));
    assert_int_equal(store_delete(f->store, SLICE_LIT("\xc3\xa4"), &f->err), OK);
    assert_false(is_listed(f, "\xc3\xa4") && is_directory(f, ".\xc3\xa4"));
}

static void test_no_file_of_ours_is_in_the_way_of_a_folder(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"maildrop", "uidlock", "veredus", "trash", "cur", "new",
        "tmp", "journal", "metalock", "acllock", "Trash.1", "..", ".", "a\\b", "a*%b", " "};
    assert_int_equal(store_lock_maildrop(f->store, &f->err), OK);
    append(f, INBOX, SLICE_LIT(MAIL));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(store_create(f->store, slice_of(names[i]), &f->err), OK);
        assert_true(is_listed(f, names[i]));
    }
}

static void test_directories_that_cannot_be_folders(void **state)
{
    (void)state;
    static const char *const bad[] = {".", "..", "cur", "", ".a..b", ".a.", "..a", ".a\xc3",
        ".a\x01", ".a\x7f", ".\xe2\x80\xa8", ".inbox", ".INBOX"};
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
        cmocka_unit_test(test_names_that_others_wrote_as_they_stand_are_read),
        cmocka_unit_test(test_every_byte_is_kept_or_refused),
        cmocka_unit_test(test_names_are_not_normalised),
        cmocka_unit_test(test_directories_that_cannot_be_folders),
        cmocka_unit_test_setup_teardown(
            test_folders_with_raw_names_are_used_renamed_and_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_no_file_of_ours_is_in_the_way_of_a_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mail_directory_cannot_be_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder_that_is_a_link_is_not_opened, setup, teardown),
        cmocka_unit_test(test_uid_sets_merge_and_iterate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
