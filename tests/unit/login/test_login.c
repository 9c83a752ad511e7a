/* Whole dialogs with the login fronts: a client on a socket pair, an authd and a spawner of ours.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "imapd/login/imap_login.h"
#include "libmail/loginfront_parts.h"
#include "libmail/proto/auth.h"
#include "libmail/proto/spawn.h"
#include "pop3d/login/pop3_login.h"

#include <cmocka.h>

#define TICKET "0123456789abcdef0123456789abcdef"
/* "\0alice\0secret", "\0alice\0wrong", "alice", "secret" */
#define PLAIN_GOOD "AGFsaWNlAHNlY3JldA=="
#define PLAIN_WRONG "AGFsaWNlAHdyb25n"

struct rig {
    struct loop *loop;
    struct daemon daemon;
    struct peer auth, spawn;
    struct ipc *authd, *spawner;
    int client; /* our end */
    struct buf seen;
    /* what the fakes saw and do */
    unsigned logins, starts;
    char user[64], password[64], authzid[64], service[16], tag[64];
    struct buf input;
    bool tls, mute, no_session;
    int code; /* for a right password */
    int session;
    SSL_CTX *ssl_ctx;
    SSL *ssl;
};

static void on_auth(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct rig *r = arg;
    const struct auth_login *m = in->msg;
    r->logins++;
    assert_true(slice_to_cstr(m->user, r->user, sizeof(r->user)));
    assert_true(slice_to_cstr(m->password, r->password, sizeof(r->password)));
    assert_true(slice_to_cstr(m->authzid, r->authzid, sizeof(r->authzid)));
    assert_true(slice_to_cstr(m->service, r->service, sizeof(r->service)));
    if (r->mute)
        return;
    bool good = strcmp(r->user, "alice") == 0 && strcmp(r->password, "secret") == 0;
    struct auth_verdict v = {.code = good ? (uint32_t)r->code : AUTH_FAILED,
        .user = SLICE_LIT("alice@example.test"),
        .ticket = good ? SLICE_LIT(TICKET) : SLICE_LIT("")};
    ipc_reply(ipc, in->id, in->trace, auth_verdict_type, &v, -1);
}

static void on_spawn(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct rig *r = arg;
    const struct spawn_start *m = in->msg;
    r->starts++;
    assert_true(slice_is(m->ticket, TICKET));
    assert_true(slice_to_cstr(m->tag, r->tag, sizeof(r->tag)));
    assert_true(in->trace != 0);
    buf_put(&r->input, m->input);
    r->tls = m->tls;
    r->session = in->fd;
    in->fd = -1;
    struct spawn_started s = {.code = r->no_session ? ERR_TEMP : OK, .pid = 77};
    if (r->no_session)
        fd_close(&r->session);
    ipc_reply(ipc, in->id, in->trace, spawn_started_type, &s, -1);
}

static const struct ipc_ops authd_ops = {on_auth, NULL}, spawner_ops = {on_spawn, NULL};
static const struct ipc_ops no_ops = {NULL, NULL};

static void wire(struct rig *r, struct peer *p, enum conversation conv,
    const struct ipc_proto *proto, const struct ipc_ops *ops, struct ipc **server)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    *p = (struct peer){.daemon = &r->daemon, .conv = conv, .side = IPC_CLIENT, .fd = -1};
    p->ipc = ipc_new(r->loop, fds[0], proto, IPC_CLIENT, &no_ops, p);
    *server = ipc_new(r->loop, fds[1], proto, IPC_SERVER, ops, r);
    list_append(&r->daemon.peers, &p->link);
}

static struct rig *rig_new(const struct login_protocol *protocol, const char *listen)
{
    struct rig *r = NEW(struct rig);
    struct error err = {0};
    char conf[1024];
    snprintf(conf, sizeof(conf), "hostname mx.example.test\nlisten a { on *:1; protocol %s; %s }\n",
        protocol->service, listen);
    r->loop = loop_new_fake(1000000);
    r->daemon.loop = r->loop;
    r->code = AUTH_OK;
    r->session = r->client = -1;
    buf_init(&r->seen, 1 << 24);
    buf_init(&r->input, 1 << 16);
    list_init(&r->daemon.peers);
    r->daemon.conf = conf_parse("test", slice_of(conf), &conf_root_schema, NULL, &err);
    assert_string_equal(err.text, "");
    wire(r, &r->auth, CONV_AUTH, &auth_proto, &authd_ops, &r->authd);
    wire(r, &r->spawn, CONV_SPAWN, &spawn_proto, &spawner_ops, &r->spawner);
    assert_int_equal(login_front_configure(&r->daemon, protocol, &err), OK);
    return r;
}

