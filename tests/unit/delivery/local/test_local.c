/* The spawner and its children, with a queue manager of ours and accounts of our own making. As
 * root, children change user; otherwise the one account is ourselves. */
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "delivery/local/parts.h"
#include "libmail/proto/notify.h"

#define BODY "Received: x\r\nSubject: s\r\n\r\nText.\r\n"

enum { TESTER = 4321 };

struct fixture {
    char dir[64], home[96];
    uid_t uid;
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
    char owner[256];
    char targets[512]; /* of the first outcome, each with a blank */
    const char *via;
};

static void agent_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    (void)ipc;
    delivery_message(&f->qmgr, in);
}

static void on_notify(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    (void)ipc;
    f->announced++;
    assert_true(slice_to_cstr(((const struct notify_changed *)in->msg)->owner, f->owner, 256));
}

static const struct ipc_ops agent_ops = {agent_message, NULL}, quiet = {NULL, NULL},
                            notify_ops = {on_notify, NULL};

static void connect_peer(struct fixture *f, struct peer *p, enum conversation conv,
    const struct ipc_proto *proto, enum ipc_side side, const struct ipc_ops *ours,
    struct ipc **other, const struct ipc_ops *theirs)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *p = (struct peer){.daemon = &f->daemon, .side = side, .conv = conv};
    p->ipc = ipc_new(f->daemon.loop, pair[0], proto, side, ours, f);
    enum ipc_side back = side == IPC_SERVER ? IPC_CLIENT : IPC_SERVER;
    *other = ipc_new(f->daemon.loop, pair[1], proto, back, theirs, f);
    list_append(&f->daemon.peers, &p->link);
}

static void write_passwd(struct fixture *f)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/passwd", f->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "root:x:0:0::/root:/bin/sh\nlow:x:50:50::/tmp:/bin/sh\n");
    fprintf(file, "other:x:%u:%u::%s:/bin/sh\n", TESTER + 1, TESTER + 1, f->home);
    fprintf(file, "tester:x:%u:%u::%s:/bin/sh\n", f->uid, f->uid, f->home);
    fclose(file);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    struct error err = {0};
    log_setup("test", LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/veredus-local-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chmod(f->dir, 0755), 0);
    f->uid = geteuid() == 0 ? TESTER : geteuid();
    snprintf(f->home, sizeof(f->home), "%s/home", f->dir);
    assert_int_equal(mkdir(f->home, 0700), 0);
    assert_int_equal(chown(f->home, f->uid, geteuid() == 0 ? f->uid : getegid()), 0);
    write_passwd(f);
    f->daemon = (struct daemon){.spec = &f->spec, .loop = loop_new(), .rootless = geteuid() != 0};
    list_init(&f->daemon.peers);
    f->daemon.conf =
        conf_parse("test", SLICE_LIT("hostname mx.example.test\n"), &conf_root_schema, NULL, &err);
    assert_non_null(f->daemon.conf);
    assert_int_equal(local_configure(&f->daemon, &err), OK);
    struct local *l = f->daemon.data;
    accounts_close(l->agent.accounts);
    l->agent.accounts = accounts_open(f->dir, &err);
    assert_non_null(l->agent.accounts);
    l->least_uid = MIN(l->least_uid, f->uid);
    assert_int_equal(delivery_start(&f->daemon, &err), OK);
    connect_peer(
        f, &f->qmgr, CONV_DELIVER, &deliver_proto, IPC_SERVER, &agent_ops, &f->client, &quiet);
    connect_peer(
        f, &f->notify, CONV_NOTIFY, &notify_proto, IPC_CLIENT, &quiet, &f->notifyd, &notify_ops);
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
    local_free(&f->daemon);
    loop_free(f->daemon.loop);
    conf_free(f->daemon.conf);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static void read_targets(struct fixture *f, struct slice packed)
{
    size_t n = 0;
    f->targets[0] = '\0';
    for (struct reader r = reader_of(packed); r.rest.n;) {
        struct slice target = get_lv(&r, 1024);
        assert_false(r.bad);
        n += (size_t)snprintf(f->targets + n, sizeof(f->targets) - n, "%.*s ", SLICE_FMT(target));
    }
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
        struct outcome o;
        assert_int_equal(record_get(&r, &outcome_record, &o), OK);
        assert_true(o.index < 4);
        f->outcome[o.index] = o;
        assert_true(slice_to_cstr(o.text, f->text[o.index], 481));
        if (o.index == 0)
            read_targets(f, o.targets);
    }
}

