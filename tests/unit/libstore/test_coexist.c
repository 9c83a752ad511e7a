/* A Maildir that other tools use at the same time. */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/unit/libstore/fixture.h"

static void move(struct fixture *f, const char *from, const char *to)
{
    char a[256], b[256];
    path_of(f, from, a);
    path_of(f, to, b);
    assert_int_equal(rename(a, b), 0);
}

static void test_files_of_other_tools_are_adopted_with_their_flags(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    write_file(f, "new/1600000000.M1P2.host", "Subject: new\n\nx\n");
    write_file(f, "cur/1500000000.M1P2.host:2,FS", "Subject: old\n\ny\n");
    write_file(f, "cur/1500000001.M1P2.host", "Subject: bare\n\nz\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 4);
    uint32_t flagged = 0;
    for (uint32_t uid = 2; uid <= 4; uid++)
        if (flags_of(mb, uid) == (STORE_FLAGGED | STORE_SEEN))
            flagged = uid;
    assert_true(flagged);
    assert_body(f, mb, flagged, "Subject: old\r\n\r\ny\r\n");
    struct store_msg m;
    assert_true(store_get(mb, store_seq(mb, flagged), &m));
    assert_int_equal(m.size, 19);
    store_unselect(mb);
    reopen(f);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 4);
    assert_int_equal(store_uidnext(mb), 5);
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_our_flags_go_into_file_names_when_the_mailbox_is_left(void **state)
{
    struct fixture *f = *state;
    char path[256];
    write_file(f, "new/1600000000.M1P2.host", "Subject: new\n\nx\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN | STORE_ANSWERED);
    store_unselect(mb);
    path_of(f, "cur/1600000000.M1P2.host:2,RS", path);
    assert_int_equal(access(path, F_OK), 0);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    assert_int_equal(flags_of(mb, 1), STORE_SEEN | STORE_ANSWERED);
    assert_body(f, mb, 1, "Subject: new\r\n\r\nx\r\n");
    store_unselect(mb);
}

static void test_what_others_rename_and_remove_is_seen_in_an_open_view(void **state)
{
    struct fixture *f = *state;
    char path[256];
    write_file(f, "cur/1.a.host:2,", "Subject: a\n\nx\n");
    write_file(f, "cur/2.b.host:2,", "Subject: b\n\nx\n");
    write_file(f, "new/3.c.host", "Subject: c\n\nx\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 3);
    struct store_changes ch;
    move(f, "cur/1.a.host:2,", "cur/1.a.host:2,FT");
    path_of(f, "cur/2.b.host:2,", path);
    assert_int_equal(unlink(path), 0);
    move(f, "new/3.c.host", "cur/3.c.host:2,S");
    write_file(f, "new/4.d.host", "Subject: d\n\nx\n");
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(ch.nvanished, 1);
    assert_int_equal(ch.nchanged, 2);
    assert_int_equal(ch.arrived, 1);
    assert_int_equal(store_count(mb), 3);
    uint32_t marked = 0;
    for (uint32_t seq = 1; seq <= 2; seq++) {
        struct store_msg m;
        assert_true(store_get(mb, seq, &m));
        if ((m.flags & ~STORE_RECENT) == (STORE_FLAGGED | STORE_DELETED))
            marked = m.uid;
    }
    assert_true(marked);
    assert_body(f, mb, marked, "Subject: a\r\n\r\nx\r\n");
    store_unselect(mb);
}

static void test_letters_of_other_tools_stay_in_the_name(void **state)
{
    struct fixture *f = *state;
    char path[256];
    write_file(f, "cur/1.a.host:2,Pab", "Subject: a\n\nx\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_body(f, mb, 1, "Subject: a\r\n\r\nx\r\n");
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN);
    store_unselect(mb);
    path_of(f, "cur/1.a.host:2,PSab", path);
    assert_int_equal(access(path, F_OK), 0);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    struct uidset all = uids(1, 1);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), OK);
    uidset_clear(&all);
    store_unselect(mb);
    assert_int_equal(files_in(f, "cur"), 0);
}

static void test_stored_files_have_plain_line_ends(void **state)
{
    struct fixture *f = *state;
    char path[600];
    append(f, INBOX, SLICE_LIT(MAIL));
    path_of(f, "new", path);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));) {
        char full[900], text[256];
        if (e->d_name[0] == '.')
            continue;
        snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
        FILE *file = fopen(full, "r");
        assert_non_null(file);
        text[fread(text, 1, 255, file)] = '\0';
        fclose(file);
        assert_string_equal(text, "From: a@example.test\nSubject: hello\n\nText.\n");
    }
    closedir(d);
}

