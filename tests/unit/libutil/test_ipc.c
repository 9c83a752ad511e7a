#include <fcntl.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/ipc.h"
#include "libutil/log.h"

#include <cmocka.h>

#define ASK_FIELDS(F, S) F(S, STR, name, 16) F(S, SECRET, password, 16) F(S, U32, count, 0)
#define TELL_FIELDS(F, S) F(S, BOOL, yes, 0) F(S, BYTES, data, 32) F(S, I64, when, 0)
#define NEWS_FIELDS(F, S) F(S, U64, sequence, 0)
#define TEST_PROTO(M)                                      \
    M(ask, 1, IPC_CLIENT, 2, 1000, IPC_MAY_FD, ASK_FIELDS) \
    M(tell, 2, IPC_SERVER, 0, 0, IPC_NO_FD, TELL_FIELDS)   \
    M(news, 3, IPC_SERVER, 0, 0, IPC_NO_FD, NEWS_FIELDS)
IPC_DECLARE(test, TEST_PROTO)
IPC_DEFINE(test, TEST_PROTO)
/* The same names from another build: one limit differs. */
#define ASK2_FIELDS(F, S) F(S, STR, name, 17) F(S, SECRET, password, 16) F(S, U32, count, 0)
#define OTHER_PROTO(M) M(ask2, 1, IPC_CLIENT, 0, 0, IPC_NO_FD, ASK2_FIELDS)
IPC_DECLARE(other, OTHER_PROTO)
IPC_DEFINE(other, OTHER_PROTO)

struct world {
    struct loop *loop;
    struct ipc *client, *server;
    int server_closed, client_closed, replies, nulls, news;
    int close_code, client_fd;
    bool answer;
    char seen[32];
    uint64_t trace;
    bool got_fd;
};

static void serve(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct world *w = arg;
    const struct ask *ask = in->msg;
    assert_int_equal(in->type, ask_type);
    assert_true(slice_to_cstr(ask->name, w->seen, sizeof(w->seen)));
    w->trace = in->trace;
    w->got_fd = in->fd >= 0;
    struct tell tell = {.yes = true, .data = SLICE_LIT("a\0b"), .when = -5};
    if (w->answer)
        ipc_reply(ipc, in->id, in->trace, tell_type, &tell, -1);
}

static void hear(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    ((struct world *)arg)->news += in->type == news_type;
}

static void server_gone(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc;
    struct world *w = arg;
    w->server_closed++;
    w->server = NULL;
    w->close_code = err->code;
}

static void client_gone(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc;
    (void)err;
    struct world *w = arg;
    w->client_closed++;
    w->client = NULL;
}

static const struct ipc_ops server_ops = {serve, server_gone}, client_ops = {hear, client_gone};

static void on_reply(struct ipc_in *in, void *arg)
{
    struct world *w = arg;
    if (!in) {
        w->nulls++;
        return;
    }
    const struct tell *tell = in->msg;
    w->replies += tell->yes && tell->when == -5 && slice_eq(tell->data, SLICE_LIT("a\0b"));
}

static int make(void **state)
{
    struct world *w = NEW(struct world);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    w->loop = loop_new_fake(0);
    w->client_fd = pair[0];
    w->client = ipc_new(w->loop, pair[0], &test_proto, IPC_CLIENT, &client_ops, w);
    w->server = ipc_new(w->loop, pair[1], &test_proto, IPC_SERVER, &server_ops, w);
    w->answer = true;
    *state = w;
    return 0;
}

static int drop(void **state)
{
    struct world *w = *state;
    ipc_free(w->client);
    ipc_free(w->server);
    loop_free(w->loop);
    free(w);
    return 0;
}

static void spin(struct world *w)
{
    for (int i = 0; i < 6; i++)
        loop_poll(w->loop);
}

static void ask_once(struct world *w, int fd)
{
    struct ask ask = {.name = SLICE_LIT("alice"), .password = SLICE_LIT("secret"), .count = 3};
    ipc_call(w->client, ask_type, 77, &ask, fd, on_reply, w);
}

