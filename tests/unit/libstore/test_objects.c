/* What a message carries beside its text: object ids, save date, preview; and what a folder
 * counts. Run over both kinds of mail directory. */
#include "tests/unit/libstore/fixture.h"

static struct store_msg message(struct store_mailbox *mb, uint32_t seq)
{
    struct store_msg m;
    assert_true(store_get(mb, seq, &m));
    return m;
}

static void test_copies_keep_the_email_id_and_have_guids_of_their_own(void **state)
{
    struct fixture *f = *state;
    struct store_copied copied;
    char one[STORE_OBJECTID], two[STORE_OBJECTID], three[STORE_OBJECTID];
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT(MAIL));
    assert_int_equal(store_create(f->store, SLICE_LIT("Archive"), &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset first = uids(1, 1);
    for (int i = 0; i < 2; i++) {
        int rc = store_copy(mb, &first, SLICE_LIT("Archive"), &copied, &f->err);
        assert_int_equal(rc, OK);
        store_copied_clear(&copied);
    }
    struct store_mailbox *other = select_box(f, SLICE_LIT("Archive"));
    struct store_msg a = message(mb, 1), b = message(other, 1), c = message(other, 2);
    struct store_msg d = message(mb, 2);
    store_email_id(a.guid, one);
    store_email_id(b.guid, two);
    store_email_id(c.guid, three);
    assert_string_equal(one, two);
    assert_string_equal(one, three);
    store_email_id(d.guid, two);
    assert_string_not_equal(one, two);
    assert_memory_not_equal(a.guid, b.guid, STORE_GUID);
    assert_memory_not_equal(b.guid, c.guid, STORE_GUID);
    assert_true(b.saved >= a.saved && a.saved > 0);
    store_unselect(other);
    store_unselect(mb);
    uidset_clear(&first);
}

static uint64_t thread(struct fixture *f, const char *text)
{
    struct store_cache c;
    uint32_t uid = append(f, INBOX, slice_of(text));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_cached(mb, uid, &c, &f->err), OK);
    store_unselect(mb);
    return c.thread;
}

static void test_answers_have_the_thread_id_of_the_first_message(void **state)
{
    struct fixture *f = *state;
    uint64_t first = thread(f, "Message-ID: <a@x>\r\n\r\n1\r\n");
    uint64_t other = thread(f, "Message-ID: <b@x>\r\n\r\n1\r\n");
    assert_true(first && other && first != other);
    assert_true(first == thread(f, "Message-ID: <c@x>\r\nIn-Reply-To: <a@x>\r\n\r\n2\r\n"));
    assert_true(first == thread(f, "References: <a@x> <c@x>\r\nIn-Reply-To: <c@x>\r\n\r\n3\r\n"));
    assert_true(thread(f, "Subject: none\r\n\r\n3\r\n") == 0);
    unsigned char one[STORE_GUID] = {1}, two[STORE_GUID] = {2};
    char id[STORE_OBJECTID], id2[STORE_OBJECTID];
    store_thread_id(0, one, id);
    store_thread_id(0, two, id2);
    assert_string_not_equal(id, id2);
}

static void assert_preview(struct fixture *f, const char *text, const char *expected)
{
    struct store_cache c;
    uint32_t uid = append(f, INBOX, slice_of(text));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_cached(mb, uid, &c, &f->err), OK);
    char got[4 * STORE_PREVIEW + 1];
    assert_true(slice_to_cstr(c.preview, got, sizeof(got)));
    assert_string_equal(got, expected);
    store_unselect(mb);
}

static void test_preview_is_the_first_text_decoded(void **state)
{
    struct fixture *f = *state;
    assert_preview(f, "Subject: x\r\n\r\n> quoted\r\nHello,\r\n\r\n  world.\r\n", "Hello, world.");
    assert_preview(f,
        "Content-Type: text/plain; charset=iso-8859-1\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n",
        "Gr\xc3\xbc\xc3\x9f"
        "e");
    assert_preview(f,
        "Content-Type: text/html\r\n\r\n<html><head><title>T</title><style>p {}</style></head>"
        "<body><p>Fish &amp; chips</p><script>bad()</script><b>now</b></body></html>\r\n",
        "Fish & chips now");
    assert_preview(f, "Content-Type: image/png\r\n\r\nxxxx\r\n", "");
}

