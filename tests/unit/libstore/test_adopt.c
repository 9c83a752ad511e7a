/* Maildirs that Dovecot or Courier IMAP left. */
#include <time.h>

#include "libstore/foreign.h"
#include "tests/unit/libstore/fixture.h"

static void message(struct fixture *f, const char *name, time_t when)
{
    char path[256];
    struct timespec times[2] = {{.tv_sec = when}, {.tv_sec = when}};
    write_file(f, name, "Subject: x\n\ny\n");
    path_of(f, name, path);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void folder(struct fixture *f, const char *name)
{
    static const char *const parts[] = {"", "/cur", "/new", "/tmp"};
    char path[256], part[200];
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        snprintf(part, sizeof(part), "%s%s", name, parts[i]);
        path_of(f, part, path);
        mkdir(path, 0700);
    }
}

/* A store that has none of our files. */
static int setup_bare(void **state)
{
    static const char *const ours[] = {"veredus.inbox/veredus.index", "veredus.inbox/veredus.log",
        "veredus.inbox/veredus.cache", "veredus.uidvalidity", "veredus.uidlock"};
    char path[256];
    int rc = setup(state);
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        path_of(f, ours[i], path);
        unlink(path);
    }
    reopen(f);
    return rc;
}

static int setup_bare_coexist(void **state)
{
    int rc = setup_bare(state);
    struct fixture *f = *state;
    f->opt.coexist = true;
    reopen(f);
    return rc;
}

static void dovecot(struct fixture *f)
{
    message(f, "cur/1500000003.M3P1.host,S=14,W=17:2,FSa", 1500000003);
    message(f, "cur/1500000001.M1P1.host,S=14,W=17:2,RTb", 1500000001);
    message(f, "cur/1500000002.M2P1.host:2,", 1500000002);
    message(f, "new/1600000000.M9P1.host", 1600000000);
    write_file(f, "dovecot-uidlist",
        "3 V1275660208 N20 G3085f01b7f11094c501100008c4a11c1\n"
        "7 W17 S14 :1500000003.M3P1.host,S=14,W=17:2,S\n"
        "12 P00000a1b4c5d O3 :1500000001.M1P1.host,S=14,W=17\n"
        "25 Gaabbccddeeff00112233445566778899 :1500000002.M2P1.host:2,\n"
        "30 :1500000009.gone.host\n");
    write_file(f, "dovecot-keywords", "0 $Label1\n1 Junk\n");
}

static struct store_msg get(struct store_mailbox *mb, uint32_t seq)
{
    struct store_msg m = {0};
    assert_true(store_get(mb, seq, &m));
    return m;
}

static void assert_uidl(struct store_mailbox *mb, uint32_t seq, const char *want)
{
    char uidl[STORE_UIDL_MAX + 1];
    store_uidl(mb, get(mb, seq).guid, uidl);
    assert_string_equal(uidl, want);
}

static bool has_keyword(struct store_mailbox *mb, uint32_t seq, const char *name)
{
    for (size_t i = 0; i < store_keywords(mb); i++)
        if (slice_is(store_keyword(mb, i), name))
            return get(mb, seq).keywords >> i & 1;
    return false;
}

