/* The verbs, run over both kinds of mail directory. */
#include "tests/unit/libstore/fixture.h"

static void test_append_assigns_ascending_uids_and_body_comes_back(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(append(f, INBOX, SLICE_LIT(MAIL)), 1);
    assert_int_equal(append(f, INBOX, SLICE_LIT("Subject: x\r\n\r\nother\r\n")), 2);
    assert_int_equal(f->announced, 2);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 2);
    assert_int_equal(store_uidnext(mb), 3);
    assert_body(f, mb, 1, MAIL);
    assert_body(f, mb, 2, "Subject: x\r\n\r\nother\r\n");
    struct store_msg m;
    assert_true(store_get(mb, 1, &m));
    assert_int_equal(m.size, sizeof(MAIL) - 1);
    assert_false(store_get(mb, 0, &m));
    assert_false(store_get(mb, 3, &m));
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_bare_line_feeds_are_handed_out_as_crlf(void **state)
{
    struct fixture *f = *state;
    uint32_t uid = append(f, INBOX, SLICE_LIT("Subject: x\n\na\r\nb\rc\n\r"));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_body(f, mb, uid, "Subject: x\r\n\r\na\r\nb\rc\r\n\r");
    struct store_msg m;
    assert_true(store_get(mb, 1, &m));
    assert_int_equal(m.size, 23);
    store_unselect(mb);
}

static void test_pieces_cut_anywhere_give_the_same_message(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "A: b\r\n\r\n\r\nx\ry\n\r\n";
    for (size_t cut = 0; cut < sizeof(text) - 1; cut++) {
        struct store_append *a;
        struct store_appended out;
        assert_int_equal(store_append_begin(f->store, INBOX, 0, &a, &f->err), OK);
        assert_int_equal(store_append_write(a, slice_from(text, cut), &f->err), OK);
        struct slice rest = slice_from(text + cut, sizeof(text) - 1 - cut);
        assert_int_equal(store_append_write(a, rest, &f->err), OK);
        assert_int_equal(
            store_append_commit(a, &(struct store_append_options){0}, &out, &f->err), OK);
        struct store_mailbox *mb = select_box(f, INBOX);
        assert_body(f, mb, out.uid, "A: b\r\n\r\n\r\nx\ry\r\n\r\n");
        struct store_msg m;
        assert_true(store_get(mb, store_count(mb), &m));
        assert_int_equal(m.size, 17);
        store_unselect(mb);
    }
}

static void test_large_message_goes_through_a_file(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    buf_init(&text, 4 << 20);
    buf_puts(&text, "Subject: large\r\n\r\n");
    while (buf_len(&text) < 3 << 20)
        buf_puts(&text, "A line of text that is repeated again and again.\r\n");
    int fd = memfd_create("mail", 0);
    assert_int_equal(write(fd, text.data, text.len), text.len);
    struct store_append *a;
    struct store_appended out;
    assert_int_equal(store_append_begin(f->store, INBOX, text.len, &a, &f->err), OK);
    assert_int_equal(store_append_fd(a, fd, text.len, &f->err), OK);
    assert_int_equal(
        store_append_commit(a, &(struct store_append_options){.durable = true}, &out, &f->err), OK);
    close(fd);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct store_body body;
    assert_int_equal(store_body(mb, out.uid, &body, &f->err), OK);
    assert_true(slice_eq(body.content, buf_slice(&text)));
    store_body_release(&body);
    store_unselect(mb);
    buf_clear(&text);
}

static void test_append_keeps_flags_keywords_and_date(void **state)
{
    struct fixture *f = *state;
    struct slice words[] = {SLICE_LIT("$Label1"), SLICE_LIT("junk")};
    struct store_append_options opt = {.flags = STORE_SEEN | STORE_FLAGGED,
        .keywords = words,
        .nkeywords = 2,
        .date = 1000000000,
        .durable = true};
    struct store_appended out;
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    reopen(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct store_msg m;
    assert_true(store_get(mb, 1, &m));
    assert_int_equal(m.flags, STORE_SEEN | STORE_FLAGGED | STORE_RECENT);
    assert_int_equal(m.keywords, 3);
    assert_int_equal(m.date, 1000000000);
    assert_int_equal(store_keywords(mb), 2);
    assert_true(slice_is(store_keyword(mb, 0), "$Label1"));
    store_unselect(mb);
}

static void test_abandoned_append_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_append *a;
    assert_int_equal(store_append_begin(f->store, INBOX, 0, &a, &f->err), OK);
    char big[4096];
    memset(big, 'x', sizeof(big));
    for (int i = 0; i < 200; i++)
        assert_int_equal(store_append_write(a, slice_from(big, sizeof(big)), &f->err), OK);
    store_append_abort(a);
    assert_int_equal(files_in(f, "tmp"), 0);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, 0);
    assert_int_equal(st.uidnext, 1);
}