static void test_redo_is_found_after_another_tool_moved_the_file(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 5};
    struct store_appended out;
    char path[256], from[600], to[600];
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    path_of(f, "new", path);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(from, sizeof(from), "%s/%s", path, e->d_name);
        snprintf(to, sizeof(to), "%s/cur/%s:2,S", f->mail, e->d_name);
        assert_int_equal(rename(from, to), 0);
    }
    closedir(d);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    assert_true(out.duplicate);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    store_unselect(mb);
}

static size_t seen_names(struct fixture *f)
{
    char path[256];
    size_t n = 0;
    path_of(f, "cur", path);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strstr(e->d_name, ":2,S") != NULL;
    closedir(d);
    return n;
}

static void test_flags_of_many_are_one_transaction_and_names_follow(void **state)
{
    enum { N = 1200 };
    struct fixture *f = *state;
    char log[256], name[64];
    struct stat before, after;
    bool more = true;
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "cur/%d.a.host:2,", 1000000 + i);
        write_file(f, name, "Subject: a\n\nx\n");
    }
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset all = uids(1, N);
    struct store_flags seen = {.how = STORE_ADD, .flags = STORE_SEEN};
    inbox_path_of(f, "veredus.log", log);
    assert_int_equal(stat(log, &before), 0);
    assert_int_equal(store_change(mb, &all, &seen, NULL, NULL, &f->err), OK);
    assert_int_equal(stat(log, &after), 0);
    assert_true(after.st_size - before.st_size < 200);
    assert_int_equal(seen_names(f), 0);
    store_unselect(mb);
    assert_in_range(seen_names(f), 1, N - 1);
    for (int rounds = 0; more && rounds < 10; rounds++)
        assert_int_equal(store_settle(f->store, INBOX, &more, &f->err), OK);
    assert_int_equal(seen_names(f), N);
    uidset_clear(&all);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_names_follow_while_a_session_is_idle(void **state)
{
    struct fixture *f = *state;
    struct store_changes ch;
    write_file(f, "cur/1.a.host:2,", "Subject: a\n\nx\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(seen_names(f), 1);
    store_unselect(mb);
}

static void test_nothing_that_others_take_for_a_folder_lies_beside_the_messages(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    store_unselect(mb);
    DIR *d = opendir(f->mail);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        assert_int_equal(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        if (S_ISDIR(st.st_mode))
            assert_non_null(strstr(". .. cur new tmp", e->d_name));
    }
    closedir(d);
}

/* As an account of this host that was a virtual user's before. */
static void test_a_mailbox_that_others_did_not_use_before_keeps_its_numbers(void **state)
{
    struct fixture *f = *state;
    struct store_status before, after;
    f->opt.coexist = false;
    reopen(f);
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_status(f->store, INBOX, &before, &f->err), OK);
    for (int turn = 0; turn < 2; turn++) {
        f->opt.coexist = !f->opt.coexist;
        reopen(f);
        append(f, INBOX, SLICE_LIT(MAIL));
        assert_int_equal(store_status(f->store, INBOX, &after, &f->err), OK);
        assert_int_equal(after.uidvalidity, before.uidvalidity);
        assert_int_equal(after.uidnext, before.uidnext + (uint32_t)turn + 1);
    }
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_files_with_crlf_mixed_or_no_last_line_end_go_over_the_wire_once_converted(
    void **state)
{
    static const struct {
        const char *file, *wire;
    } mails[] = {{"A: 1\r\n\r\nx\r\ny\r\n", "A: 1\r\n\r\nx\r\ny\r\n"},
        {"A: 2\n\nx\r\ny\n", "A: 2\r\n\r\nx\r\ny\r\n"},
        {"A: 3\r\n\r\nx\n\ny\n", "A: 3\r\n\r\nx\r\n\r\ny\r\n"},
        {"A: 4\r\n\r\nx\ry\r\r\n", "A: 4\r\n\r\nx\ry\r\r\n"}, {"A: 5\r\n\r\nx", "A: 5\r\n\r\nx"},
        {"A: 6\r\n\r\nx\r", "A: 6\r\n\r\nx\r"}};
    struct fixture *f = *state;
    assert_int_equal(store_create(f->store, SLICE_LIT("Box"), &f->err), OK);
    for (uint32_t i = 0; i < ARRAY_LEN(mails); i++) {
        char name[64];
        struct store_copied out;
        struct uidset one = uids(i + 1, i + 1);
        snprintf(name, sizeof(name), "new/%u.M1P2.host", 1600000000 + i);
        write_file(f, name, mails[i].file);
        struct store_mailbox *mb = select_box(f, INBOX);
        assert_int_equal(store_copy(mb, &one, SLICE_LIT("Box"), &out, &f->err), OK);
        store_copied_clear(&out);
        uidset_clear(&one);
        store_unselect(mb);
        for (int box = 0; box < 2; box++) {
            struct store_status st;
            struct slice folder = box ? SLICE_LIT("Box") : INBOX;
            mb = select_box(f, folder);
            assert_body(f, mb, i + 1, mails[i].wire);
            store_unselect(mb);
            assert_int_equal(store_status(f->store, folder, &st, &f->err), OK);
            size_t size = 0;
            for (uint32_t k = 0; k <= i; k++)
                size += strlen(mails[k].wire);
            assert_int_equal(st.size, size);
        }
    }
    assert_int_equal(problems(f, INBOX), 0);
}

static bool renames_links;

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    char name[300];
    int rc = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    snprintf(name, sizeof(name), "%sS", to);
    if (!rc && renames_links)
        assert_int_equal(renameat(to_dir, to, to_dir, name), 0);
    return rc;
}