static void test_dovecot_uids_and_uidvalidity_are_kept(void **state)
{
    struct fixture *f = *state;
    dovecot(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_uidvalidity(mb), 1275660208);
    assert_int_equal(store_count(mb), 4);
    assert_int_equal(get(mb, 1).uid, 7);
    assert_int_equal(get(mb, 2).uid, 12);
    assert_int_equal(get(mb, 3).uid, 25);
    /* The header's next UID is older than the last line. */
    assert_int_equal(get(mb, 4).uid, 31);
    assert_int_equal(store_uidnext(mb), 32);
    store_unselect(mb);
    assert_int_equal(append(f, INBOX, SLICE_LIT(MAIL)), 32);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_dovecot_flags_keywords_and_dates_are_kept(void **state)
{
    struct fixture *f = *state;
    dovecot(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(flags_of(mb, 7), STORE_FLAGGED | STORE_SEEN);
    assert_int_equal(flags_of(mb, 12), STORE_ANSWERED | STORE_DELETED);
    assert_int_equal(flags_of(mb, 25), 0);
    assert_true(has_keyword(mb, 1, "$Label1") && !has_keyword(mb, 1, "Junk"));
    assert_true(has_keyword(mb, 2, "Junk") && !has_keyword(mb, 3, "Junk"));
    assert_int_equal(get(mb, 1).date, 1500000003);
    assert_int_equal(get(mb, 2).date, 1500000001);
    /* Only what Dovecot has not seen is recent. */
    assert_false(get(mb, 3).flags & STORE_RECENT);
    assert_true(get(mb, 4).flags & STORE_RECENT);
    assert_body(f, mb, 7, "Subject: x\r\n\r\ny\r\n");
    store_unselect(mb);
}

static void test_dovecot_unique_ids_of_pop3_are_kept(void **state)
{
    struct fixture *f = *state;
    dovecot(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_uidl(mb, 1, "000000074c0907b0"); /* the default format */
    assert_uidl(mb, 2, "00000a1b4c5d");     /* told by P */
    assert_uidl(mb, 3, "000000194c0907b0"); /* with a GUID of its own */
    unsigned char guid[STORE_GUID] = {0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44,
        0x55, 0x66, 0x77, 0x88, 0x99};
    assert_memory_equal(get(mb, 3).guid, guid, STORE_GUID);
    char uidl[STORE_UIDL_MAX + 1];
    store_uidl(mb, get(mb, 4).guid, uidl);
    assert_int_equal(strlen(uidl), 2 * STORE_GUID);
    store_unselect(mb);
}

static void test_a_lost_index_after_adoption_never_reuses_the_old_numbers(void **state)
{
    struct fixture *f = *state;
    char path[256];
    dovecot(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    store_unselect(mb);
    store_close(f->store);
    path_of(f, "veredus.inbox/veredus.index", path);
    assert_int_equal(unlink(path), 0);
    path_of(f, "veredus.inbox/veredus.log", path);
    assert_int_equal(unlink(path), 0);
    open_store(f);
    mb = select_box(f, INBOX);
    assert_true(store_uidvalidity(mb) > 1275660208);
    assert_int_equal(get(mb, 1).uid, 1);
    /* What POP3 clients know, and keywords, stay all the same. */
    unsigned same = 0;
    for (uint32_t seq = 1; seq <= store_count(mb); seq++) {
        char uidl[STORE_UIDL_MAX + 1];
        store_uidl(mb, get(mb, seq).guid, uidl);
        same += strcmp(uidl, "000000074c0907b0") == 0 || strcmp(uidl, "00000a1b4c5d") == 0 ||
                strcmp(uidl, "000000194c0907b0") == 0;
    }
    assert_int_equal(same, 3);
    assert_int_equal(store_keywords(mb), 2);
    store_unselect(mb);
}

static void test_a_rebuild_keeps_what_was_adopted(void **state)
{
    struct fixture *f = *state;
    dovecot(f);
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_uidvalidity(mb), 1275660208);
    assert_int_equal(get(mb, 2).uid, 12);
    assert_uidl(mb, 2, "00000a1b4c5d");
    store_unselect(mb);
}

static void test_damaged_lines_cost_only_their_messages(void **state)
{
    struct fixture *f = *state;
    message(f, "cur/1.a.host:2,", 1500000001);
    message(f, "cur/2.b.host:2,", 1500000002);
    message(f, "cur/3.c.host:2,", 1500000003);
    message(f, "cur/4.d.host:2,", 1500000004);
    write_file(f, "dovecot-uidlist",
        "3 V77 N5\n3 :2.b.host\nxyz\n\n99999999999 :1.a.host\n3 :3.c.host\n-1 :\n4 :4.d.ho");
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_uidvalidity(mb), 77);
    assert_int_equal(store_count(mb), 4);
    assert_int_equal(get(mb, 1).uid, 3);
    assert_int_equal(get(mb, 2).uid, 5);
    assert_int_equal(get(mb, 4).uid, 7);
    store_unselect(mb);
    assert_int_equal(problems(f, INBOX), 0);
}

static void test_a_uidlist_without_header_is_not_believed(void **state)
{
    struct fixture *f = *state;
    message(f, "cur/1.a.host:2,", 1500000001);
    write_file(f, "dovecot-uidlist", "3 V0 N5\n3 :1.a.host\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_true(store_uidvalidity(mb) >= 1500000000);
    assert_int_equal(get(mb, 1).uid, 1);
    store_unselect(mb);
}

static void test_numbers_that_cannot_be_read_are_not_replaced(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct store_mailbox *mb;
    message(f, "cur/1.a.host:2,", 1500000001);
    path_of(f, "dovecot-uidlist", path);
    assert_int_equal(mkdir(path, 0700), 0); /* also root gets an error */
    assert_int_not_equal(store_select(f->store, INBOX, false, &mb, &f->err), OK);
}

static void test_a_coexisting_maildir_is_adopted_too(void **state)
{
    struct fixture *f = *state;
    char path[256];
    dovecot(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(get(mb, 1).uid, 7);
    assert_true(has_keyword(mb, 1, "$Label1"));
    set_flags(f, mb, 7, STORE_REMOVE, STORE_FLAGGED);
    store_unselect(mb);
    path_of(f, "cur/1500000003.M3P1.host,S=14,W=17:2,Sa", path);
    assert_int_equal(access(path, F_OK), 0);
}

static void test_each_folder_has_numbers_of_its_own(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    dovecot(f);
    folder(f, ".Sent");
    message(f, ".Sent/cur/1.a.host:2,S", 1500000001);
    write_file(f, ".Sent/dovecot-uidlist", "1 1275660209 40\n39 1.a.host:2,\n");
    assert_int_equal(store_status(f->store, SLICE_LIT("Sent"), &st, &f->err), OK);
    assert_int_equal(st.uidvalidity, 1275660209);
    assert_int_equal(st.uidnext, 40);
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.uidvalidity, 1275660208);
}

static void test_a_new_folder_gets_a_uidvalidity_above_the_adopted(void **state)
{
    struct fixture *f = *state;
    struct store_status st;
    message(f, "cur/1.a.host:2,", 1500000001);
    write_file(f, "dovecot-uidlist", "3 V4000000000 N5\n3 :1.a.host\n");
    assert_int_equal(store_status(f->store, INBOX, &st, &f->err), OK);
    assert_int_equal(st.uidvalidity, 4000000000u);
    assert_int_equal(store_create(f->store, SLICE_LIT("New"), &f->err), OK);
    assert_int_equal(store_status(f->store, SLICE_LIT("New"), &st, &f->err), OK);
    assert_true(st.uidvalidity > 4000000000u);
}

static void courier(struct fixture *f)
{
    message(f, "cur/1500000001.M1P1.host,S=14:2,S", 1500000001);
    message(f, "cur/1500000002.M2P1.host,S=14:2,", 1500000002);
    message(f, "cur/1500000003.M3P1.host,S=14:2,", 1500000003);
    write_file(f, "courierimapuiddb",
        "1 1100000000 9\n2 1500000002.M2P1.host,S=14\n8 1500000001.M1P1.host,S=14\n");
    folder(f, "courierimapkeywords");
    write_file(f, "courierimapkeywords/:list",
        "$Forwarded\nwork\n\n1500000001.M1P1.host,S=14:0 1\n1500000002.M2P1.host,S=14:1\n");
    write_file(f, "courierimapkeywords/.2.1500000002.M2P1.host,S=14", "private\n");
    write_file(f, "courierimapkeywords/.1.1500000002.M2P1.host,S=14", "older\n");
    write_file(f, "courierpop3dsizelist",
        "/3 5 1100000001\n1500000001.M1P1.host,S=14:2, 17 3:1100000001:0\n"
        "1500000002.M2P1.host,S=14:2,S 17 4:0:0\nnonsense\n");
}

static void test_courier_numbers_keywords_and_unique_ids_are_kept(void **state)
{
    struct fixture *f = *state;
    courier(f);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_uidvalidity(mb), 1100000000);
    assert_int_equal(get(mb, 1).uid, 2);
    assert_int_equal(get(mb, 2).uid, 8);
    assert_int_equal(get(mb, 3).uid, 9);
    assert_true(has_keyword(mb, 2, "$Forwarded") && has_keyword(mb, 2, "work"));
    assert_true(has_keyword(mb, 1, "private"));
    assert_false(has_keyword(mb, 1, "work") || has_keyword(mb, 1, "older"));
    assert_uidl(mb, 1, "UID4");
    assert_uidl(mb, 2, "UID3-1100000001");
    store_unselect(mb);
}

static void assert_subscribed(struct fixture *f, const char *want)
{
    struct store_folder *folders;
    size_t n;
    struct buf names;
    buf_init(&names, 1000);
    assert_int_equal(store_list_subscribed(f->store, &folders, &n, &f->err), OK);
    for (size_t i = 0; i < n; i++)
        buf_printf(&names, "%.*s|", SLICE_FMT(folders[i].name));
    store_list_free(folders, n);
    assert_true(slice_is(buf_slice(&names), want));
    buf_clear(&names);
}

static void test_dovecot_subscriptions_are_kept_until_ours_take_over(void **state)
{
    struct fixture *f = *state;
    write_file(f, "subscriptions", "V\t2\n\nEntw&APw-rfe\nSent\t2024\nINBOX\n../x\n");
    assert_subscribed(f, "INBOX|Entw\xc3\xbcrfe|Sent/2024|");
    assert_int_equal(store_subscribe(f->store, SLICE_LIT("Sent/2024"), false, &f->err), OK);
    assert_subscribed(f, "INBOX|Entw\xc3\xbcrfe|");
    write_file(f, "subscriptions", "Other\n");
    assert_subscribed(f, "INBOX|Entw\xc3\xbcrfe|");
}

static void test_old_dovecot_and_courier_subscriptions_are_kept(void **state)
{
    struct fixture *f = *state;
    char path[256];
    write_file(f, "subscriptions", "Sent.2024\nDrafts\n");
    assert_subscribed(f, "Drafts|Sent/2024|");
    path_of(f, "subscriptions", path);
    unlink(path);
    write_file(f, "courierimapsubscribed", "INBOX\nINBOX.Sent.2024\nINBOX.Entw&APw-rfe\n");
    assert_subscribed(f, "INBOX|Entw\xc3\xbcrfe|Sent/2024|");
}

int main(void)
{
#define BARE(t) cmocka_unit_test_setup_teardown(t, setup_bare, teardown)
    const struct CMUnitTest tests[] = {
        BARE(test_dovecot_uids_and_uidvalidity_are_kept),
        BARE(test_dovecot_flags_keywords_and_dates_are_kept),
        BARE(test_dovecot_unique_ids_of_pop3_are_kept),
        BARE(test_a_lost_index_after_adoption_never_reuses_the_old_numbers),
        BARE(test_a_rebuild_keeps_what_was_adopted),
        BARE(test_damaged_lines_cost_only_their_messages),
        BARE(test_a_uidlist_without_header_is_not_believed),
        BARE(test_numbers_that_cannot_be_read_are_not_replaced),
        cmocka_unit_test_setup_teardown(
            test_a_coexisting_maildir_is_adopted_too, setup_bare_coexist, teardown),
        BARE(test_each_folder_has_numbers_of_its_own),
        BARE(test_a_new_folder_gets_a_uidvalidity_above_the_adopted),
        BARE(test_courier_numbers_keywords_and_unique_ids_are_kept),
        BARE(test_dovecot_subscriptions_are_kept_until_ours_take_over),
        BARE(test_old_dovecot_and_courier_subscriptions_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
