/* Quota, counted in folder totals; against the verbs, in both modes. */
#include "tests/unit/libstore/fixture.h"

#include "libstore/quota.h"

static void set(struct fixture *f, const char *text)
{
    int rc = store_quota_set(f->store, slice_of(text), &f->err);
    if (rc)
        print_error("%s\n", f->err.text);
    assert_int_equal(rc, OK);
}

static int check(struct fixture *f, const char *folder, uint64_t bytes, enum quota_for what)
{
    return store_quota_check(f->store, slice_of(folder), bytes, 1, what, &f->err);
}

static void test_no_limits_let_anything_in(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(check(f, "INBOX", UINT64_MAX / 2, QUOTA_APPEND), OK);
    set(f, "");
    assert_int_equal(check(f, "INBOX", UINT64_MAX / 2, QUOTA_APPEND), OK);
}

static void test_usage_is_the_sum_of_folders_that_count(void **state)
{
    struct fixture *f = *state;
    struct quota_usage u;
    set(f, "bytes 100000\nfolder ignore Archive\n");
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"Archive", "Archive/old", "Work"};
        assert_int_equal(store_create(f->store, slice_of(names[i]), &f->err), OK);
        append(f, slice_of(names[i]), SLICE_LIT(MAIL));
    }
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_quota_usage(f->store, &u, &f->err), OK);
    assert_int_equal(u.messages, 2);
    assert_int_equal(u.bytes, 2 * strlen(MAIL));
    /* What others do is seen at once, also in folders that were counted before. */
    struct store *other;
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    struct store *mine = f->store;
    f->store = other;
    append(f, SLICE_LIT("Work"), SLICE_LIT(MAIL));
    assert_int_equal(store_create(f->store, SLICE_LIT("New"), &f->err), OK);
    append(f, SLICE_LIT("New"), SLICE_LIT(MAIL));
    f->store = mine;
    store_close(other);
    assert_int_equal(store_quota_usage(f->store, &u, &f->err), OK);
    assert_int_equal(u.messages, 4);
}

static void test_expunge_makes_room(void **state)
{
    struct fixture *f = *state;
    set(f, "messages 1\n");
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(check(f, "INBOX", 1, QUOTA_APPEND), ERR_QUOTA);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_expunge(mb, NULL, false, NULL, &f->err), OK);
    store_unselect(mb);
    assert_int_equal(check(f, "INBOX", 1, QUOTA_APPEND), OK);
}

static void test_grace_is_for_deliveries_to_what_is_not_full(void **state)
{
    struct fixture *f = *state;
    char limits[100];
    snprintf(limits, sizeof(limits), "bytes %zu\ngrace 100\n", strlen(MAIL) + 1);
    set(f, limits);
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(check(f, "INBOX", 1, QUOTA_APPEND), OK);
    assert_int_equal(check(f, "INBOX", 2, QUOTA_APPEND), ERR_QUOTA);
    assert_int_equal(check(f, "INBOX", strlen(MAIL), QUOTA_DELIVERY), OK);
    assert_int_equal(check(f, "INBOX", 2 * strlen(MAIL), QUOTA_DELIVERY), ERR_QUOTA);
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(check(f, "INBOX", 1, QUOTA_DELIVERY), ERR_QUOTA);
    assert_int_equal(check(f, "INBOX", 0, QUOTA_ADDRESS), ERR_QUOTA);
}

static void test_a_folder_may_have_more(void **state)
{
    struct fixture *f = *state;
    set(f, "bytes 1000\nfolder +50% Trash\nfolder +10 Trash/deep\n");
    assert_int_equal(check(f, "INBOX", 1001, QUOTA_APPEND), ERR_QUOTA);
    assert_int_equal(check(f, "Trash", 1500, QUOTA_APPEND), OK);
    assert_int_equal(check(f, "Trash", 1501, QUOTA_APPEND), ERR_QUOTA);
    assert_int_equal(check(f, "Trash/more", 1500, QUOTA_APPEND), OK);
    assert_int_equal(check(f, "Trash/deep", 1011, QUOTA_APPEND), ERR_QUOTA);
    assert_int_equal(check(f, "Trash2", 1001, QUOTA_APPEND), ERR_QUOTA);
}

static void test_limits_are_kept_for_who_is_not_told(void **state)
{
    struct fixture *f = *state;
    struct quota q;
    set(f, "bytes 5\nmessages 7\ndefer\nfolder ignore A b\n");
    reopen(f);
    assert_int_equal(store_quota_get(f->store, &q, &f->err), OK);
    assert_int_equal(q.bytes, 5);
    assert_int_equal(q.messages, 7);
    assert_true(q.defer);
    assert_int_equal(q.nrules, 1);
    assert_true(slice_is(q.rules[0].folder, "A b"));
    /* A damaged file must not stop mail. */
    write_file(f, "veredus.quota", "nonsense\n");
    reopen(f);
    assert_int_equal(store_quota_get(f->store, &q, &f->err), OK);
    assert_int_equal(q.bytes, 0);
}

static void test_malformed_limits_are_refused(void **state)
{
    static const char *const bad[] = {"bytes x", "bytes -1", "folder Trash", "folder +10%",
        "folder 10% Trash", "folder +x Trash", "grace 1001", "defer now", "what 1",
        "bytes 99999999999999999999"};
    struct quota q;
    struct error err;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_true(quota_parse(slice_of(bad[i]), &q, &err) != OK);
}

static void test_a_delivery_made_before_is_known(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    const struct store_append_options opt = {.delivery = 42};
    assert_false(store_delivered(f->store, INBOX, 42));
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    reopen(f);
    assert_true(store_delivered(f->store, INBOX, 42));
    assert_false(store_delivered(f->store, INBOX, 43));
}

#define IN_BOTH(test)                                       \
    cmocka_unit_test_setup_teardown(test, setup, teardown), \
        cmocka_unit_test_setup_teardown(test, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_no_limits_let_anything_in),
        IN_BOTH(test_usage_is_the_sum_of_folders_that_count),
        IN_BOTH(test_expunge_makes_room),
        IN_BOTH(test_grace_is_for_deliveries_to_what_is_not_full),
        IN_BOTH(test_a_folder_may_have_more),
        IN_BOTH(test_limits_are_kept_for_who_is_not_told),
        cmocka_unit_test(test_malformed_limits_are_refused),
        IN_BOTH(test_a_delivery_made_before_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