static void test_flags_add_remove_replace_survive_reopening(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN | STORE_DRAFT);
    assert_int_equal(flags_of(mb, 1), STORE_SEEN | STORE_DRAFT);
    set_flags(f, mb, 1, STORE_REMOVE, STORE_SEEN);
    assert_int_equal(flags_of(mb, 1), STORE_DRAFT);
    set_flags(f, mb, 1, STORE_REPLACE, STORE_ANSWERED);
    assert_int_equal(flags_of(mb, 1), STORE_ANSWERED);
    store_unselect(mb);
    reopen(f);
    mb = select_box(f, INBOX);
    assert_int_equal(flags_of(mb, 1), STORE_ANSWERED);
    store_unselect(mb);
}

static void test_change_reports_only_what_differs(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++)
        append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 2, STORE_ADD, STORE_SEEN);
    struct uidset all = uids(1, 100), changed = {0};
    struct store_flags add = {.how = STORE_ADD, .flags = STORE_SEEN};
    assert_int_equal(store_change(mb, &all, &add, &changed, NULL, &f->err), OK);
    assert_uids(&changed, "1,3:4");
    struct store_changes ch;
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(ch.nchanged, 0);
    uidset_clear(&all);
    uidset_clear(&changed);
    store_unselect(mb);
}

static void test_unchanged_since_refuses_newer_messages(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    uint64_t before = store_highestmodseq(mb);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN);
    assert_true(store_highestmodseq(mb) > before);
    struct uidset all = uids(1, 2), changed = {0}, refused = {0};
    struct store_flags add = {.how = STORE_ADD, .flags = STORE_FLAGGED, .unchanged_since = before};
    assert_int_equal(store_change(mb, &all, &add, &changed, &refused, &f->err), OK);
    assert_uids(&changed, "2");
    assert_uids(&refused, "1");
    uidset_clear(&all);
    uidset_clear(&changed);
    uidset_clear(&refused);
    store_unselect(mb);
}

static void test_more_than_64_keywords_are_refused_and_nothing_changes(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset one = uids(1, 1);
    for (int i = 0; i <= 64; i++) {
        char name[16];
        snprintf(name, sizeof(name), "word%d", i);
        struct slice word = slice_of(name);
        struct store_flags add = {.how = STORE_ADD, .keywords = &word, .nkeywords = 1};
        assert_int_equal(
            store_change(mb, &one, &add, NULL, NULL, &f->err), i < 64 ? OK : ERR_LIMIT);
    }
    struct store_msg m;
    assert_true(store_get(mb, 1, &m));
    assert_true(m.keywords == UINT64_MAX);
    uidset_clear(&one);
    store_unselect(mb);
}

static void test_read_only_view_changes_nothing(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb;
    assert_int_equal(store_select(f->store, INBOX, true, &mb, &f->err), OK);
    struct uidset one = uids(1, 1);
    struct store_flags add = {.how = STORE_ADD, .flags = STORE_SEEN};
    assert_int_equal(store_change(mb, &one, &add, NULL, NULL, &f->err), ERR_DENIED);
    assert_int_equal(store_expunge(mb, &one, false, NULL, &f->err), ERR_DENIED);
    struct store_msg m;
    assert_true(store_get(mb, 1, &m));
    assert_true(m.flags & STORE_RECENT);
    store_unselect(mb);
    mb = select_box(f, INBOX);
    assert_true(store_get(mb, 1, &m));
    assert_true(m.flags & STORE_RECENT);
    store_unselect(mb);
    mb = select_box(f, INBOX);
    assert_true(store_get(mb, 1, &m));
    assert_false(m.flags & STORE_RECENT);
    uidset_clear(&one);
    store_unselect(mb);
}

