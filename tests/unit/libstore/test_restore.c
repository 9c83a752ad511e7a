/* Folders that come back from a backup with the numbers that clients know, and files of a release
 * to come. */
#include "libstore/journalfile.h"
#include "libstore/restore.h"
#include "libutil/crc32c.h"
#include "tests/unit/libstore/fixture.h"

#define BOX SLICE_LIT("Box")

/* Builds the folder of a backup: UIDs 5 and 9 under this UIDVALIDITY. */
static int restore(struct fixture *f, uint32_t uidvalidity)
{
    struct store *aside, *mail = f->store;
    struct store_appended out;
    assert_int_equal(store_restore_begin(mail, &aside, &f->err), OK);
    assert_int_equal(store_restore_numbers(aside, uidvalidity, 100, 7, &f->err), OK);
    f->store = aside;
    for (uint32_t uid = 5; uid <= 9; uid += 4) {
        assert_int_equal(
            append_opt(f, INBOX, SLICE_LIT(MAIL), &(struct store_append_options){.uid = uid}, &out),
            OK);
        assert_int_equal(out.uid, uid);
    }
    f->store = mail;
    int rc = store_restore_install(mail, aside, BOX, &f->err);
    store_restore_end(mail, aside);
    return rc;
}

static void assert_restored(struct fixture *f, uint32_t uidvalidity)
{
    struct store_mailbox *mb = select_box(f, BOX);
    assert_int_equal(store_uidvalidity(mb), uidvalidity);
    assert_int_equal(store_count(mb), 2);
    assert_body(f, mb, 5, MAIL);
    assert_body(f, mb, 9, MAIL);
    assert_int_equal(store_uidnext(mb), 10);
    store_unselect(mb);
    assert_int_equal(problems(f, BOX), 0);
}

static void test_deleted_folder_comes_back_with_its_numbers(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    assert_int_equal(store_create(f->store, BOX, &f->err), OK);
    assert_int_equal(store_status(f->store, BOX, &st, &f->err), OK);
    assert_int_equal(store_delete(f->store, BOX, &f->err), OK);
    assert_int_equal(restore(f, st.uidvalidity), OK);
    assert_restored(f, st.uidvalidity);
}

static void test_folder_made_again_takes_the_old_numbers_while_it_is_empty(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_create(f->store, BOX, &f->err), OK);
    assert_int_equal(restore(f, 4711), OK);
    assert_restored(f, 4711);
    assert_int_equal(restore(f, 4712), ERR_EXISTS);
    assert_restored(f, 4711);
}

/* Its clients were told that these UIDs are gone: they must not come back (I8). */
static void test_emptied_folder_does_not_take_its_own_numbers_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(restore(f, 4711), OK);
    struct store_mailbox *mb = select_box(f, BOX);
    assert_int_equal(store_expunge(mb, NULL, false, NULL, &f->err), OK);
    store_unselect(mb);
    assert_int_equal(restore(f, 4711), ERR_EXISTS);
}

static void test_two_restores_at_a_time_are_refused(void **state)
{
    struct fixture *f = *state;
    struct store *one, *two;
    assert_int_equal(store_restore_begin(f->store, &one, &f->err), OK);
    assert_int_equal(store_restore_begin(f->store, &two, &f->err), ERR_BUSY);
    store_restore_end(f->store, one);
    assert_int_equal(store_restore_begin(f->store, &two, &f->err), OK);
    store_restore_end(f->store, two);
}

static void test_journal_of_a_newer_release_is_refused_and_not_touched(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    char path[256];
    struct journal_head head;
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL),
                         &(struct store_append_options){.durable = true}, &out),
        OK);
    store_close(f->store);
    f->store = NULL;
    path_of(f, "veredus.journal", path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &head, sizeof(head), 0), sizeof(head));
    head.version = 99;
    head.crc = crc32c(0, slice_from(&head.version, sizeof(head) - 12));
    assert_int_equal(pwrite(fd, &head, sizeof(head), 0), sizeof(head));
    close(fd);
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &f->store, &f->err), ERR_VERSION);
    assert_non_null(strstr(f->err.text, "newer release"));
}

/* More messages than ids are remembered. */
static void test_long_import_repeated_adds_nothing(void **state)
{
    struct fixture *f = *state;
    enum { MANY = 5000 };
    for (int turn = 0; turn < 2; turn++)
        for (uint64_t i = 0; i < MANY; i++) {
            struct store_appended out;
            const struct store_append_options opt = {.delivery = 77000 + i, .import = true};
            assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
            assert_int_equal(out.duplicate, turn);
        }
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, MANY);
}

#define IN_BOTH(t)                                       \
    cmocka_unit_test_setup_teardown(t, setup, teardown), \
        cmocka_unit_test_setup_teardown(t, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_deleted_folder_comes_back_with_its_numbers),
        IN_BOTH(test_folder_made_again_takes_the_old_numbers_while_it_is_empty),
        IN_BOTH(test_emptied_folder_does_not_take_its_own_numbers_again),
        IN_BOTH(test_two_restores_at_a_time_are_refused),
        IN_BOTH(test_journal_of_a_newer_release_is_refused_and_not_touched),
        IN_BOTH(test_long_import_repeated_adds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
