/* authd's conversation, over a real channel on a real loop. */
#include "brokers/authd/server.h"
#include "libmail/proto/auth.h"
#include "libutil/loop.h"
#include "libutil/password.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64], path[96];
    struct daemon daemon;
    struct peer peer;
    struct ipc *client;
    bool answered, null;
    uint32_t code;
    char user[256], mail[1024], why[256];
    uint8_t ticket[32];
    size_t ticket_len;
    int64_t uid;
    uint64_t generation, marked; /* of the users table: of the last answer, of the mark */
    struct filemark mark;
};

static void on_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    server_message(arg, in);
}

/* lookupd's end: which state of the users table it was told of. */
static void on_mark(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    (void)ipc;
    assert_int_equal(in->type, auth_mark_type);
    const struct auth_mark *m = in->msg;
    filemark_clear(&f->mark);
    f->mark = FILEMARK_OF(m, in->fd);
    f->marked = m->generation;
    in->fd = -1;
}

static const struct ipc_ops server_ops = {on_message, NULL}, client_ops = {on_mark, NULL};

static void put_users(const struct fixture *f, const char *password)
{
    char hash[PASSWORD_HASH_MAX];
    struct error err;
    assert_int_equal(password_hash(password, hash, &err), OK);
    FILE *out = fopen(f->path, "w");
    fprintf(out, "alice@example.org: %s\noff@example.org: !%s\nbad@example.org: {X}\n", hash, hash);
    fclose(out);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    f->mark = FILEMARK_NONE;
    char text[512];
    int fds[2];
    struct error err = {0};
    memcpy(f->dir, "/tmp/veredus-authd-XXXXXX", 26);
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/users", f->dir);
    put_users(f, "secret");
    snprintf(text, sizeof(text),
        "hostname h\nusers text:%s\ndomain example.org { }\n"
        "auth { delay 100ms; max-failures 3; workers 1 }\n",
        f->path);
    log_setup("test_authd", LOG_ERROR);
    f->daemon.loop = loop_new();
    f->daemon.conf = conf_parse("t", slice_of(text), &conf_root_schema, NULL, &err);
    if (!f->daemon.conf || server_configure(&f->daemon, &err) || server_start(&f->daemon, &err))
        fail_msg("%s", err.text);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    f->peer = (struct peer){.daemon = &f->daemon, .conv = CONV_AUTH, .side = IPC_SERVER};
    f->peer.role = ROLE_IMAP_LOGIN;
    f->peer.ipc = ipc_new(f->daemon.loop, fds[0], &auth_proto, IPC_SERVER, &server_ops, &f->peer);
    f->client = ipc_new(f->daemon.loop, fds[1], &auth_proto, IPC_CLIENT, &client_ops, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ipc_free(f->client);
    ipc_free(f->peer.ipc);
    server_peer_down(&f->peer);
    filemark_clear(&f->mark);
    server_free(&f->daemon);
    conf_free(f->daemon.conf);
    loop_free(f->daemon.loop);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void copy(struct slice s, char *out, size_t size)
{
    assert_true(slice_to_cstr(s, out, size));
}

static void on_reply(struct ipc_in *in, void *arg)
{
    struct fixture *f = arg;
    f->answered = true;
    f->null = !in;
    if (in && in->type == auth_verdict_type) {
        const struct auth_verdict *v = in->msg;
        f->code = v->code;
        copy(v->user, f->user, sizeof(f->user));
        copy(v->why, f->why, sizeof(f->why));
        f->ticket_len = v->ticket.n;
        memcpy(f->ticket, v->ticket.p, MIN(v->ticket.n, sizeof(f->ticket)));
    } else if (in && in->type == auth_grant_type) {
        const struct auth_grant *g = in->msg;
        f->code = g->code;
        f->uid = g->uid;
        copy(g->mail, f->mail, sizeof(f->mail));
    } else if (in && in->type == auth_known_type) {
        const struct auth_known *k = in->msg;
        f->code = k->code;
        f->generation = k->generation;
        copy(k->mail, f->mail, sizeof(f->mail));
    }
}

static void ask(struct fixture *f, unsigned type, const void *msg)
{
    f->answered = false;
    ipc_call(f->client, type, 1, msg, -1, on_reply, f);
    for (int i = 0; i < 3000 && !f->answered; i++) {
        loop_poll(f->daemon.loop);
        usleep(1000);
    }
}

static uint32_t login(struct fixture *f, const char *user, const char *password, const char *client)
{
    struct auth_login msg = {.user = slice_of(user),
        .password = slice_of(password),
        .service = SLICE_LIT("imap"),
        .client = slice_of(client),
        .tls = true};
    f->peer.role = ROLE_IMAP_LOGIN;
    ask(f, auth_login_type, &msg);
    assert_true(f->answered && !f->null);
    return f->code;
}

static uint32_t redeem(struct fixture *f, const char *service)
{
    uint8_t copy_of[32];
    memcpy(copy_of, f->ticket, sizeof(copy_of));
    struct auth_redeem msg = {slice_from(copy_of, sizeof(copy_of)), slice_of(service)};
    f->peer.role = ROLE_IMAP_SESSION;
    ask(f, auth_redeem_type, &msg);
    assert_true(f->answered && !f->null);
    return f->code;
}

static void test_a_login_gives_a_ticket_that_a_session_redeems_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(login(f, "Alice@Example.org", "secret", "192.0.2.1"), AUTH_OK);
    assert_string_equal(f->user, "alice@example.org");
    assert_int_equal(f->ticket_len, 32);
    assert_int_equal(redeem(f, "imap"), AUTH_OK);
    assert_string_equal(f->mail, "example.org/alice");
    assert_int_equal(f->uid, -1);
    assert_int_equal(redeem(f, "imap"), AUTH_FAILED);
}

static void test_a_ticket_is_bound_to_its_service(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(login(f, "alice@example.org", "secret", "192.0.2.1"), AUTH_OK);
    assert_int_equal(redeem(f, "pop3"), AUTH_FAILED);
}

static void test_wrong_passwords_and_unknown_users_fail_alike(void **state)
{
    struct fixture *f = *state;
    int64_t before = loop_now(f->daemon.loop);
    assert_int_equal(login(f, "alice@example.org", "wrong", "192.0.2.1"), AUTH_FAILED);
    assert_true(loop_now(f->daemon.loop) - before >= 100);
    assert_int_equal(f->ticket_len, 0);
    assert_int_equal(login(f, "nobody@example.org", "secret", "192.0.2.1"), AUTH_FAILED);
    assert_int_equal(login(f, "", "secret", "192.0.2.2"), AUTH_FAILED);
    assert_int_equal(login(f, "alice@example.org", "", "192.0.2.3"), AUTH_FAILED);
}

static void test_a_disabled_user_is_told_so_only_with_the_right_password(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(login(f, "off@example.org", "wrong", "192.0.2.1"), AUTH_FAILED);
    assert_int_equal(login(f, "off@example.org", "secret", "192.0.2.1"), AUTH_DISABLED);
}

static void test_too_many_failures_close_the_address_but_not_loopback(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(login(f, "alice@example.org", "wrong", "192.0.2.9"), AUTH_FAILED);
    assert_int_equal(login(f, "alice@example.org", "secret", "192.0.2.9"), AUTH_FAILED);
    assert_non_null(strstr(f->why, "too many"));
    for (int i = 0; i < 4; i++)
        assert_int_equal(login(f, "alice@example.org", "wrong", "127.0.0.1"), AUTH_FAILED);
    assert_int_equal(login(f, "alice@example.org", "secret", "127.0.0.1"), AUTH_OK);
}

static void test_a_changed_password_is_refused_at_once_although_it_was_cached(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(login(f, "alice@example.org", "secret", "127.0.0.1"), AUTH_OK);
    assert_int_equal(login(f, "alice@example.org", "secret", "127.0.0.1"), AUTH_OK);
    put_users(f, "changed");
    assert_int_equal(login(f, "alice@example.org", "secret", "127.0.0.1"), AUTH_FAILED);
    assert_int_equal(login(f, "alice@example.org", "changed", "127.0.0.1"), AUTH_OK);
}

static void test_a_malformed_entry_or_table_is_temporary(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(login(f, "bad@example.org", "x", "127.0.0.1"), AUTH_TEMPORARY);
    FILE *out = fopen(f->path, "w");
    fputs("nonsense\n", out);
    fclose(out);
    assert_int_equal(login(f, "alice@example.org", "secret", "127.0.0.1"), AUTH_TEMPORARY);
}

static void test_existence_of_a_mailbox_is_told_to_lookupd_with_its_directory(void **state)
{
    struct fixture *f = *state;
    struct auth_user msg = {SLICE_LIT("alice@example.org")};
    f->peer.role = ROLE_LOOKUPD;
    ask(f, auth_user_type, &msg);
    assert_int_equal(f->code, AUTH_OK);
    assert_string_equal(f->mail, "example.org/alice");
    msg.user = SLICE_LIT("nobody@example.org");
    ask(f, auth_user_type, &msg);
    assert_int_equal(f->code, AUTH_FAILED);
    msg.user = SLICE_LIT("off@example.org");
    ask(f, auth_user_type, &msg);
    assert_int_equal(f->code, AUTH_OK);
}

static void test_answers_name_the_state_of_the_users_table_they_are_from(void **state)
{
    struct fixture *f = *state;
    struct auth_user msg = {SLICE_LIT("alice@example.org")};
    f->peer.role = ROLE_LOOKUPD;
    ask(f, auth_user_type, &msg);
    assert_true(f->generation && f->generation == f->marked && filemark_holds(&f->mark));
    uint64_t before = f->generation;
    put_users(f, "changed");
    assert_false(filemark_holds(&f->mark));
    ask(f, auth_user_type, &msg);
    assert_true(f->generation != before && f->generation == f->marked);
    assert_true(filemark_holds(&f->mark));
}

static void ignore(struct ipc_in *in, void *arg)
{
    *(bool *)arg = in != NULL;
}

/* I2: what came from a login front is not enough to become a session. */
static void test_a_login_front_cannot_redeem(void **state)
{
    struct fixture *f = *state;
    static bool got; /* told once more when the fixture is taken down */
    got = false;
    assert_int_equal(login(f, "alice@example.org", "secret", "127.0.0.1"), AUTH_OK);
    struct auth_redeem msg = {slice_from(f->ticket, 32), SLICE_LIT("imap")};
    f->peer.role = ROLE_IMAP_LOGIN;
    uint32_t id = ipc_call(f->client, auth_redeem_type, 1, &msg, -1, ignore, &got);
    for (int i = 0; i < 50; i++) {
        loop_poll(f->daemon.loop);
        usleep(1000);
    }
    ipc_cancel(f->client, id);
    assert_false(got);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_login_gives_a_ticket_that_a_session_redeems_once),
        TEST(test_a_ticket_is_bound_to_its_service),
        TEST(test_wrong_passwords_and_unknown_users_fail_alike),
        TEST(test_a_disabled_user_is_told_so_only_with_the_right_password),
        TEST(test_too_many_failures_close_the_address_but_not_loopback),
        TEST(test_a_changed_password_is_refused_at_once_although_it_was_cached),
        TEST(test_a_malformed_entry_or_table_is_temporary),
        TEST(test_existence_of_a_mailbox_is_told_to_lookupd_with_its_directory),
        TEST(test_answers_name_the_state_of_the_users_table_they_are_from),
        TEST(test_a_login_front_cannot_redeem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