static void test_expunged_messages_stay_in_other_views_until_they_refresh(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++)
        append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *one = select_box(f, INBOX), *two = select_box(f, INBOX);
    set_flags(f, one, 2, STORE_ADD, STORE_DELETED);
    set_flags(f, one, 4, STORE_ADD, STORE_DELETED);
    struct uidset expunged = {0};
    assert_int_equal(store_expunge(one, NULL, true, &expunged, &f->err), OK);
    assert_uids(&expunged, "2,4");
    assert_int_equal(store_count(one), 5);
    append(f, INBOX, SLICE_LIT(MAIL));
    set_flags(f, one, 5, STORE_ADD, STORE_SEEN);

    struct store_changes ch;
    assert_int_equal(store_refresh(two, false, &ch, &f->err), OK);
    assert_int_equal(ch.nvanished, 0);
    assert_int_equal(ch.arrived, 1);
    assert_int_equal(ch.nchanged, 1);
    assert_int_equal(ch.changed[0], 5);
    assert_int_equal(store_count(two), 6);
    struct store_msg m;
    assert_true(store_get(two, 2, &m));
    assert_true(m.gone);

    assert_int_equal(store_refresh(two, true, &ch, &f->err), OK);
    assert_int_equal(ch.nvanished, 2);
    assert_int_equal(ch.vanished[0], 4);
    assert_int_equal(ch.vanished[1], 2);
    assert_int_equal(ch.vanished_uids[0], 4);
    assert_int_equal(store_count(two), 4);
    assert_true(store_get(two, 4, &m));
    assert_int_equal(m.uid, 6);
    assert_int_equal(store_seq(two, 5), 3);
    assert_int_equal(store_seq(two, 4), 0);
    assert_int_equal(store_seq_from(two, 4), 3);
    assert_int_equal(store_refresh(two, true, &ch, &f->err), OK);
    assert_int_equal(ch.nvanished + ch.nchanged + ch.arrived, 0);
    uidset_clear(&expunged);
    store_unselect(one);
    store_unselect(two);
    assert_int_equal(files_in(f, "cur") + files_in(f, "new"), 4);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_expunged_uid_is_never_given_again(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset two = uids(2, 2);
    assert_int_equal(store_expunge(mb, &two, false, NULL, &f->err), OK);
    uidset_clear(&two);
    store_unselect(mb);
    reopen(f);
    assert_int_equal(append(f, INBOX, SLICE_LIT(MAIL)), 3);
}

static void test_files_of_expunged_messages_are_gone_when_all_is_tidy(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 300; i++)
        append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset most = uids(1, 299);
    assert_int_equal(files_in(f, "cur") + files_in(f, "new"), 300);
    assert_int_equal(store_expunge(mb, &most, false, NULL, &f->err), OK);
    while (store_tidy(mb))
        ;
    assert_int_equal(files_in(f, "cur") + files_in(f, "new"), 1);
    uidset_clear(&most);
    store_unselect(mb);
}

static void test_changes_since_tells_changed_and_vanished(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++)
        append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    uint64_t before = store_highestmodseq(mb);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN);
    struct uidset three = uids(3, 3), changed = {0}, vanished = {0};
    assert_int_equal(store_expunge(mb, &three, false, NULL, &f->err), OK);
    bool complete;
    assert_int_equal(store_changes_since(mb, before, &changed, &vanished, &complete, &f->err), OK);
    assert_uids(&changed, "1");
    assert_uids(&vanished, "3");
    assert_true(complete);
    uidset_clear(&three);
    uidset_clear(&changed);
    uidset_clear(&vanished);
    store_unselect(mb);
}

static void test_copy_gives_pairs_and_keeps_flags_keywords_dates(void **state)
{
    struct fixture *f = *state;
    struct slice word = SLICE_LIT("$Work");
    struct store_append_options opt = {
        .flags = STORE_SEEN, .keywords = &word, .nkeywords = 1, .date = 1234567890};
    struct store_appended out;
    append(f, INBOX, SLICE_LIT("A: 1\r\n\r\none\r\n"));
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT("A: 2\r\n\r\ntwo\r\n"), &opt, &out), OK);
    assert_int_equal(store_create(f->store, SLICE_LIT("Archive/2024"), &f->err), OK);
    append(f, SLICE_LIT("Archive/2024"), SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset all = uids(1, 9);
    struct store_copied copied;
    assert_int_equal(store_copy(mb, &all, SLICE_LIT("Archive/2024"), &copied, &f->err), OK);
    assert_int_equal(copied.n, 2);
    assert_int_equal(copied.from[1], 2);
    assert_int_equal(copied.to[0], 2);
    assert_int_equal(copied.to[1], 3);
    store_copied_clear(&copied);
    /* Into the same folder too. */
    assert_int_equal(store_copy(mb, &all, INBOX, &copied, &f->err), OK);
    assert_int_equal(copied.to[1], 4);
    store_copied_clear(&copied);
    uidset_clear(&all);
    store_unselect(mb);
    mb = select_box(f, SLICE_LIT("Archive/2024"));
    assert_body(f, mb, 3, "A: 2\r\n\r\ntwo\r\n");
    struct store_msg m;
    assert_true(store_get(mb, 3, &m));
    assert_int_equal(m.flags & ~STORE_RECENT, STORE_SEEN);
    assert_int_equal(m.date, 1234567890);
    assert_int_equal(m.keywords, 1);
    assert_true(slice_is(store_keyword(mb, 0), "$Work"));
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
    assert_int_equal(problems(f, SLICE_LIT("Archive/2024")), 0);
}