static void wait_for_answer(struct fixture *f, unsigned before)
{
    for (int i = 0; i < 1000 && f->answers == before; i++) {
        loop_poll(f->daemon.loop);
        poll(NULL, 0, 5);
    }
    assert_int_equal(f->answers, before + 1);
    for (int i = 0; i < 5; i++)
        loop_poll(f->daemon.loop);
}

static void deliver_to(struct fixture *f, uint64_t id, const char *const *accounts, size_t n)
{
    struct buf envelope, recipients;
    struct envelope e = {
        .sender = SLICE_LIT("sender@example.org"), .listener = SLICE_LIT("bounce")};
    buf_init(&envelope, 4096);
    buf_init(&recipients, 8192);
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    for (size_t i = 0; i < n; i++) {
        struct recipient r = {.address = SLICE_LIT("tester@host.example.test"),
            .original = SLICE_LIT("tester@host.example.test"),
            .via = slice_of(f->via ? f->via : ""),
            .nexthop = slice_of(accounts[i])};
        assert_int_equal(record_put(&recipients, &recipient_record, &r), OK);
    }
    struct deliver_start m = {.delivery = id,
        .envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = sizeof(BODY) - 1,
        .body = SLICE_LIT(BODY)};
    unsigned before = f->answers;
    ipc_call(f->client, deliver_start_type, 7, &m, -1, on_done, f);
    wait_for_answer(f, before);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static void deliver(struct fixture *f, uint64_t id, const char *account)
{
    deliver_to(f, id, &account, 1);
}

static void test_delivery_is_made_by_a_child_that_is_the_recipient(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "tester");
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1");
    assert_int_equal(f->outcome[0].status, DELIVERED);
    char path[256];
    struct stat st;
    snprintf(path, sizeof(path), "%s/Maildir/new", f->home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, f->uid);
    assert_int_equal(st.st_mode & 0777, 0700);
    for (int i = 0; i < 100 && !f->announced; i++) {
        loop_poll(f->daemon.loop);
        poll(NULL, 0, 5);
    }
    assert_int_equal(f->announced, 1);
    snprintf(path, sizeof(path), "%s/Maildir", f->home);
    assert_string_equal(f->owner, path);
    assert_int_equal(delivery_sessions(&f->daemon), 0);
}

static void test_detail_goes_into_its_folder_when_there_is_one(void **state)
{
    struct fixture *f = *state;
    char path[256];
    deliver(f, 100, "tester");
    snprintf(path, sizeof(path), "%s/Maildir/.lists", f->home);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chown(path, f->uid, (gid_t)-1), 0);
    deliver(f, 200, "tester//lists");
    assert_string_equal(f->text[0], "delivered to mailbox lists uid 1");
    deliver(f, 300, "tester//../../absent");
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 2");
}

static void test_redo_is_delivered_once(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "tester");
    deliver(f, 100, "tester");
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1 (by an attempt before)");
}

static void put_forward(struct fixture *f, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/.forward", f->home);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chown(path, f->uid, (gid_t)-1), 0);
}

static void test_an_empty_forward_means_the_mailbox(void **state)
{
    struct fixture *f = *state;
    put_forward(f, "");
    deliver(f, 100, "tester");
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1");
}