static struct login_front *front(struct rig *r)
{
    return r->daemon.data;
}

static void rig_free(struct rig *r)
{
    login_front_free(front(r));
    for (int i = 0; i < 20; i++)
        loop_poll(r->loop);
    ipc_free(r->auth.ipc);
    ipc_free(r->spawn.ipc);
    ipc_free(r->authd);
    ipc_free(r->spawner);
    SSL_free(r->ssl);
    SSL_CTX_free(r->ssl_ctx);
    conf_free(r->daemon.conf);
    fd_close(&r->client);
    fd_close(&r->session);
    buf_clear(&r->seen);
    buf_clear(&r->input);
    loop_free(r->loop);
    free(r);
}

static void turn(struct rig *r)
{
    for (int i = 0; i < 20; i++)
        loop_poll(r->loop);
}

static void dial(struct rig *r, const char *from)
{
    int fds[2];
    fd_close(&r->client);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    r->client = fds[1];
    login_front_serve(front(r), fds[0], from, "a");
    turn(r);
}

/* Everything there is to read, as a C string. */
static const char *heard(struct rig *r)
{
    char chunk[4096];
    ssize_t n;
    buf_reset(&r->seen);
    turn(r);
    while ((n = read(r->client, chunk, sizeof(chunk))) > 0) {
        buf_put(&r->seen, slice_from(chunk, (size_t)n));
        turn(r);
    }
    if (n == 0)
        buf_puts(&r->seen, "<eof>");
    buf_putc(&r->seen, '\0');
    return buf_slice(&r->seen).p;
}

static const char *say(struct rig *r, const char *text)
{
    assert_int_equal(write(r->client, text, strlen(text)), strlen(text));
    return heard(r);
}

static struct rig *imap(const char *listen)
{
    struct rig *r = rig_new(&imap_login_protocol, listen);
    dial(r, "127.0.0.1");
    return r;
}

static struct rig *pop3(const char *listen)
{
    struct rig *r = rig_new(&pop3_login_protocol, listen);
    dial(r, "127.0.0.1");
    return r;
}

#define assert_starts(text, prefix) assert_memory_equal((text), (prefix), strlen(prefix))

/* --- IMAP ------------------------------------------------------------------------------------ */

static void test_imap_greets_with_its_capabilities(void **state)
{
    (void)state;
    struct rig *r = imap("");
    assert_string_equal(heard(r),
        "* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN] "
        "mx.example.test ready\r\n");
    rig_free(r);
}

static void test_imap_simple_commands_in_one_batch(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    const char *got = say(r, "a NOOP\r\nb ID NIL\r\nc CAPABILITY\r\nd NOOP x\r\ne LOGOUT\r\n");
    assert_string_equal(got, "a OK Done\r\n* ID (\"name\" \"Veredus\")\r\nb OK Done\r\n"
                             "* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN\r\n"
                             "c OK Done\r\nd BAD This command takes no arguments\r\n"
                             "* BYE Good bye\r\ne OK Done\r\n<eof>");
    rig_free(r);
}

static void test_imap_login_hands_over_descriptor_tag_and_unread_input(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    assert_string_equal(say(r, "a1 LOGIN alice secret\r\na2 SELECT INBOX\r\n"), "");
    assert_int_equal(r->starts, 1);
    assert_string_equal(r->tag, "a1");
    assert_string_equal(r->service, "imap");
    assert_true(slice_is(buf_slice(&r->input), "a2 SELECT INBOX\r\n"));
    assert_false(r->tls);
    assert_int_equal(write(r->session, "a1 OK", 5), 5);
    fd_close(&r->session);
    assert_string_equal(heard(r), "a1 OK<eof>");
    assert_int_equal(login_front_sessions(&r->daemon), 0);
    rig_free(r);
}

