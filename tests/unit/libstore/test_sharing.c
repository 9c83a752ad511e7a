/* Lists of rights, private \Seen, and metadata; against the verbs, in both modes. */
#include "tests/unit/libstore/fixture.h"

#include "libstore/acl.h"
#include "libstore/metadata.h"
#include "libstore/seen.h"

#define BOX SLICE_LIT("Box")

static void make_box(struct fixture *f)
{
    assert_int_equal(store_create(f->store, BOX, &f->err), OK);
}

static int give(struct fixture *f, const char *who, enum acl_how how, const char *rights)
{
    unsigned bits;
    assert_int_equal(acl_parse_rights(slice_of(rights), &bits), OK);
    return store_acl_change(f->store, BOX, slice_of(who), how, bits, &f->err);
}

static unsigned rights_of(struct fixture *f, const char *who)
{
    struct acl a;
    assert_int_equal(store_acl_get(f->store, BOX, &a, &f->err), OK);
    unsigned rights = acl_rights_of(&a, slice_of(who));
    acl_clear(&a);
    return rights;
}

static void test_rights_are_set_added_removed(void **state)
{
    struct fixture *f = *state;
    make_box(f);
    assert_int_equal(rights_of(f, "bob@x"), 0);
    assert_int_equal(give(f, "Bob@x", ACL_SET, "lr"), OK);
    assert_int_equal(give(f, "bob@x", ACL_ADD, "si"), OK);
    assert_int_equal(give(f, "bob@x", ACL_REMOVE, "r"), OK);
    reopen(f);
    assert_int_equal(rights_of(f, "BOB@x"), ACL_LOOKUP | ACL_SEEN | ACL_INSERT);
    assert_int_equal(give(f, "anyone", ACL_SET, "lrw"), OK);
    assert_int_equal(rights_of(f, "carol@x"), ACL_LOOKUP | ACL_READ | ACL_WRITE);
    assert_int_equal(give(f, "-carol@x", ACL_SET, "w"), OK);
    assert_int_equal(rights_of(f, "carol@x"), ACL_LOOKUP | ACL_READ);
    assert_int_equal(give(f, "bob@x", ACL_SET, ""), OK);
    assert_int_equal(rights_of(f, "bob@x"), ACL_LOOKUP | ACL_READ | ACL_WRITE);
}

static void append_durable(struct fixture *f)
{
    struct store_append *a;
    struct store_appended out;
    const struct store_append_options opt = {.durable = true};
    assert_int_equal(store_append_begin(f->store, BOX, 0, &a, &f->err), OK);
    assert_int_equal(store_append_write(a, SLICE_LIT("Subject: x\r\n\r\nx\r\n"), &f->err), OK);
    assert_int_equal(store_append_commit(a, &opt, &out, &f->err), OK);
}

static bool has_journal(struct fixture *f)
{
    return faccessat(store_dirfd(f->store), "veredus.journal", F_OK, 0) == 0;
}

static void test_a_shared_folder_does_without_a_journal(void **state)
{
    struct fixture *f = *state;
    make_box(f);
    assert_int_equal(give(f, "bob@x", ACL_SET, "lri"), OK);
    append_durable(f);
    assert_false(has_journal(f));
    assert_int_equal(give(f, "bob@x", ACL_SET, "lr"), OK);
    append_durable(f);
    assert_false(has_journal(f));
}

static void test_what_cannot_be_given_is_refused(void **state)
{
    struct fixture *f = *state;
    make_box(f);
    assert_int_equal(give(f, "bob x", ACL_SET, "l"), ERR_SYNTAX);
    assert_int_equal(give(f, "bob\nx", ACL_SET, "l"), ERR_SYNTAX);
    assert_int_equal(give(f, "-", ACL_SET, "l"), ERR_SYNTAX);
    assert_int_equal(store_acl_change(f->store, SLICE_LIT("none"), SLICE_LIT("bob@x"), ACL_SET,
                         ACL_READ, &f->err),
        ERR_NOT_FOUND);
}