static void test_copy_to_a_missing_folder_is_not_found(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset all = uids(1, 9);
    struct store_copied copied;
    assert_int_equal(store_copy(mb, &all, SLICE_LIT("No"), &copied, &f->err), ERR_NOT_FOUND);
    assert_int_equal(copied.n, 0);
    uidset_clear(&all);
    store_unselect(mb);
    struct store_append *a;
    assert_int_equal(store_append_begin(f->store, SLICE_LIT("No"), 0, &a, &f->err), ERR_NOT_FOUND);
}

static void test_texts_are_there_at_once_and_after_reopening(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    for (int round = 0; round < 2; round++) {
        struct store_mailbox *mb = select_box(f, INBOX);
        struct store_cache c;
        assert_int_equal(store_cached(mb, 1, &c, &f->err), OK);
        assert_true(slice_find(c.envelope, SLICE_LIT("\"hello\"")) > 0);
        assert_true(slice_istarts(c.body, "(\"text\" \"plain\""));
        assert_true(slice_istarts(c.bodystructure, "(\"text\" \"plain\""));
        assert_true(slice_is(c.header, "From: a@example.test\r\nSubject: hello\r\n\r\n"));
        assert_int_equal(c.header_size, 40);
        store_unselect(mb);
        reopen(f);
    }
}

static void test_lost_cache_is_made_again(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT(MAIL));
    store_close(f->store);
    char path[256];
    inbox_path_of(f, "veredus.cache", path);
    assert_int_equal(unlink(path), 0);
    open_store(f);
    for (int round = 0; round < 2; round++) {
        struct store_mailbox *mb = select_box(f, INBOX);
        struct store_cache c;
        assert_int_equal(store_cached(mb, 2, &c, &f->err), OK);
        assert_true(slice_find(c.envelope, SLICE_LIT("\"hello\"")) > 0);
        store_unselect(mb);
    }
}

static void test_status_counts(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    struct store_append_options seen = {.flags = STORE_SEEN | STORE_DELETED};
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &seen, &out), OK);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, 2);
    assert_int_equal(st.unseen, 1);
    assert_int_equal(st.deleted, 1);
    assert_int_equal(st.recent, 2);
    assert_int_equal(st.uidnext, 3);
    assert_int_equal(st.uidvalidity, out.uidvalidity);
    assert_int_equal(st.size, 2 * (sizeof(MAIL) - 1));
    assert_true(st.highestmodseq > 0);
    assert_int_equal(store_status(f->store, SLICE_LIT("No"), &st, &f->err), ERR_NOT_FOUND);
}

static void assert_folders(struct fixture *f, bool subscribed, const char *expect)
{
    struct store_folder *l;
    size_t n;
    struct buf b;
    buf_init(&b, 10000);
    assert_int_equal(
        (subscribed ? store_list_subscribed : store_list)(f->store, &l, &n, &f->err), OK);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%.*s%s%s%s ", SLICE_FMT(l[i].name), l[i].attrs & STORE_NOSELECT ? "!" : "",
            l[i].attrs & STORE_CHILDREN ? "+" : "", l[i].attrs & STORE_SUBSCRIBED ? "*" : "");
    store_list_free(l, n);
    assert_int_equal(buf_putc(&b, '\0'), OK);
    assert_string_equal(buf_slice(&b).p, expect);
    buf_clear(&b);
}