static void test_imap_login_takes_quoted_strings_and_literals(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    r->code = AUTH_TEMPORARY;
    say(r, "a LOGIN \"a\\\"l\\\\ice\" \"sec ret\"\r\n");
    assert_string_equal(r->user, "a\"l\\ice");
    assert_string_equal(r->password, "sec ret");
    assert_string_equal(say(r, "b LOGIN {5}\r\n"), "+ go on\r\n");
    assert_string_equal(say(r, "alice {5}\r\n"), "+ go on\r\n");
    assert_starts(say(r, "se\r\nt\r\n"), "b NO [AUTHENTICATIONFAILED]");
    assert_string_equal(r->password, "se\r\nt");
    assert_starts(say(r, "c LOGIN {5+}\r\nalice {6+}\r\nsecret\r\n"), "c NO [UNAVAILABLE]");
    assert_string_equal(r->password, "secret");
    rig_free(r);
}

static void test_imap_login_with_wrong_grammar_is_bad_and_asks_nobody(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    assert_starts(say(r, "a LOGIN alice\r\n"), "a BAD");
    assert_starts(say(r, "a LOGIN \"alice secret\r\n"), "a BAD");
    assert_starts(say(r, "a LOGIN alice secret more\r\n"), "a BAD");
    assert_starts(say(r, "a LOGIN \"\" secret\r\n"), "a BAD");
    assert_starts(say(r, "NOOP\r\n"), "NOOP BAD");
    assert_starts(say(r, "\r\n"), "* BAD");
    assert_starts(say(r, "a( NOOP\r\n"), "* BAD");
    assert_int_equal(r->logins, 0);
    rig_free(r);
}

static void test_imap_authenticate_plain_with_and_without_initial_response(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    assert_string_equal(say(r, "a AUTHENTICATE PLAIN\r\n"), "+ \r\n");
    assert_starts(say(r, PLAIN_WRONG "\r\n"), "a NO");
    assert_string_equal(r->password, "wrong");
    assert_string_equal(say(r, "b AUTHENTICATE PLAIN " PLAIN_GOOD "\r\n"), "");
    assert_int_equal(r->starts, 1);
    assert_string_equal(r->tag, "b");
    rig_free(r);
}

static void test_imap_authenticate_login_asks_twice(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    assert_string_equal(say(r, "a AUTHENTICATE LOGIN\r\n"), "+ VXNlcm5hbWU6\r\n");
    assert_string_equal(say(r, "YWxpY2U=\r\n"), "+ UGFzc3dvcmQ6\r\n");
    assert_string_equal(say(r, "c2VjcmV0\r\n"), "");
    assert_int_equal(r->starts, 1);
    rig_free(r);
}

static void test_imap_authenticate_can_be_cancelled_or_be_nonsense(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    say(r, "a AUTHENTICATE PLAIN\r\n");
    assert_starts(say(r, "*\r\n"), "a BAD");
    say(r, "b AUTHENTICATE PLAIN\r\n");
    assert_starts(say(r, "!!!!\r\n"), "b BAD");
    say(r, "c AUTHENTICATE PLAIN\r\n");
    assert_starts(say(r, "YWxpY2U=\r\n"), "c BAD");
    assert_starts(say(r, "d AUTHENTICATE CRAM-MD5\r\n"), "d NO [CANNOT]");
    assert_starts(say(r, "e NOOP\r\n"), "e OK");
    assert_int_equal(r->logins, 0);
    rig_free(r);
}

static void test_imap_password_without_tls_is_refused_unasked(void **state)
{
    (void)state;
    struct rig *r = rig_new(&imap_login_protocol, "plaintext-auth loopback");
    dial(r, "192.0.2.1");
    assert_non_null(strstr(heard(r), "LOGINDISABLED]"));
    assert_starts(say(r, "a LOGIN alice secret\r\n"), "a NO [PRIVACYREQUIRED]");
    assert_starts(say(r, "a AUTHENTICATE PLAIN " PLAIN_GOOD "\r\n"), "a NO [PRIVACYREQUIRED]");
    assert_int_equal(r->logins, 0);
    rig_free(r);
    r = imap("plaintext-auth never");
    assert_non_null(strstr(heard(r), "LOGINDISABLED]"));
    rig_free(r);
    r = imap("plaintext-auth always; tls required");
    assert_non_null(strstr(heard(r), "LOGINDISABLED]"));
    rig_free(r);
}