static void test_call_is_answered_with_trace_and_descriptor(void **state)
{
    struct world *w = *state;
    int fd = open("/dev/null", O_RDONLY);
    ask_once(w, fd);
    close(fd);
    spin(w);
    assert_int_equal(w->replies, 1);
    assert_string_equal(w->seen, "alice");
    assert_int_equal(w->trace, 77);
    assert_true(w->got_fd);
}

static void test_deadline_answers_null_and_a_late_reply_is_dropped(void **state)
{
    struct world *w = *state;
    w->answer = false;
    ask_once(w, -1);
    spin(w);
    loop_advance(w->loop, 1001);
    assert_int_equal(w->nulls, 1);
    struct tell tell = {0};
    ipc_reply(w->server, 1, 0, tell_type, &tell, -1);
    spin(w);
    assert_int_equal(w->nulls + w->replies, 1);
    assert_non_null(w->client);
}

static void test_dead_peer_fails_pending_calls(void **state)
{
    struct world *w = *state;
    w->answer = false;
    ask_once(w, -1);
    ask_once(w, -1);
    spin(w);
    ipc_free(w->server);
    w->server = NULL;
    spin(w);
    assert_int_equal(w->nulls, 2);
    assert_int_equal(w->client_closed, 1);
}

static void test_message_over_its_limit_fails_without_being_sent(void **state)
{
    struct world *w = *state;
    struct ask ask = {.name = SLICE_LIT("a name of more than sixteen bytes")};
    log_setup("test", LOG_ERROR + 1);
    ipc_call(w->client, ask_type, 0, &ask, -1, on_reply, w);
    assert_int_equal(w->nulls, 0); /* never before ipc_call returns */
    loop_advance(w->loop, 1);
    assert_int_equal(w->nulls, 1);
    assert_string_equal(w->seen, "");
}

static void test_one_way_messages_arrive(void **state)
{
    struct world *w = *state;
    struct news news = {9};
    assert_int_equal(ipc_send(w->server, news_type, 0, &news, -1), OK);
    spin(w);
    assert_int_equal(w->news, 1);
}

static void test_messages_of_one_turn_share_a_record(void **state)
{
    struct world *w = *state;
    ipc_pack(w->client);
    ipc_pack(w->server);
    spin(w);
    for (int i = 0; i < 500; i++)
        ask_once(w, -1);
    int fd = open("/dev/null", O_RDONLY);
    ask_once(w, fd);
    close(fd);
    ask_once(w, -1);
    spin(w); /* more messages than the kernel would hold as records */
    assert_int_equal(w->replies, 502);
}

static void test_a_descriptor_with_two_messages_is_refused(void **state)
{
    struct world *w = *state;
    struct buf b;
    log_setup("test", LOG_ERROR + 1);
    buf_init(&b, IPC_MAX_RECORD);
    assert_int_equal(ipc_seed(&test_proto, ask_type, &b), OK);
    assert_int_equal(ipc_seed(&test_proto, ask_type, &b), OK);
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {b.data, b.len};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &w->client_fd, sizeof(int));
    spin(w);
    assert_true(sendmsg(w->client_fd, &msg, 0) > 0);
    spin(w);
    assert_int_equal(w->server_closed, 1);
    assert_int_equal(w->close_code, ERR_SYNTAX);
    buf_clear(&b);
}

/* Behind the channel's back: what a captured client could send. */
static void write_raw(struct world *w, const struct buf *b)
{
    spin(w);
    assert_int_equal(send(w->client_fd, b->data, b->len, 0), (ssize_t)b->len);
    spin(w);
}

static void test_wrong_sender_costs_the_peer_its_channel(void **state)
{
    struct world *w = *state;
    struct buf b;
    struct news news = {1};
    log_setup("test", LOG_ERROR + 1);
    buf_init(&b, IPC_MAX_RECORD);
    assert_int_equal(ipc_encode(&test_proto, news_type, 0, 0, &news, &b), OK);
    write_raw(w, &b);
    assert_int_equal(w->server_closed, 1);
    assert_int_equal(w->close_code, ERR_DENIED);
    buf_clear(&b);
}

