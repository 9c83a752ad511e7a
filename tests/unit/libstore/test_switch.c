/* A mailbox that was begun in one mode and goes on in the other: `coexist` of its domain changed.
 */
#include <sys/inotify.h>
#include <sys/syscall.h>

#include "tests/unit/libstore/fixture.h"

static void go_on(struct fixture *f, bool coexist)
{
    store_close(f->store);
    f->opt.coexist = coexist;
    open_store(f);
}

static bool is_there(struct fixture *f, const char *name)
{
    char path[256];
    path_of(f, name, path);
    return access(path, F_OK) == 0;
}

static void remember(struct fixture *f, struct store_status *st)
{
    assert_int_equal(store_status(f->store, INBOX, st, &f->err), OK);
}

static void test_numbers_flags_bodies_and_sizes_stay_both_ways(void **state)
{
    struct fixture *f = *state;
    struct store_status before, now;
    for (uint32_t turn = 1; turn <= 4; turn++) {
        assert_int_equal(append(f, INBOX, SLICE_LIT(MAIL)), turn);
        struct store_mailbox *mb = select_box(f, INBOX);
        for (uint32_t uid = 1; uid <= turn; uid++) {
            struct store_msg m;
            assert_body(f, mb, uid, MAIL);
            assert_true(store_get(mb, uid, &m));
            assert_int_equal(m.size, sizeof(MAIL) - 1);
            assert_int_equal(flags_of(mb, uid), uid < turn ? STORE_FLAGGED : 0);
        }
        set_flags(f, mb, turn, STORE_ADD, STORE_FLAGGED);
        store_unselect(mb);
        remember(f, &before);
        go_on(f, !f->opt.coexist);
        remember(f, &now);
        assert_int_equal(now.uidvalidity, before.uidvalidity);
        assert_int_equal(now.uidnext, before.uidnext);
        assert_int_equal(now.size, before.size);
        assert_true(now.mailbox == before.mailbox && now.highestmodseq >= before.highestmodseq);
        assert_int_equal(problems(f, INBOX), 0);
    }
}

static void test_flags_set_before_reach_the_names_when_others_come(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 1, STORE_ADD, STORE_SEEN | STORE_FLAGGED);
    store_unselect(mb);
    go_on(f, true);
    store_unselect(select_box(f, INBOX));
    DIR *d;
    char path[256];
    path_of(f, "cur", path);
    assert_non_null(d = opendir(path));
    size_t named = 0;
    for (struct dirent *e; (e = readdir(d));)
        named += strstr(e->d_name, ":2,FS") != NULL;
    closedir(d);
    assert_int_equal(named, 1);
}

static void test_the_index_of_inbox_lies_beside_the_messages_or_apart(void **state)
{
    struct fixture *f = *state;
    append(f, INBOX, SLICE_LIT(MAIL));
    for (int turn = 0; turn < 2; turn++) {
        assert_true(is_there(f, "veredus.inbox/veredus.log"));
        assert_false(is_there(f, "veredus.log"));
        go_on(f, true);
        append(f, INBOX, SLICE_LIT(MAIL));
        assert_true(is_there(f, "veredus.log"));
        assert_false(is_there(f, "veredus.inbox"));
        go_on(f, false);
        append(f, INBOX, SLICE_LIT(MAIL));
    }
}

/* As when a move to beside the messages was cut off: the log goes first. */
static void test_a_move_that_was_cut_off_is_completed_in_either_direction(void **state)
{
    struct fixture *f = *state;
    struct store_status before, now;
    for (int coexist = 0; coexist < 2; coexist++) {
        char from[256], to[256];
        go_on(f, false);
        append(f, INBOX, SLICE_LIT(MAIL));
        remember(f, &before);
        store_close(f->store);
        path_of(f, "veredus.inbox/veredus.log", from);
        path_of(f, "veredus.log", to);
        assert_int_equal(rename(from, to), 0);
        f->opt.coexist = coexist;
        open_store(f);
        remember(f, &now);
        assert_int_equal(now.uidvalidity, before.uidvalidity);
        assert_int_equal(now.messages, before.messages);
        assert_int_equal(now.uidnext, before.uidnext);
    }
}

static struct stat synced; /* the file that was synced last */

int fdatasync(int fd)
{
    assert_int_equal(fstat(fd, &synced), 0);
    return (int)syscall(SYS_fdatasync, fd);
}

