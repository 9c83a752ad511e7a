/* The agent with a queue manager and a notifyd of ours. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "delivery/virtual/stores.h"
#include "delivery/virtual/virtual.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/notify.h"
#include "libstore/store.h"

#define BODY "Received: x\r\nSubject: s\r\n\r\nText.\r\n"

struct fixture {
    char dir[64];
    struct daemon daemon;
    struct daemon_spec spec;
    struct peer qmgr, notify;
    struct ipc *client, *notifyd;
    unsigned answers;
    struct outcome outcome[4];
    char text[4][481];
    size_t noutcomes;
    int64_t synced;
    unsigned announced;
    char owner[128], folder[64];
};

static void agent_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    (void)ipc;
    virtual_message(&f->qmgr, in);
}

static void on_notify(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    const struct notify_changed *m = in->msg;
    (void)ipc;
    f->announced++;
    assert_true(slice_to_cstr(m->owner, f->owner, sizeof(f->owner)));
    assert_true(slice_to_cstr(m->mailbox, f->folder, sizeof(f->folder)));
}

static const struct ipc_ops agent_ops = {agent_message, NULL}, quiet = {NULL, NULL},
                            notify_ops = {on_notify, NULL};

static void connect_peer(struct fixture *f, struct peer *p, const struct ipc_proto *proto,
    enum ipc_side side, const struct ipc_ops *ours, struct ipc **other,
    const struct ipc_ops *theirs)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *p = (struct peer){.daemon = &f->daemon, .side = side};
    p->ipc = ipc_new(f->daemon.loop, pair[0], proto, side, ours, f);
    enum ipc_side back = side == IPC_SERVER ? IPC_CLIENT : IPC_SERVER;
    *other = ipc_new(f->daemon.loop, pair[1], proto, back, theirs, f);
    list_append(&f->daemon.peers, &p->link);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    struct error err = {0};
    char text[256];
    log_setup("test", LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/veredus-virtual-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(text, sizeof(text), "hostname mx.example.test\nmail-root %s\n", f->dir);
    f->daemon = (struct daemon){.spec = &f->spec, .loop = loop_new_fake(1000)};
    list_init(&f->daemon.peers);
    f->daemon.conf = conf_parse("test", slice_of(text), &conf_root_schema, NULL, &err);
    assert_non_null(f->daemon.conf);
    assert_int_equal(virtual_configure(&f->daemon, &err), OK);
    connect_peer(f, &f->qmgr, &deliver_proto, IPC_SERVER, &agent_ops, &f->client, &quiet);
    connect_peer(f, &f->notify, &notify_proto, IPC_CLIENT, &quiet, &f->notifyd, &notify_ops);
    f->qmgr.conv = CONV_DELIVER;
    f->notify.conv = CONV_NOTIFY;
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ipc_free(f->client);
    ipc_free(f->notifyd);
    ipc_free(f->qmgr.ipc);
    ipc_free(f->notify.ipc);
    virtual_free(&f->daemon);
    loop_free(f->daemon.loop);
    conf_free(f->daemon.conf);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void on_done(struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    assert_non_null(in);
    f->answers++;
    if (in->type == deliver_synced_type) {
        f->synced = ((const struct deliver_synced *)in->msg)->code;
        return;
    }
    struct reader r = reader_of(((const struct deliver_done *)in->msg)->outcomes);
    for (f->noutcomes = 0; r.rest.n; f->noutcomes++) {
        struct outcome *o = &f->outcome[f->noutcomes];
        assert_int_equal(record_get(&r, &outcome_record, o), OK);
        assert_true(slice_to_cstr(o->text, f->text[f->noutcomes], 481));
    }
}

static void settle(struct fixture *f)
{
    for (int i = 0; i < 10; i++)
        loop_poll(f->daemon.loop);
}

static void wait_for_news(struct fixture *f)
{
    loop_advance(f->daemon.loop, 100);
    settle(f);
}

static void deliver(struct fixture *f, uint64_t id, const char *path, const char *second, int fd)
{
    struct buf envelope, recipients;
    struct envelope e = {.sender = SLICE_LIT("sender@example.org")};
    struct recipient r = {.address = SLICE_LIT("alice@example.test"),
        .original = SLICE_LIT("sales@example.test"),
        .nexthop = slice_of(path)};
    buf_init(&envelope, 4096);
    buf_init(&recipients, 8192);
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    assert_int_equal(record_put(&recipients, &recipient_record, &r), OK);
    if (second) {
        r.nexthop = slice_of(second);
        r.original = r.address;
        assert_int_equal(record_put(&recipients, &recipient_record, &r), OK);
    }
    struct deliver_start m = {.delivery = id,
        .envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = sizeof(BODY) - 1,
        .body = fd < 0 ? SLICE_LIT(BODY) : SLICE_LIT("")};
    unsigned before = f->answers;
    ipc_call(f->client, deliver_start_type, 7, &m, fd, on_done, f);
    settle(f);
    assert_int_equal(f->answers, before + 1);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static void assert_mail(struct fixture *f, const char *path, uint32_t uid, const char *text)
{
    char full[256];
    struct error err = {0};
    struct store *s;
    struct store_mailbox *mb;
    struct store_body body;
    snprintf(full, sizeof(full), "%s/%s", f->dir, path);
    assert_int_equal(store_open(AT_FDCWD, full, &(struct store_options){0}, &s, &err), OK);
    assert_int_equal(store_select(s, SLICE_LIT("INBOX"), true, &mb, &err), OK);
    assert_int_equal(store_body(mb, uid, &body, &err), OK);
    assert_true(slice_is(body.content, text));
    store_body_release(&body);
    store_unselect(mb);
    store_close(s);
}

static void test_first_delivery_makes_the_mailbox_and_adds_trace_fields(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "example.test/alice", NULL, -1);
    assert_int_equal(f->noutcomes, 1);
    assert_int_equal(f->outcome[0].status, DELIVERED);
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1");
    assert_mail(f, "example.test/alice", 1,
        "Return-Path: <sender@example.org>\r\nX-Original-To: sales@example.test\r\n"
        "Delivered-To: alice@example.test\r\n" BODY);
    char path[256];
    struct stat st;
    snprintf(path, sizeof(path), "%s/example.test/alice", f->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    wait_for_news(f);
    assert_int_equal(f->announced, 1);
    assert_string_equal(f->owner, "example.test/alice");
    assert_string_equal(f->folder, "INBOX");
}

static void test_body_from_a_descriptor_and_two_recipients(void **state)
{
    struct fixture *f = *state;
    int fd = memfd_create("body", MFD_CLOEXEC);
    assert_int_equal(write(fd, BODY, sizeof(BODY) - 1), sizeof(BODY) - 1);
    deliver(f, 100, "example.test/alice", "example.test/bob", fd);
    close(fd);
    assert_int_equal(f->noutcomes, 2);
    assert_int_equal(f->outcome[1].index, 1);
    assert_int_equal(f->outcome[1].status, DELIVERED);
    assert_mail(f, "example.test/bob", 1,
        "Return-Path: <sender@example.org>\r\nDelivered-To: alice@example.test\r\n" BODY);
}

static void test_redo_is_delivered_once(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "example.test/alice", NULL, -1);
    deliver(f, 100, "example.test/alice", NULL, -1);
    assert_int_equal(f->outcome[0].status, DELIVERED);
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1 (by an attempt before)");
    wait_for_news(f);
    assert_int_equal(f->announced, 1);
}

static void test_news_of_a_mailbox_is_told_once_and_its_texts_are_there_by_then(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct stat before, after;
    deliver(f, 100, "example.test/alice", "example.test/bob", -1);
    deliver(f, 102, "example.test/alice", NULL, -1);
    snprintf(path, sizeof(path), "%s/example.test/alice/veredus.inbox/veredus.cache", f->dir);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(f->announced, 0);
    wait_for_news(f);
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size > before.st_size);
    assert_int_equal(f->announced, 2);
}

static void test_news_is_told_before_the_end(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "example.test/alice", NULL, -1);
    virtual_drain(&f->daemon);
    settle(f);
    assert_int_equal(f->announced, 1);
}

static void test_paths_out_of_the_mail_root_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "../alice", "example.test/../../x", "/etc", "", ".", "//x", "link/alice", "..//x"};
    char path[256];
    snprintf(path, sizeof(path), "%s/link", f->dir);
    assert_int_equal(symlink("/tmp", path), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        deliver(f, 100 + i, bad[i], NULL, -1);
        assert_int_equal(f->noutcomes, 1);
        assert_int_equal(f->outcome[0].status, DEFERRED);
    }
    wait_for_news(f);
    assert_int_equal(f->announced, 0);
}

static void make_folder(struct fixture *f, const char *path, const char *folder)
{
    char full[256];
    struct error err = {0};
    struct store *s;
    snprintf(full, sizeof(full), "%s/%s", f->dir, path);
    assert_int_equal(
        store_open(AT_FDCWD, full, &(struct store_options){.create = true}, &s, &err), OK);
    assert_int_equal(store_create(s, slice_of(folder), &err), OK);
    store_close(s);
}

static void test_detail_goes_into_its_folder(void **state)
{
    struct fixture *f = *state;
    make_folder(f, "alice", "Lists/2024");
    deliver(f, 100, "alice//Lists/2024", NULL, -1);
    assert_string_equal(f->text[0], "delivered to mailbox Lists/2024 uid 1");
    wait_for_news(f);
    assert_string_equal(f->owner, "alice");
    assert_string_equal(f->folder, "Lists/2024");
}

static void test_detail_without_a_folder_goes_into_inbox_and_makes_none(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"alice//absent", "alice//../bob", "alice//..", "alice///",
        "alice//.", "alice//a//b", "alice///etc", "alice//\xff\xfe", "alice//a\nb", "alice//new",
        "alice//tmp", "alice//link", "alice//"};
    char path[256];
    struct error err = {0};
    struct store *s;
    struct store_folder *folders;
    size_t n;
    make_folder(f, "bob", "Secret");
    make_folder(f, "alice", "Lists");
    snprintf(path, sizeof(path), "%s/alice/.link", f->dir);
    assert_int_equal(symlink("../bob/.Secret", path), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char wanted[64];
        deliver(f, 100 + i, bad[i], NULL, -1);
        assert_int_equal(f->outcome[0].status, DELIVERED);
        snprintf(wanted, sizeof(wanted), "delivered to mailbox INBOX uid %zu", i + 1);
        assert_string_equal(f->text[0], wanted);
    }
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/alice", f->dir);
    assert_int_equal(store_open(AT_FDCWD, path, &(struct store_options){0}, &s, &err), OK);
    assert_int_equal(store_list(s, &folders, &n, &err), OK);
    assert_int_equal(n, 2);
    store_list_free(folders, n);
    store_close(s);
}

static void test_removed_mailbox_is_made_again(void **state)
{
    struct fixture *f = *state;
    char path[256];
    deliver(f, 100, "example.test/alice", NULL, -1);
    snprintf(path, sizeof(path), "%s/example.test/alice", f->dir);
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    deliver(f, 200, "example.test/alice", NULL, -1);
    assert_int_equal(f->outcome[0].status, DELIVERED);
    assert_int_equal(stat(path, &(struct stat){0}), 0);
}

static void test_mail_for_a_mailbox_that_was_moved_away_goes_where_its_path_leads(void **state)
{
    struct fixture *f = *state;
    char from[256], to[256];
    snprintf(from, sizeof(from), "%s/example.test/alice", f->dir);
    snprintf(to, sizeof(to), "%s/example.test/moved", f->dir);
    deliver(f, 100, "example.test/alice", NULL, -1);
    assert_int_equal(rename(from, to), 0);
    loop_advance(f->daemon.loop, STORES_CHECK_MS + 1);
    deliver(f, 101, "example.test/alice", NULL, -1);
    assert_int_equal(f->outcome[0].status, DELIVERED);
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1");
    loop_advance(f->daemon.loop, STORES_CHECK_MS + 1);
    deliver(f, 102, "example.test/alice", NULL, -1);
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 2");
}

static void test_sync_answers_after_deliveries(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "example.test/alice", NULL, -1);
    f->synced = -1;
    ipc_call(f->client, deliver_sync_type, 0, &(struct deliver_sync){}, -1, on_done, f);
    for (int i = 0; i < 10000 && f->synced == -1; i++) {
        settle(f);
        usleep(1000);
    }
    assert_int_equal(f->synced, OK);
}

static void on_nothing(struct ipc_in *in, void *arg)
{
    (void)arg;
    assert_null(in);
}

static void test_a_peer_that_goes_during_its_sync_is_forgotten(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "example.test/alice", NULL, -1);
    ipc_call(f->client, deliver_sync_type, 0, &(struct deliver_sync){}, -1, on_nothing, f);
    loop_poll(f->daemon.loop);
    loop_poll(f->daemon.loop);
    virtual_down(&f->qmgr);
    deliver(f, 101, "example.test/alice", NULL, -1);
    assert_int_equal(f->outcome[0].status, DELIVERED);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_delivery_makes_the_mailbox_and_adds_trace_fields),
        TEST(test_body_from_a_descriptor_and_two_recipients),
        TEST(test_redo_is_delivered_once),
        TEST(test_news_of_a_mailbox_is_told_once_and_its_texts_are_there_by_then),
        TEST(test_news_is_told_before_the_end),
        TEST(test_paths_out_of_the_mail_root_are_refused),
        TEST(test_detail_goes_into_its_folder),
        TEST(test_detail_without_a_folder_goes_into_inbox_and_makes_none),
        TEST(test_removed_mailbox_is_made_again),
        TEST(test_mail_for_a_mailbox_that_was_moved_away_goes_where_its_path_leads),
        TEST(test_sync_answers_after_deliveries),
        TEST(test_a_peer_that_goes_during_its_sync_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
