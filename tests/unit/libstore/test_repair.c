/* What repairs make of folders that somebody left unfinished, of files in a wrong place, and of
 * what a newer release wrote. */
#include "libstore/format.h"
#include "libstore/housekeep.h"
#include "libutil/crc32c.h"
#include "tests/unit/libstore/damage.h"

/* As who dies while he makes a folder leaves it. */
static void test_rebuild_makes_a_folder_whole(void **state)
{
    struct fixture *f = *state;
    char path[256];
    path_of(f, ".x", path);
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(f, ".x/tmp", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(store_rebuild(f->store, SLICE_LIT("x"), &f->err), OK);
    append(f, SLICE_LIT("x"), SLICE_LIT(MAIL));
}

/* As a delivery leaves it that was made with coexistence, forgotten by a power cut, and repeated
 * without. */
static void test_file_in_new_of_another_form_does_not_hide_the_message(void **state)
{
    struct fixture *f = *state;
    const struct store_append_options how = {.delivery = 7};
    struct store_appended out;
    char name[300], path[300];
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
    file_named(f, "07000000", name);
    snprintf(path, sizeof(path), "new/%.*s", (int)strcspn(name + 4, ":"), name + 4);
    write_file(f, path, "Subject: hello\n\nText.\n");
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    assert_body(f, mb, 1, MAIL);
    store_unselect(mb);
}

/* All of them, or only the log, as when the machine stopped after the others. */
static void test_index_files_beside_the_messages_of_inbox_go_to_their_place(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"veredus.log", "veredus.index", "veredus.cache"};
    char place[64], from[256], to[256];
    struct store_status before, after;
    populate(f);
    open_store(f);
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    for (size_t n = 1; n <= ARRAY_LEN(names); n += 2) {
        store_close(f->store);
        for (size_t i = 0; i < n; i++) {
            snprintf(place, sizeof(place), "veredus.inbox/%s", names[i]);
            path_of(f, place, from);
            path_of(f, names[i], to);
            assert_int_equal(rename(from, to), 0);
        }
        open_store(f);
        assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
        assert_int_equal(after.uidvalidity, before.uidvalidity);
        assert_int_equal(after.uidnext, before.uidnext);
        assert_int_equal(after.messages, before.messages);
        assert_int_equal(access(from, F_OK), 0);
        assert_int_equal(access(to, F_OK), -1);
    }
}

static void test_newer_release_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    populate(f);
    struct saved index = load(f, "veredus.inbox/veredus.index");
    struct disk_index head;
    memcpy(&head, index.data, sizeof(head));
    index_seal(&head);
    head.version = FORMAT_VERSION + 1;
    head.crc = crc32c(0, slice_from((char *)&head + 12, sizeof(head) - 12));
    memcpy(index.data, &head, sizeof(head));
    save(f, "veredus.inbox/veredus.index", index.data, index.n);
    open_store(f);
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), ERR_VERSION);
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), ERR_VERSION);
    struct saved after = load(f, "veredus.inbox/veredus.index");
    assert_int_equal(after.n, index.n);
    assert_memory_equal(after.data, index.data, index.n);
    free(after.data);
    free(index.data);
}

static void test_open_view_survives_a_rebuild_by_another_process(void **state)
{
    struct fixture *f = *state;
    populate(f);
    open_store(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct store *other;
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    assert_int_equal(store_rebuild(other, INBOX, &f->err), OK);
    store_close(other);
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_changes ch;
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(ch.arrived, 1);
    assert_int_equal(store_count(mb), MESSAGES);
    set_flags(f, mb, 1, STORE_ADD, STORE_DRAFT);
    store_unselect(mb);
}

static void test_file_of_an_expunged_message_is_no_message_and_housekeeping_removes_it(void **state)
{
    struct fixture *f = *state;
    char hex[2 * STORE_GUID + 1], name[64];
    struct store_msg m;
    bool done;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_true(store_get(mb, 1, &m));
    for (size_t i = 0; i < STORE_GUID; i++)
        snprintf(hex + 2 * i, 3, "%02x", m.guid[i]);
    struct uidset all = uids(1, 1);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), OK);
    store_unselect(mb);
    assert_int_equal(files_in(f, "cur"), 0);
    /* As if the session had died before it came to that. */
    snprintf(name, sizeof(name), "cur/%s.veredus:2,", hex);
    write_file(f, name, MAIL);
    assert_int_equal(problems(f, INBOX), 0);
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    assert_int_equal(files_in(f, "cur"), 0);
    write_file(f, name, MAIL);
    assert_int_equal(store_compact(f->store, INBOX, true, &done, &f->err), OK);
    assert_int_equal(files_in(f, "cur"), 0);
    uidset_clear(&all);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rebuild_makes_a_folder_whole),
        TEST(test_file_in_new_of_another_form_does_not_hide_the_message),
        TEST(test_index_files_beside_the_messages_of_inbox_go_to_their_place),
        TEST(test_newer_release_is_refused_and_left_alone),
        TEST(test_open_view_survives_a_rebuild_by_another_process),
        TEST(test_file_of_an_expunged_message_is_no_message_and_housekeeping_removes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