/* Else a stop of the machine could leave files of the other kind, and an index that says that none
 * has to be looked for. */
static void test_that_others_may_come_is_on_disk_when_the_mailbox_is_opened(void **state)
{
    struct fixture *f = *state;
    struct store_status opened;
    struct stat st;
    char path[256];
    append(f, INBOX, SLICE_LIT(MAIL));
    go_on(f, true);
    remember(f, &opened);
    path_of(f, "veredus.log", path);
    assert_int_equal(stat(path, &st), 0);
    assert_true(synced.st_ino == st.st_ino && synced.st_size == st.st_size);
}

/* A session that died behind an expunge leaves the file, which without coexistence means nothing.
 */
static void test_an_expunged_message_whose_file_was_left_does_not_come_back(void **state)
{
    struct fixture *f = *state;
    char name[300], from[256], kept[256];
    struct store_appended out;
    const struct store_append_options how = {.delivery = 7};
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
    append(f, INBOX, SLICE_LIT(MAIL));
    snprintf(kept, sizeof(kept), "%s/kept", f->dir);
    file_named(f, "07000000", name);
    path_of(f, name, from);
    assert_int_equal(link(from, kept), 0);
    struct store_mailbox *mb = select_box(f, INBOX);
    struct uidset one = uids(1, 1);
    set_flags(f, mb, 1, STORE_ADD, STORE_DELETED);
    assert_int_equal(store_expunge(mb, &one, true, NULL, &f->err), OK);
    store_unselect(mb);
    uidset_clear(&one);
    assert_int_equal(rename(kept, from), 0);
    go_on(f, true);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    store_unselect(mb);
    assert_int_equal(access(from, F_OK), -1);
}

static void test_what_others_did_last_is_taken_over_when_they_stop(void **state)
{
    struct fixture *f = *state;
    go_on(f, true);
    append(f, INBOX, SLICE_LIT(MAIL));
    write_file(f, "new/1600000000.M1P2.host", "Subject: new\n\nx\n");
    write_file(f, "cur/1500000000.M1P2.host:2,FS", "Subject: old\n\ny\n");
    go_on(f, false);
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 3);
    assert_body(f, mb, 2, "Subject: old\r\n\r\ny\r\n");
    assert_int_equal(flags_of(mb, 2), STORE_FLAGGED | STORE_SEEN);
    store_unselect(mb);
    /* And nothing after that. */
    write_file(f, "new/1600000001.M1P2.host", "Subject: late\n\nx\n");
    reopen(f);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 3);
    store_unselect(mb);
    go_on(f, true);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 4);
    store_unselect(mb);
}

/* The queue manager repeats a delivery; its id is forgotten with the log. */
static void test_a_delivery_repeated_after_the_change_is_found(void **state)
{
    struct fixture *f = *state;
    for (uint64_t id = 100; id < 104; id++) {
        const struct store_append_options how = {.delivery = id};
        struct store_appended out;
        struct store_status st;
        char path[256];
        assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
        assert_false(out.duplicate);
        store_close(f->store);
        inbox_path_of(f, "veredus.log", path);
        assert_int_equal(unlink(path), 0);
        inbox_path_of(f, "veredus.index", path);
        assert_int_equal(unlink(path), 0);
        f->opt.coexist = !f->opt.coexist;
        open_store(f);
        assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
        assert_true(out.duplicate);
        remember(f, &st);
        assert_int_equal(st.messages, id - 99);
    }
}

/* A stop of the machine has left zeros instead of a sector, and no end. */
static void test_a_torn_file_is_put_right_after_the_change(void **state)
{
    enum { SECTOR = 512 };
    struct fixture *f = *state;
    struct buf text;
    char name[300], path[512];
    buf_init(&text, 4096);
    buf_printf(&text, "Subject: long\r\n\r\n");
    for (int i = 0; i < 100; i++)
        buf_printf(&text, "This is line %d.\r\n", i);
    assert_int_equal(buf_putc(&text, '\0'), OK);
    const struct slice mail = slice_of(buf_slice(&text).p);
    for (off_t at = 0; at <= SECTOR; at += SECTOR) {
        const struct store_append_options how = {.delivery = at ? 8 : 7};
        struct store_appended first, again;
        go_on(f, false);
        assert_int_equal(append_opt(f, INBOX, mail, &how, &first), OK);
        file_named(f, at ? "08000000" : "07000000", name);
        snprintf(path, sizeof(path), "%s/%s", f->mail, name);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, (char[SECTOR]){0}, SECTOR, at), SECTOR);
        assert_int_equal(ftruncate(fd, 3L * SECTOR), 0);
        close(fd);
        go_on(f, true);
        assert_int_equal(append_opt(f, INBOX, mail, &how, &again), OK);
        assert_true(again.duplicate);
        assert_int_equal(again.uid, first.uid);
        struct store_mailbox *mb = select_box(f, INBOX);
        assert_int_equal(store_count(mb), at ? 2 : 1);
        assert_body(f, mb, first.uid, mail.p);
        store_unselect(mb);
    }
    buf_clear(&text);
}