static void test_preview_has_at_most_200_characters_and_no_controls(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    struct store_cache c;
    buf_init(&text, 100000);
    buf_puts(&text, "Content-Type: text/plain; charset=utf-8\r\n\r\n");
    for (int i = 0; i < 1000; i++)
        buf_puts(&text, i % 3 ? "\xc3\xa4\x01 " : "x");
    uint32_t uid = append(f, INBOX, buf_slice(&text));
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_cached(mb, uid, &c, &f->err), OK);
    size_t chars = 0;
    for (size_t i = 0; i < c.preview.n; i++) {
        assert_true((unsigned char)c.preview.p[i] >= ' ');
        chars += (c.preview.p[i] & 0xc0) != 0x80;
    }
    assert_in_range(chars, 190, STORE_PREVIEW);
    store_unselect(mb);
    buf_clear(&text);
}

static void test_totals_follow_every_change(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    append(f, INBOX, SLICE_LIT(MAIL));
    append(f, INBOX, SLICE_LIT("A: b\r\n\r\nlonger text\r\n"));
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN | STORE_DELETED);
    set_flags(f, mb, 2, STORE_REPLACE, STORE_SEEN);
    struct uidset first = uids(1, 1);
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            store_unselect(mb);
            reopen(f);
            mb = select_box(f, INBOX);
        }
        if (round == 2)
            assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
        assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
        assert_int_equal(st.messages, 3);
        assert_int_equal(st.unseen, 1);
        assert_int_equal(st.deleted, 1);
        assert_int_equal(st.size, 2 * (sizeof(MAIL) - 1) + 21);
    }
    assert_int_equal(store_expunge(mb, &first, false, NULL, &f->err), OK);
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.messages, 2);
    assert_int_equal(st.unseen, 1);
    assert_int_equal(st.deleted, 0);
    assert_int_equal(st.size, sizeof(MAIL) - 1 + 21);
    store_unselect(mb);
    uidset_clear(&first);
}

static void test_mailbox_id_stays_with_a_renamed_folder(void **state)
{
    struct fixture *f = *state;
    struct store_status one, two;
    assert_int_equal(store_create(f->store, SLICE_LIT("a"), &f->err), OK);
    assert_int_equal(store_status(f->store, SLICE_LIT("a"), &one, &f->err), OK);
    assert_int_equal(store_rename(f->store, SLICE_LIT("a"), SLICE_LIT("b"), &f->err), OK);
    assert_int_equal(store_create(f->store, SLICE_LIT("a"), &f->err), OK);
    assert_int_equal(store_status(f->store, SLICE_LIT("b"), &two, &f->err), OK);
    assert_true(one.mailbox && one.mailbox == two.mailbox);
    assert_int_equal(store_status(f->store, SLICE_LIT("a"), &two, &f->err), OK);
    assert_true(one.mailbox != two.mailbox);
}

static void test_restored_message_keeps_uid_guid_and_dates(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    unsigned char guid[STORE_GUID] = "0123456789abcde";
    struct store_append_options opt = {.uid = 70, .guid = guid, .date = 1000, .saved = 2000};
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    assert_int_equal(out.uid, 70);
    opt.uid = 60; /* used up */
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &opt, &out), OK);
    assert_int_equal(out.uid, 71);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct store_msg a = message(mb, 1), b = message(mb, 2);
    assert_memory_equal(a.guid, guid, STORE_GUID);
    assert_memory_not_equal(b.guid, guid, STORE_GUID);
    assert_memory_equal(b.guid, guid, STORE_EMAIL);
    assert_int_equal(a.date, 1000);
    assert_int_equal(a.saved, 2000);
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
}

#define IN_BOTH(test)                                       \
    cmocka_unit_test_setup_teardown(test, setup, teardown), \
        cmocka_unit_test_setup_teardown(test, setup_coexist, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_copies_keep_the_email_id_and_have_guids_of_their_own),
        IN_BOTH(test_answers_have_the_thread_id_of_the_first_message),
        IN_BOTH(test_preview_is_the_first_text_decoded),
        IN_BOTH(test_preview_has_at_most_200_characters_and_no_controls),
        IN_BOTH(test_totals_follow_every_change),
        IN_BOTH(test_mailbox_id_stays_with_a_renamed_folder),
        IN_BOTH(test_restored_message_keeps_uid_guid_and_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