static void test_a_damaged_list_gives_nobody_anything(void **state)
{
    struct fixture *f = *state;
    struct acl a;
    make_box(f);
    assert_int_equal(give(f, "bob@x", ACL_SET, "lr"), OK);
    write_file(f, ".Box/veredus.acl", "bob@x lr\nanyone lrq\n");
    assert_int_equal(store_acl_get(f->store, BOX, &a, &f->err), ERR_CORRUPT);
    assert_int_equal(acl_rights_of(&a, SLICE_LIT("bob@x")), 0);
    assert_int_equal(give(f, "bob@x", ACL_SET, "l"), OK);
    assert_int_equal(rights_of(f, "bob@x"), ACL_LOOKUP);
}

static void test_the_summary_follows_renames_and_deletions(void **state)
{
    struct fixture *f = *state;
    char path[256], line[200] = "";
    bool shared;
    make_box(f);
    assert_int_equal(give(f, "bob@x", ACL_SET, "lr"), OK);
    assert_int_equal(store_rename(f->store, BOX, SLICE_LIT("New"), &f->err), OK);
    assert_int_equal(store_acl_summary(f->store, &shared, &f->err), OK);
    assert_true(shared);
    path_of(f, "veredus.shared", path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    assert_null(fgets(line + 100, 100, file));
    fclose(file);
    assert_string_equal(line, ".New bob@x\n");
    assert_int_equal(store_delete(f->store, SLICE_LIT("New"), &f->err), OK);
    assert_int_equal(store_acl_summary(f->store, &shared, &f->err), OK);
    assert_false(shared);
}

static void test_private_seen_leaves_the_owners_alone(void **state)
{
    struct fixture *f = *state;
    struct store *home;
    char dir[128];
    struct uidset changed = {0}, both = uids(1, 2);
    const struct store_flags add = {.how = STORE_ADD, .flags = STORE_SEEN | STORE_FLAGGED};
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mine = select_box(f, INBOX);
    set_flags(f, mine, 1, STORE_ADD, STORE_SEEN);
    snprintf(dir, sizeof(dir), "%s/home", f->dir);
    assert_int_equal(store_open(AT_FDCWD, dir, &f->opt, &home, &f->err), OK);
    for (int turn = 0; turn < 2; turn++) { /* the second time from its file */
        struct store_mailbox *theirs = select_box(f, INBOX);
        assert_int_equal(store_private_seen(theirs, home, &f->err), OK);
        assert_int_equal(flags_of(theirs, 1) & STORE_SEEN, 0);
        assert_int_equal(flags_of(theirs, 2), turn ? STORE_SEEN | STORE_FLAGGED : 0);
        struct uidset second = uids(2, 2);
        assert_int_equal(store_change(theirs, &second, &add, &changed, NULL, &f->err), OK);
        assert_uids(&changed, "2");
        assert_int_equal(flags_of(theirs, 2), STORE_SEEN | STORE_FLAGGED);
        uidset_clear(&second);
        if (turn) {
            const struct store_flags remove = {.how = STORE_REMOVE, .flags = STORE_SEEN};
            assert_int_equal(store_change(theirs, &both, &remove, NULL, NULL, &f->err), OK);
            assert_int_equal(flags_of(theirs, 2), STORE_FLAGGED);
        }
        store_unselect(theirs);
    }
    struct store_changes ch;
    assert_int_equal(store_refresh(mine, true, &ch, &f->err), OK);
    assert_int_equal(flags_of(mine, 1), STORE_SEEN);
    assert_int_equal(flags_of(mine, 2), STORE_FLAGGED);
    uidset_clear(&changed);
    uidset_clear(&both);
    store_unselect(mine);
    store_close(home);
}

/* --- INBOX, as those have it to whom it is shared --------------------------------------------- */

static struct store *open_guest(struct fixture *f, int fds[2])
{
    char path[256];
    struct store *guest;
    struct store_options opt = f->opt;
    path_of(f, "veredus.inbox", path);
    fds[0] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fds[1] = open(f->mail, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(fds[0] >= 0 && fds[1] >= 0);
    opt.single = true;
    opt.maildir = fds[1];
    opt.create = false;
    assert_int_equal(store_open(fds[0], ".", &opt, &guest, &f->err), OK);
    return guest;
}

static void close_guest(struct store *guest, const int fds[2])
{
    store_close(guest);
    close(fds[0]);
    close(fds[1]);
}

static uint32_t append_as(struct fixture *f, struct store *s, uint64_t delivery, size_t size)
{
    struct store_append *a;
    struct store_appended out;
    const struct store_append_options opt = {.durable = !delivery, .delivery = delivery};
    char *text = xcalloc(1, size + 1);
    memset(text, 'x', size);
    assert_int_equal(store_append_begin(s, INBOX, 0, &a, &f->err), OK);
    assert_int_equal(store_append_write(a, SLICE_LIT("Subject: x\r\n\r\n"), &f->err), OK);
    assert_int_equal(store_append_write(a, slice_from(text, size), &f->err), OK);
    assert_int_equal(store_append_commit(a, &opt, &out, &f->err), OK);
    free(text);
    return out.uid;
}

static uint32_t messages_in(struct fixture *f, struct store *s, uint32_t *uidvalidity)
{
    struct store_status st;
    assert_int_equal(store_status(s, INBOX, &st, &f->err), OK);
    *uidvalidity = st.uidvalidity;
    return st.messages;
}

static void test_owner_and_guest_have_one_inbox(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    uint32_t first = append_as(f, f->store, 0, 10), owners, guests;
    assert_int_equal(
        store_acl_change(f->store, INBOX, SLICE_LIT("bob@x"), ACL_SET, ACL_READ, &f->err), OK);
    struct store *guest = open_guest(f, fds);
    assert_int_equal(append_as(f, guest, 0, 10), first + 1);
    assert_int_equal(append_as(f, guest, 0, 1 << 20), first + 2);
    assert_int_equal(append_as(f, f->store, 77, 10), first + 3);
    assert_int_equal(messages_in(f, guest, &guests), 4);
    assert_int_equal(messages_in(f, f->store, &owners), 4);
    assert_int_equal(guests, owners);
    struct store_mailbox *mb;
    struct store_copied copied;
    struct store_body body;
    struct uidset second = uids(first + 1, first + 1), gone = {0};
    assert_int_equal(store_select(guest, INBOX, false, &mb, &f->err), OK);
    assert_int_equal(store_body(mb, first + 2, &body, &f->err), OK);
    assert_int_equal(body.content.n, 14 + (1 << 20));
    store_body_release(&body);
    assert_int_equal(store_copy(mb, &second, INBOX, &copied, &f->err), OK);
    store_copied_clear(&copied);
    assert_int_equal(store_expunge(mb, &second, false, &gone, &f->err), OK);
    store_unselect(mb);
    assert_int_equal(messages_in(f, f->store, &owners), 4);
    assert_int_equal(store_rebuild(guest, INBOX, &f->err), OK);
    assert_int_equal(messages_in(f, f->store, &owners), 4);
    assert_int_equal(guests, owners);
    uidset_clear(&second);
    uidset_clear(&gone);
    close_guest(guest, fds);
}

/* Lists of another server lie where a guest reads nothing; numbers that it cannot know it must not
 * replace by others. */
static void test_a_guest_mends_an_inbox_and_gives_it_no_new_numbers(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    uint32_t before, after;
    struct store_status st;
    char path[256];
    append_as(f, f->store, 0, 10);
    messages_in(f, f->store, &before);
    path_of(f, "dovecot-uidlist", path);
    assert_int_equal(mkdir(path, 0), 0); /* root can read any file, but not that */
    struct store *guest = open_guest(f, fds);
    write_file(f, "veredus.inbox/veredus.index", "damaged");
    assert_int_equal(messages_in(f, guest, &after), 1);
    assert_int_equal(after, before);
    path_of(f, "veredus.inbox/veredus.index", path);
    assert_int_equal(unlink(path), 0);
    path_of(f, "veredus.inbox/veredus.log", path);
    assert_int_equal(unlink(path), 0);
    close_guest(guest, fds);
    guest = open_guest(f, fds);
    assert_int_equal(store_status(guest, INBOX, &st, &f->err), ERR_TEMP);
    close_guest(guest, fds);
}

static void put(struct fixture *f, struct slice folder, const char *name, const char *value)
{
    struct metadata_entry e = {slice_of(name), {NULL, 0}};
    if (value)
        e.value = slice_of(value);
    assert_int_equal(store_metadata_set(f->store, folder, &e, 1, &f->err), OK);
}

static void assert_value(
    struct fixture *f, struct slice folder, const char *name, const char *value)
{
    struct metadata m;
    assert_int_equal(store_metadata_get(f->store, folder, &m, &f->err), OK);
    struct slice got = metadata_find(&m, slice_of(name));
    if (value)
        assert_true(got.p && slice_is(got, value));
    else
        assert_null(got.p);
    metadata_clear(&m);
}

static void test_metadata_is_kept_with_the_folder(void **state)
{
    struct fixture *f = *state;
    make_box(f);
    put(f, BOX, "/private/comment", "one\nline 5 /private/x");
    put(f, BOX, "/shared/a", "");
    put(f, SLICE_LIT(""), "/private/comment", "of the server");
    put(f, INBOX, "/private/comment", "of INBOX");
    assert_int_equal(store_rename(f->store, BOX, SLICE_LIT("B2"), &f->err), OK);
    reopen(f);
    assert_value(f, SLICE_LIT("B2"), "/PRIVATE/comment", "one\nline 5 /private/x");
    assert_value(f, SLICE_LIT("B2"), "/shared/a", "");
    assert_value(f, SLICE_LIT(""), "/private/comment", "of the server");
    assert_value(f, INBOX, "/private/comment", "of INBOX");
    put(f, SLICE_LIT("B2"), "/Private/Comment", NULL);
    assert_value(f, SLICE_LIT("B2"), "/private/comment", NULL);
}

static void test_metadata_has_limits(void **state)
{
    struct fixture *f = *state;
    struct metadata_entry many[METADATA_ENTRIES_MAX + 1];
    char names[METADATA_ENTRIES_MAX + 1][32];
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        snprintf(names[i], sizeof(names[i]), "/private/n%zu", i);
        many[i] = (struct metadata_entry){slice_of(names[i]), SLICE_LIT("x")};
    }
    assert_int_equal(
        store_metadata_set(f->store, INBOX, many, ARRAY_LEN(many), &f->err), ERR_LIMIT);
    assert_value(f, INBOX, "/private/n0", NULL);
    static const char *const bad[] = {"/private", "/private/", "/other/x", "private/x",
        "/private//x", "/private/*", "/private/a%", "/private/a\nb", ""};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(metadata_name_ok(slice_of(bad[i])));
}

static void test_special_uses_are_assigned_and_taken_back(void **state)
{
    struct fixture *f = *state;
    unsigned uses, sent = store_use_bit(SLICE_LIT("\\Sent"));
    bool assigned;
    make_box(f);
    assert_int_equal(store_use_get(f->store, BOX, &uses, &assigned, &f->err), OK);
    assert_false(assigned);
    assert_int_equal(store_use_set(f->store, BOX, sent, &f->err), OK);
    reopen(f);
    assert_int_equal(store_use_get(f->store, BOX, &uses, &assigned, &f->err), OK);
    assert_true(assigned && uses == sent);
    assert_int_equal(store_use_set(f->store, BOX, 0, &f->err), OK);
    assert_int_equal(store_use_get(f->store, BOX, &uses, &assigned, &f->err), OK);
    assert_true(assigned && uses == 0);
}

#define IN_BOTH(test)                                       \
    cmocka_unit_test_setup_teardown(test, setup, teardown), \
        cmocka_unit_test_setup_teardown(test, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_rights_are_set_added_removed),
        IN_BOTH(test_a_shared_folder_does_without_a_journal),
        IN_BOTH(test_what_cannot_be_given_is_refused),
        IN_BOTH(test_a_damaged_list_gives_nobody_anything),
        IN_BOTH(test_the_summary_follows_renames_and_deletions),
        IN_BOTH(test_private_seen_leaves_the_owners_alone),
        cmocka_unit_test_setup_teardown(test_owner_and_guest_have_one_inbox, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_guest_mends_an_inbox_and_gives_it_no_new_numbers, setup, teardown),
        IN_BOTH(test_metadata_is_kept_with_the_folder),
        IN_BOTH(test_metadata_has_limits),
        IN_BOTH(test_special_uses_are_assigned_and_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
