#include "libutil/keysign.h"
#include "libutil/proto/sign.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* keyd's end, answering in a thread of its own as another process would. */
struct fake_keyd {
    pthread_t thread;
    int fd;
    int64_t code;
    unsigned answers; /* then it hangs up */
};

static int offered = -1; /* what master has given */

int daemon_take_peer_fd(struct daemon *d, enum conversation conv)
{
    (void)d;
    assert_int_equal(conv, CONV_SIGN);
    int fd = offered;
    offered = -1;
    return fd;
}

static void *serve(void *arg)
{
    struct fake_keyd *k = arg;
    struct ipc_sync server;
    struct error err;
    struct ipc_in in;
    if (ipc_sync_open(&server, k->fd, &sign_proto, IPC_SERVER, &err) != OK)
        return NULL;
    while (k->answers-- && ipc_sync_receive(&server, 2000, &in, &err) == OK) {
        const struct sign_request *ask = in.msg;
        struct sign_result result = {.code = k->code, .signature = ask->tbs};
        if (ipc_sync_send(&server, sign_result_type, 0, in.id, &result, -1, &err) != OK)
            break;
    }
    ipc_sync_close(&server);
    return NULL;
}

static void start_keyd(struct fake_keyd *k, int64_t code, unsigned answers)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    *k = (struct fake_keyd){.fd = fds[0], .code = code, .answers = answers};
    offered = fds[1];
    assert_int_equal(pthread_create(&k->thread, NULL, serve, k), 0);
}

struct fixture {
    struct daemon daemon;
    struct keysign sign;
};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    log_setup("test", LOG_ERROR);
    f->daemon.loop = loop_new_fake(1000);
    keysign_install(&f->sign, &f->daemon);
    offered = -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    keysign_close(&f->sign);
    loop_free(f->daemon.loop);
    free(f);
    return 0;
}

static int sign(struct fixture *f, const char *text, char out[64])
{
    unsigned char id[32] = {1};
    size_t n = 63;
    int rc =
        keysign_sign(&f->sign, id, "SHA2-256", "pss", slice_of(text), (unsigned char *)out, &n);
    out[rc == OK ? n : 0] = '\0';
    return rc;
}

static void test_signature_comes_back(void **state)
{
    struct fixture *f = *state;
    struct fake_keyd k;
    char out[64];
    start_keyd(&k, OK, 2);
    assert_int_equal(sign(f, "one", out), OK);
    assert_string_equal(out, "one");
    assert_int_equal(sign(f, "two", out), OK);
    assert_string_equal(out, "two");
    pthread_join(k.thread, NULL);
}

static void test_without_a_channel_it_fails_at_once(void **state)
{
    struct fixture *f = *state;
    char out[64];
    assert_int_equal(sign(f, "x", out), ERR_TEMP);
}

static void test_refusal_is_an_error_and_the_channel_lives(void **state)
{
    struct fixture *f = *state;
    struct fake_keyd k;
    char out[64];
    start_keyd(&k, ERR_DENIED, 2);
    assert_int_equal(sign(f, "x", out), ERR_DENIED);
    assert_int_equal(sign(f, "x", out), ERR_DENIED);
    pthread_join(k.thread, NULL);
}

static void test_a_signature_over_the_room_is_refused(void **state)
{
    struct fixture *f = *state;
    struct fake_keyd k;
    char out[64], text[80];
    memset(text, 'a', sizeof(text) - 1);
    text[79] = '\0';
    start_keyd(&k, OK, 1);
    assert_int_equal(sign(f, text, out), ERR_LIMIT);
    pthread_join(k.thread, NULL);
}

static void test_restarted_keyd_is_taken_up_with_its_new_channel(void **state)
{
    struct fixture *f = *state;
    struct fake_keyd first, second;
    char out[64];
    start_keyd(&first, OK, 1);
    assert_int_equal(sign(f, "one", out), OK);
    pthread_join(first.thread, NULL);
    assert_int_not_equal(sign(f, "lost", out), OK);
    start_keyd(&second, OK, 1);
    assert_int_equal(sign(f, "two", out), OK);
    pthread_join(second.thread, NULL);
}

static void test_a_silent_keyd_is_left_alone_for_a_while(void **state)
{
    struct fixture *f = *state;
    int fds[2];
    char out[64];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    offered = fds[1];
    assert_int_equal(sign(f, "", out) == OK, false);
    assert_true(f->sign.open);
    assert_true(f->sign.rest_until > loop_now(f->daemon.loop));
    int64_t before = loop_now(f->daemon.loop);
    assert_int_equal(sign(f, "x", out), ERR_TEMP);
    loop_advance(f->daemon.loop, KEYSIGN_REST_MS + 1);
    assert_true(loop_now(f->daemon.loop) > before);
    assert_true(f->sign.rest_until < loop_now(f->daemon.loop));
    close(fds[0]);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_signature_comes_back),
        TEST(test_without_a_channel_it_fails_at_once),
        TEST(test_refusal_is_an_error_and_the_channel_lives),
        TEST(test_a_signature_over_the_room_is_refused),
        TEST(test_restarted_keyd_is_taken_up_with_its_new_channel),
        TEST(test_a_silent_keyd_is_left_alone_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