static void test_folders_are_listed_created_renamed_deleted(void **state)
{
    struct fixture *f = *state;
    struct error *e = &f->err;
    assert_folders(f, false, "INBOX ");
    assert_int_equal(store_create(f->store, SLICE_LIT("Sent/2024"), e), OK);
    assert_int_equal(store_create(f->store, SLICE_LIT("Sent/2024"), e), ERR_EXISTS);
    assert_int_equal(store_create(f->store, SLICE_LIT("inbox"), e), ERR_EXISTS);
    assert_int_equal(store_create(f->store, SLICE_LIT("a.b"), e), OK);
    assert_folders(f, false, "INBOX Sent!+ Sent/2024 a.b ");
    assert_int_equal(store_create(f->store, SLICE_LIT("Sent"), e), OK);
    assert_folders(f, false, "INBOX Sent+ Sent/2024 a.b ");
    append(f, SLICE_LIT("Sent/2024"), SLICE_LIT(MAIL));
    assert_int_equal(store_rename(f->store, SLICE_LIT("Sent"), SLICE_LIT("Gesendet"), e), OK);
    assert_folders(f, false, "INBOX Gesendet+ Gesendet/2024 a.b ");
    assert_int_equal(append(f, SLICE_LIT("Gesendet/2024"), SLICE_LIT(MAIL)), 2);
    assert_int_equal(store_rename(f->store, SLICE_LIT("No"), SLICE_LIT("x"), e), ERR_NOT_FOUND);
    assert_int_equal(
        store_rename(f->store, SLICE_LIT("a.b"), SLICE_LIT("Gesendet"), e), ERR_EXISTS);
    assert_int_equal(store_rename(f->store, SLICE_LIT("a.b"), SLICE_LIT("a.b/c"), e), ERR_DENIED);
    assert_int_equal(store_delete(f->store, SLICE_LIT("INBOX"), e), ERR_DENIED);
    assert_int_equal(store_delete(f->store, SLICE_LIT("Gesendet"), e), OK);
    assert_folders(f, false, "INBOX Gesendet!+ Gesendet/2024 a.b ");
    assert_int_equal(store_delete(f->store, SLICE_LIT("Gesendet"), e), ERR_NOT_FOUND);
    assert_true(store_exists(f->store, SLICE_LIT("Gesendet/2024")));
    assert_false(store_exists(f->store, SLICE_LIT("Gesendet")));
    assert_true(store_exists(f->store, SLICE_LIT("InBox")));
}

static void test_subscriptions_are_kept_by_name(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("x"), true, &f->err), OK);
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("x"), true, &f->err), OK);
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("gone"), true, &f->err), OK);
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("inbox"), true, &f->err), OK);
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("a\nb"), true, &f->err), ERR_SYNTAX);
    assert_folders(f, true, "INBOX* gone* x* ");
    assert_folders(f, false, "INBOX* x* ");
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("x"), false, &f->err), OK);
    assert_folders(f, true, "INBOX* gone* ");
}

static void test_renaming_inbox_moves_its_messages(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_rename(f->store, INBOX, SLICE_LIT("old"), &f->err), OK);
    struct store_status st;
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, 0);
    assert_int_equal(st.uidnext, 3);
    assert_int_equal(store_status(f->store, SLICE_LIT("old"), &st, &f->err), OK);
    assert_int_equal(st.messages, 2);
}

static void test_recreated_folder_has_a_greater_uidvalidity(void **state)
{
    struct fixture *f = *state;
    uint32_t last = 0;
    for (int i = 0; i < 3; i++) {
        struct store_status st;
        assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
        assert_int_equal(store_status(f->store, SLICE_LIT("x"), &st, &f->err), OK);
        assert_true(st.uidvalidity > last);
        last = st.uidvalidity;
        assert_int_equal(store_delete(f->store, SLICE_LIT("x"), &f->err), OK);
    }
}

static void test_view_of_a_deleted_folder_says_not_found(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_create(f->store, SLICE_LIT("x"), &f->err), OK);
    append(f, SLICE_LIT("x"), SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, SLICE_LIT("x"));
    assert_int_equal(store_delete(f->store, SLICE_LIT("x"), &f->err), OK);
    struct store_changes ch;
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), ERR_NOT_FOUND);
    store_unselect(mb);
}

static void test_delivery_with_the_same_id_happens_once(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 0x123456789abcdef0u};
    struct store_appended one, two;
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &one), OK);
    assert_false(one.duplicate);
    reopen(f);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &two), OK);
    assert_true(two.duplicate);
    assert_int_equal(two.uid, one.uid);
    assert_int_equal(files_in(f, "cur") + files_in(f, "new"), 1);
    assert_int_equal(files_in(f, "tmp"), 0);
    /* Also when the user removed it meanwhile. */
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset all = uids(1, 9);
    assert_int_equal(store_expunge(mb, &all, false, NULL, &f->err), OK);
    uidset_clear(&all);
    store_unselect(mb);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &two), OK);
    assert_true(two.duplicate);
    assert_int_equal(files_in(f, "cur") + files_in(f, "new"), 0);
}