static void test_forward_is_told_to_the_queue_with_the_outcome(void **state)
{
    struct fixture *f = *state;
    put_forward(f, "one@x.example, two\n\"|/bin/cat >'a b'\"\n");
    deliver(f, 100, "tester");
    assert_int_equal(f->outcome[0].status, DELIVERED);
    assert_string_equal(f->targets, "one@x.example two |/bin/cat >'a b' ");
    assert_string_equal(f->text[0], "handled as the user's .forward says");
    char path[256];
    snprintf(path, sizeof(path), "%s/Maildir", f->home);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_a_copy_is_kept_beside_forwarding_and_only_once(void **state)
{
    struct fixture *f = *state;
    put_forward(f, "\\tester\none@x.example\n");
    deliver(f, 100, "tester");
    assert_string_equal(f->targets, "one@x.example ");
    deliver(f, 100, "tester");
    assert_string_equal(f->text[0], "delivered to mailbox INBOX uid 1 (by an attempt before)");
    assert_string_equal(f->targets, "one@x.example ");
}

static void test_what_the_same_recipient_has_forwarded_before_is_a_loop(void **state)
{
    struct fixture *f = *state;
    put_forward(f, "one@x.example\n");
    f->via = "other@x.example\ntester@host.example.test";
    deliver(f, 100, "tester");
    assert_int_equal(f->outcome[0].status, FAILED);
    assert_string_equal(f->targets, "");
    f->via = "other@x.example";
    deliver(f, 200, "tester");
    assert_int_equal(f->outcome[0].status, DELIVERED);
}

static void test_an_included_file_names_no_command(void **state)
{
    struct fixture *f = *state;
    char text[256];
    snprintf(text, sizeof(text), "one@x.example\n:include:%s/.forward\n|/bin/true\n", f->home);
    put_forward(f, text);
    deliver(f, 100, "tester");
    assert_int_equal(f->outcome[0].status, DEFERRED);
    assert_string_equal(f->targets, "");
}

static void test_each_recipient_gets_its_own_outcome(void **state)
{
    struct fixture *f = *state;
    static const char *const accounts[] = {"tester", "nobody-here", "root", "tester"};
    deliver_to(f, 100, accounts, ARRAY_LEN(accounts));
    assert_int_equal(f->noutcomes, 4);
    assert_int_equal(f->outcome[0].status, DELIVERED);
    assert_int_equal(f->outcome[1].status, FAILED);
    assert_int_equal(f->outcome[2].status, DEFERRED);
    assert_int_equal(f->outcome[3].status, DELIVERED);
}

static void test_an_account_has_few_children_at_a_time_and_all_its_mail(void **state)
{
    struct fixture *f = *state;
    struct local *l = f->daemon.data;
    struct buf envelope, recipients;
    struct envelope e = {.sender = SLICE_LIT("sender@example.org")};
    unsigned before = f->answers;
    buf_init(&envelope, 4096);
    buf_init(&recipients, 8192);
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    struct recipient r = {
        .address = SLICE_LIT("tester@host.example.test"), .nexthop = SLICE_LIT("tester")};
    assert_int_equal(record_put(&recipients, &recipient_record, &r), OK);
    for (unsigned i = 0; i < 3 * DELIVERY_CHILDREN_EACH; i++) {
        struct deliver_start m = {.delivery = 100 * (i + 1),
            .envelope = buf_slice(&envelope),
            .recipients = buf_slice(&recipients),
            .size = sizeof(BODY) - 1,
            .body = SLICE_LIT(BODY)};
        ipc_call(f->client, deliver_start_type, 7, &m, -1, on_done, f);
    }
    for (int i = 0; i < 2000 && f->answers < before + 3 * DELIVERY_CHILDREN_EACH; i++) {
        loop_poll(f->daemon.loop);
        assert_true(l->agent.children.count <= DELIVERY_CHILDREN_EACH);
        poll(NULL, 0, 2);
    }
    assert_int_equal(f->answers, before + 3 * DELIVERY_CHILDREN_EACH);
    assert_int_equal(f->outcome[0].status, DELIVERED);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static void test_accounts_below_the_floor_and_others_without_root_are_deferred(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "low");
    assert_int_equal(f->outcome[0].status, DEFERRED);
    f->daemon.rootless = true;
    deliver(f, 100, "other");
    assert_int_equal(f->outcome[0].status, DEFERRED);
    assert_non_null(strstr(f->text[0], "without root"));
}

static void test_link_in_place_of_the_maildir_is_not_followed(void **state)
{
    struct fixture *f = *state;
    char path[256];
    snprintf(path, sizeof(path), "%s/Maildir", f->home);
    assert_int_equal(symlink("/tmp", path), 0);
    deliver(f, 100, "tester");
    assert_int_equal(f->outcome[0].status, DEFERRED);
}

static void test_sync_answers(void **state)
{
    struct fixture *f = *state;
    deliver(f, 100, "tester");
    unsigned before = f->answers;
    f->synced = -1;
    ipc_call(f->client, deliver_sync_type, 0, &(struct deliver_sync){}, -1, on_done, f);
    wait_for_answer(f, before);
    assert_int_equal(f->synced, OK);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_delivery_is_made_by_a_child_that_is_the_recipient),
        TEST(test_detail_goes_into_its_folder_when_there_is_one),
        TEST(test_redo_is_delivered_once),
        TEST(test_an_empty_forward_means_the_mailbox),
        TEST(test_forward_is_told_to_the_queue_with_the_outcome),
        TEST(test_a_copy_is_kept_beside_forwarding_and_only_once),
        TEST(test_what_the_same_recipient_has_forwarded_before_is_a_loop),
        TEST(test_an_included_file_names_no_command),
        TEST(test_each_recipient_gets_its_own_outcome),
        TEST(test_an_account_has_few_children_at_a_time_and_all_its_mail),
        TEST(test_accounts_below_the_floor_and_others_without_root_are_deferred),
        TEST(test_link_in_place_of_the_maildir_is_not_followed),
        TEST(test_sync_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