static void test_every_truncation_and_trailing_byte_is_refused(void **state)
{
    (void)state;
    struct buf b;
    struct ipc_in in;
    char value[256];
    buf_init(&b, IPC_MAX_RECORD);
    for (unsigned type = 1; type <= 3; type++) {
        enum ipc_side side = type == 1 ? IPC_SERVER : IPC_CLIENT;
        buf_reset(&b);
        assert_int_equal(ipc_seed(&test_proto, type, &b), OK);
        assert_int_equal(ipc_decode(&test_proto, side, buf_slice(&b), false, &in, value, NULL), OK);
        for (size_t n = 0; n < buf_len(&b); n++)
            assert_int_not_equal(ipc_decode(&test_proto, side, slice_first(buf_slice(&b), n), false,
                                     &in, value, NULL),
                OK);
        buf_putc(&b, 'x');
        assert_int_not_equal(
            ipc_decode(&test_proto, side, buf_slice(&b), false, &in, value, NULL), OK);
    }
    buf_clear(&b);
}

static void test_another_builds_table_is_named_and_refused(void **state)
{
    (void)state;
    struct buf b;
    struct ipc_in in;
    struct error err;
    char value[256];
    buf_init(&b, IPC_MAX_RECORD);
    assert_int_equal(ipc_encode(&other_proto, 0, 0, 0, NULL, &b), OK);
    assert_int_equal(
        ipc_decode(&test_proto, IPC_SERVER, buf_slice(&b), false, &in, value, &err), ERR_VERSION);
    assert_non_null(strstr(err.text, "another build"));
    buf_clear(&b);
}

static void test_secrets_print_masked(void **state)
{
    (void)state;
    struct buf b;
    struct ask ask = {.name = SLICE_LIT("bob smith"), .password = SLICE_LIT("hunter2")};
    struct ipc_in in = {.type = ask_type, .id = 1, .msg = &ask, .fd = -1};
    buf_init(&b, 4096);
    ipc_print(&test_proto, &in, &b);
    buf_putc(&b, '\0');
    assert_null(strstr(b.data, "hunter2"));
    assert_non_null(strstr(b.data, "name=\"bob smith\" password=***"));
    buf_clear(&b);
}

static void test_blocking_end_talks_to_the_event_driven_end(void **state)
{
    struct world *w = *state;
    int pair[2];
    struct ipc_sync sync;
    struct ipc_in in;
    struct error err;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    struct ipc *server = ipc_new(w->loop, pair[1], &test_proto, IPC_SERVER, &server_ops, w);
    assert_int_equal(ipc_sync_open(&sync, pair[0], &test_proto, IPC_CLIENT, &err), OK);
    struct ask ask = {.name = SLICE_LIT("carol")};
    assert_int_equal(ipc_sync_send(&sync, ask_type, 5, 9, &ask, -1, &err), OK);
    spin(w);
    assert_int_equal(ipc_sync_receive(&sync, 1000, &in, &err), OK);
    assert_int_equal(in.type, tell_type);
    assert_int_equal(in.id, 9);
    assert_int_equal(ipc_sync_receive(&sync, 1, &in, &err), ERR_TIMEOUT);
    ipc_sync_close(&sync);
    ipc_free(server);
}

#define IPC_TEST(f) cmocka_unit_test_setup_teardown(f, make, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IPC_TEST(test_call_is_answered_with_trace_and_descriptor),
        IPC_TEST(test_deadline_answers_null_and_a_late_reply_is_dropped),
        IPC_TEST(test_dead_peer_fails_pending_calls),
        IPC_TEST(test_message_over_its_limit_fails_without_being_sent),
        IPC_TEST(test_one_way_messages_arrive),
        IPC_TEST(test_messages_of_one_turn_share_a_record),
        IPC_TEST(test_a_descriptor_with_two_messages_is_refused),
        IPC_TEST(test_wrong_sender_costs_the_peer_its_channel),
        cmocka_unit_test(test_every_truncation_and_trailing_byte_is_refused),
        cmocka_unit_test(test_another_builds_table_is_named_and_refused),
        cmocka_unit_test(test_secrets_print_masked),
        IPC_TEST(test_blocking_end_talks_to_the_event_driven_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