/* It lies in new/, where the index without coexistence puts no file: who died before the repetition
 * was found would leave a beginning of it in cur/ as well. */
static void test_a_delivery_repeated_after_the_change_makes_no_second_file(void **state)
{
    struct fixture *f = *state;
    const struct store_append_options how = {.delivery = 7};
    struct store_appended out;
    char path[256], events[4096];
    go_on(f, true);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
    go_on(f, false);
    store_unselect(select_box(f, INBOX));
    path_of(f, "cur", path);
    int watch = inotify_init1(IN_NONBLOCK);
    assert_true(watch >= 0 && inotify_add_watch(watch, path, IN_CREATE | IN_MOVED_TO) >= 0);
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
    assert_true(out.duplicate);
    assert_int_equal(read(watch, events, sizeof(events)), -1);
    close(watch);
}

/* As such a process, or a program that copies Maildirs, leaves it. */
static void test_a_second_file_in_cur_does_not_hide_the_message(void **state)
{
    struct fixture *f = *state;
    const struct store_append_options how = {.delivery = 7};
    struct store_appended out;
    char name[300];
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT(MAIL), &how, &out), OK);
    struct store_mailbox *mb = select_box(f, INBOX);
    set_flags(f, mb, 1, STORE_ADD, STORE_FLAGGED);
    store_unselect(mb);
    file_named(f, "07000000", name);
    snprintf(strstr(name, ":2,"), 8, f->opt.coexist ? ":2," : ":2,D");
    write_file(f, name, "");
    assert_int_equal(store_rebuild(f->store, INBOX, &f->err), OK);
    reopen(f);
    mb = select_box(f, INBOX);
    assert_int_equal(store_count(mb), 1);
    assert_body(f, mb, 1, MAIL);
    assert_int_equal(flags_of(mb, 1), STORE_FLAGGED);
    store_unselect(mb);
}

static void test_a_file_replaced_with_other_line_ends_is_served(void **state)
{
    struct fixture *f = *state;
    struct store_appended out;
    const struct store_append_options how = {.delivery = 7};
    char name[300];
    assert_int_equal(append_opt(f, INBOX, SLICE_LIT("Subject: a\r\n\r\nx\r\n"), &how, &out), OK);
    file_named(f, "07000000", name);
    write_file(f, name, "Subject: a\n\nx\n");
    struct store_mailbox *mb = select_box(f, INBOX);
    assert_body(f, mb, 1, "Subject: a\r\n\r\nx\r\n");
    store_unselect(mb);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_numbers_flags_bodies_and_sizes_stay_both_ways),
        TEST(test_flags_set_before_reach_the_names_when_others_come),
        TEST(test_the_index_of_inbox_lies_beside_the_messages_or_apart),
        TEST(test_a_move_that_was_cut_off_is_completed_in_either_direction),
        TEST(test_that_others_may_come_is_on_disk_when_the_mailbox_is_opened),
        TEST(test_an_expunged_message_whose_file_was_left_does_not_come_back),
        TEST(test_what_others_did_last_is_taken_over_when_they_stop),
        TEST(test_a_delivery_repeated_after_the_change_is_found),
        TEST(test_a_delivery_repeated_after_the_change_makes_no_second_file),
        TEST(test_a_torn_file_is_put_right_after_the_change),
        TEST(test_a_second_file_in_cur_does_not_hide_the_message),
        cmocka_unit_test_setup_teardown(
            test_a_second_file_in_cur_does_not_hide_the_message, setup_coexist, teardown),
        TEST(test_a_file_replaced_with_other_line_ends_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