static void test_imap_endless_command_ends_the_connection(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    char line[9000];
    memset(line, 'a', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    assert_string_equal(say(r, line), "* BYE The command is too long\r\n<eof>");
    dial(r, "127.0.0.1");
    heard(r);
    assert_string_equal(say(r, "a LOGIN {9000}\r\n"), "* BYE The command is too long\r\n<eof>");
    assert_int_equal(login_front_sessions(&r->daemon), 0);
    rig_free(r);
}

static void test_imap_starttls_is_bad_without_a_certificate(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    assert_starts(say(r, "a STARTTLS\r\n"), "a BAD");
    rig_free(r);
}

/* --- failures -------------------------------------------------------------------------------- */

static void test_failed_logins_from_afar_wait_longer_each_time(void **state)
{
    (void)state;
    struct rig *r = rig_new(&imap_login_protocol, "plaintext-auth always");
    dial(r, "192.0.2.1");
    heard(r);
    for (int64_t ms = 1000; ms <= 4000; ms *= 2) {
        assert_string_equal(say(r, "a LOGIN alice wrong\r\n"), "");
        loop_advance(r->loop, ms - 1);
        assert_string_equal(heard(r), "");
        loop_advance(r->loop, 1);
        assert_starts(heard(r), "a NO [AUTHENTICATIONFAILED]");
    }
    rig_free(r);
}

static void test_an_attacked_account_is_slow_from_every_address(void **state)
{
    (void)state;
    struct rig *r = rig_new(&pop3_login_protocol, "plaintext-auth always");
    dial(r, "192.0.2.1");
    heard(r);
    say(r, "USER alice\r\nPASS wrong\r\n");
    dial(r, "192.0.2.2");
    heard(r);
    say(r, "USER alice\r\nPASS wrong\r\n");
    loop_advance(r->loop, 1000);
    assert_string_equal(heard(r), "");
    loop_advance(r->loop, 1000);
    assert_starts(heard(r), "-ERR [AUTH]");
    rig_free(r);
}

static void test_loopback_never_waits(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    for (int i = 0; i < 5; i++)
        assert_starts(say(r, "a LOGIN alice wrong\r\n"), "a NO");
    rig_free(r);
}

static void test_too_many_errors_end_the_connection(void **state)
{
    (void)state;
    struct rig *r = imap("max-errors 3");
    heard(r);
    assert_starts(say(r, "a LOGIN alice wrong\r\n"), "a NO");
    assert_starts(say(r, "a FROB\r\n"), "a BAD");
    assert_non_null(strstr(say(r, "a LOGIN alice wrong\r\n"), "* BYE Too many errors\r\n<eof>"));
    rig_free(r);
}

static void test_authd_gone_is_temporary(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    r->mute = true;
    say(r, "a LOGIN alice secret\r\n");
    loop_advance(r->loop, 31000);
    assert_starts(heard(r), "a NO [UNAVAILABLE]");
    rig_free(r);
}

static void test_a_client_that_leaves_during_the_check_costs_nothing(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    r->mute = true;
    say(r, "a LOGIN alice secret\r\n");
    fd_close(&r->client);
    loop_advance(r->loop, 31000);
    turn(r);
    assert_int_equal(login_front_sessions(&r->daemon), 0);
    rig_free(r);
}

static void test_no_session_is_told_and_ends_the_connection(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    r->no_session = true;
    const char *got = say(r, "a LOGIN alice secret\r\n");
    assert_starts(got, "a NO [UNAVAILABLE]");
    assert_non_null(strstr(got, "<eof>"));
    rig_free(r);
}

static void test_connections_of_one_address_are_limited(void **state)
{
    (void)state;
    struct rig *r = rig_new(&pop3_login_protocol, "");
    int held[100];
    for (size_t i = 0; i < ARRAY_LEN(held); i++) {
        dial(r, "192.0.2.1");
        held[i] = r->client;
        r->client = -1;
    }
    dial(r, "192.0.2.1");
    assert_starts(heard(r), "-ERR [SYS/TEMP] Too many connections");
    dial(r, "192.0.2.2");
    assert_starts(heard(r), "+OK");
    close(held[0]);
    turn(r);
    dial(r, "192.0.2.1");
    assert_starts(heard(r), "+OK");
    for (size_t i = 1; i < ARRAY_LEN(held); i++)
        close(held[i]);
    rig_free(r);
}

static void test_a_login_must_be_over_in_time_trickling_or_not(void **state)
{
    (void)state;
    struct rig *r = imap("timeout 60s");
    heard(r);
    loop_advance(r->loop, 30000);
    assert_string_equal(say(r, "a NO"), "");
    loop_advance(r->loop, 29999);
    assert_string_equal(say(r, "OP\r\n"), "a OK Done\r\n");
    loop_advance(r->loop, 1);
    assert_string_equal(heard(r), "* BYE Time to log in is over\r\n<eof>");
    rig_free(r);
}

static void test_draining_sends_away_who_has_not_logged_in(void **state)
{
    (void)state;
    struct rig *r = imap("");
    heard(r);
    r->daemon.draining = true;
    login_front_drain(&r->daemon);
    assert_starts(heard(r), "* BYE [UNAVAILABLE]");
    assert_int_equal(login_front_sessions(&r->daemon), 0);
    rig_free(r);
}

/* --- POP3 ------------------------------------------------------------------------------------ */

static void test_pop3_user_and_pass(void **state)
{
    (void)state;
    struct rig *r = pop3("");
    assert_string_equal(heard(r), "+OK mx.example.test ready\r\n");
    assert_starts(say(r, "PASS secret\r\n"), "-ERR");
    assert_starts(say(r, "USER alice\r\n"), "+OK");
    assert_starts(say(r, "PASS two words \r\n"), "-ERR [AUTH]");
    assert_string_equal(r->password, "two words ");
    assert_starts(say(r, "PASS secret\r\n"), "-ERR USER");
    say(r, "user alice\r\npass secret\r\nSTAT\r\n");
    assert_int_equal(r->starts, 1);
    assert_string_equal(r->service, "pop3");
    assert_true(slice_is(buf_slice(&r->input), "STAT\r\n"));
    rig_free(r);
}

static void test_pop3_a_user_name_is_one_word_and_never_holds_a_password(void **state)
{
    (void)state;
    struct rig *r = pop3("");
    heard(r);
    assert_starts(say(r, "USER alice\rPASS secret\r\n"), "-ERR USER");
    assert_starts(say(r, "USER alicePASS secret\r\n"), "-ERR USER");
    assert_starts(say(r, "USER alice\r\n"), "+OK");
    assert_starts(say(r, "USER two words\r\n"), "-ERR USER");
    assert_starts(say(r, "PASS secret\r\n"), "-ERR USER comes first");
    assert_int_equal(r->starts, 0);
    rig_free(r);
}

static void test_pop3_capa_follows_the_listener(void **state)
{
    (void)state;
    struct rig *r = pop3("");
    heard(r);
    assert_string_equal(say(r, "CAPA\r\n"),
        "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n"
        "PIPELINING\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n");
    dial(r, "192.0.2.1");
    heard(r);
    assert_null(strstr(say(r, "CAPA\r\n"), "USER"));
    assert_starts(say(r, "USER alice\r\n"), "-ERR");
    rig_free(r);
}

static void test_pop3_auth_plain_and_login(void **state)
{
    (void)state;
    struct rig *r = pop3("");
    heard(r);
    assert_string_equal(say(r, "AUTH\r\n"), "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n");
    assert_string_equal(say(r, "AUTH LOGIN\r\n"), "+ VXNlcm5hbWU6\r\n");
    assert_starts(say(r, "*\r\n"), "-ERR");
    assert_string_equal(say(r, "AUTH PLAIN\r\n"), "+ \r\n");
    say(r, PLAIN_GOOD "\r\n");
    assert_int_equal(r->starts, 1);
    rig_free(r);
}

static void test_pop3_quit_before_login(void **state)
{
    (void)state;
    struct rig *r = pop3("");
    heard(r);
    assert_string_equal(say(r, "NOOP\r\nSTAT\r\nQUIT\r\nNOOP\r\n"),
        "+OK\r\n-ERR Unknown command, or not before login\r\n+OK Good bye\r\n<eof>");
    rig_free(r);
}

/* --- TLS ------------------------------------------------------------------------------------- */

static EVP_PKEY *key;

static int sign(void *arg, const unsigned char key_id[32], const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len)
{
    (void)arg;
    (void)key_id;
    (void)padding;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestSignInit_ex(ctx, NULL, digest, NULL, NULL, key, NULL) == 1 &&
              EVP_DigestSign(ctx, sig, sig_len, (const unsigned char *)tbs.p, tbs.n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? OK : ERR_TEMP;
}

static void give_certificate(struct rig *r)
{
    struct error err = {0};
    key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    tls_set_signer(sign, NULL);
    front(r)->tls = tls_server_new(slice_from(text, (size_t)n), &err);
    assert_string_equal(err.text, "");
    BIO_free(bio);
    X509_free(cert);
}

static void shake(struct rig *r)
{
    r->ssl_ctx = SSL_CTX_new(TLS_client_method());
    r->ssl = SSL_new(r->ssl_ctx);
    SSL_set_fd(r->ssl, r->client);
    SSL_set_connect_state(r->ssl);
    int done = 0;
    for (int i = 0; i < 30 && done != 1; i++) {
        done = SSL_do_handshake(r->ssl);
        turn(r);
    }
    assert_int_equal(done, 1);
}

static const char *tls_heard(struct rig *r)
{
    char chunk[4096];
    int n;
    buf_reset(&r->seen);
    turn(r);
    while ((n = SSL_read(r->ssl, chunk, sizeof(chunk))) > 0) {
        buf_put(&r->seen, slice_from(chunk, (size_t)n));
        turn(r);
    }
    if (SSL_get_error(r->ssl, n) == SSL_ERROR_ZERO_RETURN)
        buf_puts(&r->seen, "<eof>");
    buf_putc(&r->seen, '\0');
    return buf_slice(&r->seen).p;
}

static const char *tls_say(struct rig *r, const char *text)
{
    assert_int_equal(SSL_write(r->ssl, text, (int)strlen(text)), (int)strlen(text));
    return tls_heard(r);
}

static struct rig *imap_tls(const char *from)
{
    struct rig *r = rig_new(&imap_login_protocol, "plaintext-auth never");
    give_certificate(r);
    dial(r, from);
    return r;
}

static void tls_free(struct rig *r)
{
    rig_free(r);
    EVP_PKEY_free(key);
    tls_set_signer(NULL, NULL);
}

static void test_starttls_forgets_what_was_sent_before_and_then_takes_passwords(void **state)
{
    (void)state;
    struct rig *r = imap_tls("192.0.2.1");
    assert_non_null(strstr(heard(r), "STARTTLS LOGINDISABLED]"));
    assert_string_equal(say(r, "a STARTTLS\r\nb LOGIN alice secret\r\n"), "a OK Begin TLS now\r\n");
    shake(r);
    assert_string_equal(tls_heard(r), "");
    assert_non_null(strstr(tls_say(r, "c CAPABILITY\r\n"), "ID AUTH=PLAIN AUTH=LOGIN\r\nc OK"));
    assert_starts(tls_say(r, "d STARTTLS\r\n"), "d BAD");
    assert_int_equal(r->logins, 0);
    tls_free(r);
}

static struct rig *logged_in_over_tls(void)
{
    struct rig *r = imap_tls("192.0.2.1");
    heard(r);
    say(r, "a STARTTLS\r\n");
    shake(r);
    assert_string_equal(tls_say(r, "b LOGIN alice secret\r\nc NOOP\r\n"), "");
    assert_int_equal(r->starts, 1);
    assert_true(r->tls);
    assert_true(slice_is(buf_slice(&r->input), "c NOOP\r\n"));
    return r;
}

static void test_a_tls_session_is_relayed_both_ways_until_it_ends(void **state)
{
    (void)state;
    struct rig *r = logged_in_over_tls();
    char got[64] = "";
    loop_advance(r->loop, 3600000); /* the time limit is for logins only */
    assert_int_equal(write(r->session, "b OK\r\n", 6), 6);
    assert_string_equal(tls_heard(r), "b OK\r\n");
    assert_string_equal(tls_say(r, "d NOOP\r\n"), "");
    assert_int_equal(read(r->session, got, sizeof(got)), 8);
    assert_string_equal(got, "d NOOP\r\n");
    assert_int_equal(write(r->session, "* BYE\r\n", 7), 7);
    fd_close(&r->session);
    assert_string_equal(tls_heard(r), "* BYE\r\n<eof>");
    assert_int_equal(login_front_sessions(&r->daemon), 0);
    tls_free(r);
}

static void test_a_relayed_client_that_leaves_gives_the_session_all_and_then_the_end(void **state)
{
    (void)state;
    struct rig *r = logged_in_over_tls();
    char got[64] = "";
    SSL_write(r->ssl, "d NOOP\r\n", 8);
    SSL_shutdown(r->ssl);
    fd_close(&r->client);
    turn(r);
    assert_int_equal(read(r->session, got, sizeof(got)), 8);
    turn(r);
    assert_int_equal(read(r->session, got, sizeof(got)), 0);
    turn(r);
    assert_int_equal(login_front_sessions(&r->daemon), 0);
    tls_free(r);
}

static void test_a_slow_client_holds_the_session_back_and_loses_nothing(void **state)
{
    (void)state;
    struct rig *r = logged_in_over_tls();
    char block[8192];
    size_t sent = 0, seen = 0;
    const size_t total = (size_t)4 << 20;
    memset(block, 'x', sizeof(block));
    /* The client reads nothing: the session must be stopped after a bounded amount. */
    for (int i = 0; i < 2000 && sent < total; i++) {
        ssize_t n = send(r->session, block, sizeof(block), MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        turn(r);
    }
    assert_true(sent < total / 2);
    while (seen < total) {
        ssize_t n = send(r->session, block, MIN(sizeof(block), total - sent), MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        turn(r);
        int got = SSL_read(r->ssl, block, sizeof(block));
        seen += got > 0 ? (size_t)got : 0;
        assert_true(got > 0 || seen < total);
    }
    assert_int_equal(seen, total);
    tls_free(r);
}

int main(void)
{
    log_setup("test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_imap_greets_with_its_capabilities),
        cmocka_unit_test(test_imap_simple_commands_in_one_batch),
        cmocka_unit_test(test_imap_login_hands_over_descriptor_tag_and_unread_input),
        cmocka_unit_test(test_imap_login_takes_quoted_strings_and_literals),
        cmocka_unit_test(test_imap_login_with_wrong_grammar_is_bad_and_asks_nobody),
        cmocka_unit_test(test_imap_authenticate_plain_with_and_without_initial_response),
        cmocka_unit_test(test_imap_authenticate_login_asks_twice),
        cmocka_unit_test(test_imap_authenticate_can_be_cancelled_or_be_nonsense),
        cmocka_unit_test(test_imap_password_without_tls_is_refused_unasked),
        cmocka_unit_test(test_imap_endless_command_ends_the_connection),
        cmocka_unit_test(test_imap_starttls_is_bad_without_a_certificate),
        cmocka_unit_test(test_failed_logins_from_afar_wait_longer_each_time),
        cmocka_unit_test(test_an_attacked_account_is_slow_from_every_address),
        cmocka_unit_test(test_loopback_never_waits),
        cmocka_unit_test(test_too_many_errors_end_the_connection),
        cmocka_unit_test(test_authd_gone_is_temporary),
        cmocka_unit_test(test_a_client_that_leaves_during_the_check_costs_nothing),
        cmocka_unit_test(test_no_session_is_told_and_ends_the_connection),
        cmocka_unit_test(test_connections_of_one_address_are_limited),
        cmocka_unit_test(test_a_login_must_be_over_in_time_trickling_or_not),
        cmocka_unit_test(test_draining_sends_away_who_has_not_logged_in),
        cmocka_unit_test(test_pop3_user_and_pass),
        cmocka_unit_test(test_pop3_a_user_name_is_one_word_and_never_holds_a_password),
        cmocka_unit_test(test_pop3_capa_follows_the_listener),
        cmocka_unit_test(test_pop3_auth_plain_and_login),
        cmocka_unit_test(test_pop3_quit_before_login),
        cmocka_unit_test(test_starttls_forgets_what_was_sent_before_and_then_takes_passwords),
        cmocka_unit_test(test_a_tls_session_is_relayed_both_ways_until_it_ends),
        cmocka_unit_test(test_a_relayed_client_that_leaves_gives_the_session_all_and_then_the_end),
        cmocka_unit_test(test_a_slow_client_holds_the_session_back_and_loses_nothing),
    };
    return cmocka_run_group_tests_name("login", tests, NULL, NULL);
}