static void test_copy_whose_file_is_renamed_at_once_succeeds(void **state)
{
    struct fixture *f = *state;
    struct store_copied out;
    struct uidset one = uids(1, 1);
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_create(f->store, SLICE_LIT("Box"), &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    renames_links = true;
    assert_int_equal(store_copy(mb, &one, SLICE_LIT("Box"), &out, &f->err), OK);
    renames_links = false;
    store_copied_clear(&out);
    uidset_clear(&one);
    store_unselect(mb);
    mb = select_box(f, SLICE_LIT("Box"));
    assert_int_equal(store_count(mb), 1);
    assert_body(f, mb, 1, MAIL);
    store_unselect(mb);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_files_of_other_tools_are_adopted_with_their_flags),
        TEST(test_our_flags_go_into_file_names_when_the_mailbox_is_left),
        TEST(test_what_others_rename_and_remove_is_seen_in_an_open_view),
        TEST(test_letters_of_other_tools_stay_in_the_name),
        TEST(test_stored_files_have_plain_line_ends),
        TEST(test_files_with_crlf_mixed_or_no_last_line_end_go_over_the_wire_once_converted),
        TEST(test_copy_whose_file_is_renamed_at_once_succeeds),
        TEST(test_redo_is_found_after_another_tool_moved_the_file),
        TEST(test_flags_of_many_are_one_transaction_and_names_follow),
        TEST(test_names_follow_while_a_session_is_idle),
        TEST(test_nothing_that_others_take_for_a_folder_lies_beside_the_messages),
        TEST(test_a_mailbox_that_others_did_not_use_before_keeps_its_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