static void test_delivery_id_of_a_different_message_loses_no_mail(void **state)
{
    struct fixture *f = *state;
    struct store_append_options opt = {.delivery = 7};
    struct store_appended out;
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT("Subject: y\r\n\r\nz\r\n"), &opt, &out), OK);
    assert_false(out.duplicate);
    assert_int_equal(out.uid, 2);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_many_messages_rotate_the_log_and_views_follow(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    for (uint32_t i = 2; i <= 2500; i++) {
        assert_int_equal(append(f, INBOX, SLICE_LIT("A: b\r\n\r\nc\r\n")), i);
        if (i == 100 || i == 1900)
            set_flags(f, mb, 1, i == 100 ? STORE_ADD : STORE_REMOVE, STORE_FLAGGED);
    }
    struct store_changes ch;
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(store_count(mb), 2500);
    struct uidset some = uids(10, 2400), expunged = {0};
    assert_int_equal(store_expunge(mb, &some, false, &expunged, &f->err), OK);
    assert_uids(&expunged, "10:2400");
    assert_int_equal(store_refresh(mb, true, &ch, &f->err), OK);
    assert_int_equal(ch.nvanished, 2391);
    assert_int_equal(store_count(mb), 109);
    store_unselect(mb);
    struct stat st;
    char path[256];
    inbox_path_of(f, "veredus.log", path);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 300000);
    uidset_clear(&some);
    uidset_clear(&expunged);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_second_maildrop_lock_is_busy(void **state)
{
    struct fixture *f = *state;
    struct store *other;
    assert_int_equal(store_lock_maildrop(f->store, &f->err), OK);
    assert_int_equal(store_open(AT_FDCWD, f->mail, &f->opt, &other, &f->err), OK);
    assert_int_equal(store_lock_maildrop(other, &f->err), ERR_BUSY);
    reopen(f);
    assert_int_equal(store_lock_maildrop(other, &f->err), OK);
    store_close(other);
}

#define IN_BOTH(test)                                       \
    cmocka_unit_test_setup_teardown(test, setup, teardown), \
        cmocka_unit_test_setup_teardown(test, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_append_assigns_ascending_uids_and_body_comes_back),
        IN_BOTH(test_bare_line_feeds_are_handed_out_as_crlf),
        IN_BOTH(test_pieces_cut_anywhere_give_the_same_message),
        IN_BOTH(test_large_message_goes_through_a_file),
        IN_BOTH(test_append_keeps_flags_keywords_and_date),
        IN_BOTH(test_abandoned_append_leaves_nothing),
        IN_BOTH(test_flags_add_remove_replace_survive_reopening),
        IN_BOTH(test_change_reports_only_what_differs),
        IN_BOTH(test_unchanged_since_refuses_newer_messages),
        IN_BOTH(test_more_than_64_keywords_are_refused_and_nothing_changes),
        IN_BOTH(test_read_only_view_changes_nothing),
        IN_BOTH(test_expunged_messages_stay_in_other_views_until_they_refresh),
        IN_BOTH(test_expunged_uid_is_never_given_again),
        IN_BOTH(test_files_of_expunged_messages_are_gone_when_all_is_tidy),
        IN_BOTH(test_changes_since_tells_changed_and_vanished),
        IN_BOTH(test_copy_gives_pairs_and_keeps_flags_keywords_dates),
        IN_BOTH(test_copy_to_a_missing_folder_is_not_found),
        IN_BOTH(test_texts_are_there_at_once_and_after_reopening),
        IN_BOTH(test_lost_cache_is_made_again),
        IN_BOTH(test_status_counts),
        IN_BOTH(test_folders_are_listed_created_renamed_deleted),
        IN_BOTH(test_subscriptions_are_kept_by_name),
        IN_BOTH(test_renaming_inbox_moves_its_messages),
        IN_BOTH(test_recreated_folder_has_a_greater_uidvalidity),
        IN_BOTH(test_view_of_a_deleted_folder_says_not_found),
        IN_BOTH(test_delivery_with_the_same_id_happens_once),
        IN_BOTH(test_delivery_id_of_a_different_message_loses_no_mail),
        IN_BOTH(test_many_messages_rotate_the_log_and_views_follow),
        IN_BOTH(test_second_maildrop_lock_is_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
