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
    assert_int_equal(give(f, "bob@x", ACL_SET, "lra"), ERR_DENIED);
    assert_int_equal(give(f, "bob@x", ACL_SET, "k"), ERR_DENIED);
    assert_int_equal(give(f, "bob x", ACL_SET, "l"), ERR_SYNTAX);
    assert_int_equal(give(f, "bob\nx", ACL_SET, "l"), ERR_SYNTAX);
    assert_int_equal(give(f, "-", ACL_SET, "l"), ERR_SYNTAX);
    assert_int_equal(
        store_acl_change(f->store, INBOX, SLICE_LIT("bob@x"), ACL_SET, ACL_READ, &f->err),
        ERR_DENIED);
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
        IN_BOTH(test_metadata_is_kept_with_the_folder),
        IN_BOTH(test_metadata_has_limits),
        IN_BOTH(test_special_uses_are_assigned_and_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
