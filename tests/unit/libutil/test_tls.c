#include "libutil/loop.h"
#include "libutil/stream.h"
#include "libutil/tls.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A private key, its certificate as PEM, and a signer that works as keyd does. */
struct identity {
    EVP_PKEY *key;
    X509 *cert;
    struct buf pem;
    unsigned asked;
    char padding[16], digest[32];
    bool refuse;
};

static void make_identity(struct identity *id, const char *type, const char *detail)
{
    if (strcmp(type, "RSA") == 0)
        id->key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    else if (detail)
        id->key = EVP_PKEY_Q_keygen(NULL, NULL, type, detail);
    else
        id->key = EVP_PKEY_Q_keygen(NULL, NULL, type);
    assert_non_null(id->key);
    id->cert = X509_new();
    X509_set_version(id->cert, X509_VERSION_3);
    X509_gmtime_adj(X509_getm_notBefore(id->cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(id->cert), 3600);
    X509_NAME *name = X509_get_subject_name(id->cert);
    X509_NAME_add_entry_by_txt(
        name, "CN", MBSTRING_ASC, (const unsigned char *)"mx.example.test", -1, -1, 0);
    X509_set_issuer_name(id->cert, name);
    X509_set_pubkey(id->cert, id->key);
    assert_true(X509_sign(id->cert, id->key, detail || type[0] == 'R' ? EVP_sha256() : NULL) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, id->cert);
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    buf_init(&id->pem, 65536);
    buf_put(&id->pem, slice_from(text, (size_t)n));
    BIO_free(bio);
}

static void drop_identity(struct identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
    buf_clear(&id->pem);
}

static int sign(void *arg, const unsigned char key_id[32], const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len)
{
    struct identity *id = arg;
    (void)key_id;
    id->asked++;
    assert_true(slice_to_cstr(slice_of(padding), id->padding, sizeof(id->padding)));
    assert_true(slice_to_cstr(slice_of(digest), id->digest, sizeof(id->digest)));
    if (id->refuse)
        return ERR_TEMP;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *p = NULL;
    bool ok = EVP_DigestSignInit_ex(ctx, &p, *digest ? digest : NULL, NULL, NULL, id->key, NULL);
    if (ok && strcmp(padding, "pss") == 0)
        ok = EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(p, RSA_PSS_SALTLEN_DIGEST) == 1;
    ok = ok && EVP_DigestSign(ctx, sig, sig_len, (const unsigned char *)tbs.p, tbs.n) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? OK : ERR_TEMP;
}

/* A server stream on one end of a socket pair and a bare OpenSSL client on the other. */
struct pair {
    struct loop *loop;
    struct stream *s;
    struct tls_context *server;
    SSL_CTX *client_ctx;
    SSL *client;
    int peer;
    bool tls_up, starttls;
    unsigned closes;
    int close_code, tls_code;
    struct buf seen;
};

static void on_data(struct stream *s, void *arg)
{
    struct pair *p = arg;
    if (p->starttls && !stream_is_tls(s)) {
        buf_puts(stream_out(s), "220 go\r\n");
        stream_start_tls(s, p->server, NULL);
        return;
    }
    buf_put(&p->seen, buf_slice(stream_in(s)));
    buf_consume(stream_in(s), buf_len(stream_in(s)));
    buf_puts(stream_out(s), "hello");
    stream_flush(s);
}

static void on_tls(struct stream *s, const struct error *failed, void *arg)
{
    (void)s;
    struct pair *p = arg;
    p->tls_up = !failed;
    p->tls_code = failed ? failed->code : OK;
}

static void on_close(struct stream *s, const struct error *err, void *arg)
{
    (void)s;
    struct pair *p = arg;
    p->closes++;
    p->close_code = err->code;
}

static const struct stream_ops ops = {on_data, NULL, on_tls, on_close};

static void open_pair(struct pair *p, struct identity *id, int version)
{
    struct error err = {0};
    int fds[2];
    memset(p, 0, sizeof(*p));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    tls_set_signer(sign, id);
    p->server = tls_server_new(buf_slice(&id->pem), &err);
    assert_string_equal(err.text, "");
    assert_non_null(p->server);
    buf_init(&p->seen, 1 << 20);
    p->loop = loop_new_fake(0);
    p->s = stream_new(p->loop, fds[0], 4096, 4096, &ops, p);
    p->peer = fds[1];
    p->client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(p->client_ctx, version);
    p->client = SSL_new(p->client_ctx);
    SSL_set_fd(p->client, p->peer);
    SSL_set_tlsext_host_name(p->client, "mx.example.test");
    SSL_set_connect_state(p->client);
}

static void close_pair(struct pair *p)
{
    stream_free(p->s);
    loop_free(p->loop);
    SSL_free(p->client);
    SSL_CTX_free(p->client_ctx);
    tls_context_free(p->server);
    buf_clear(&p->seen);
    close(p->peer);
}

static bool shake(struct pair *p)
{
    int done = 0;
    for (int i = 0; i < 30 && !(done == 1 && p->tls_up); i++) {
        done = SSL_do_handshake(p->client);
        loop_poll(p->loop);
    }
    return done == 1 && p->tls_up;
}

static void handshake_case(const char *type, const char *detail, int version, const char *padding)
{
    struct identity id = {0};
    struct pair p;
    make_identity(&id, type, detail);
    open_pair(&p, &id, version);
    stream_start_tls(p.s, p.server, NULL);
    assert_true(shake(&p));
    assert_int_equal(id.asked, 1);
    assert_string_equal(id.padding, padding);
    assert_true(
        slice_is(stream_tls_version(p.s), version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2"));
    assert_true(slice_is(stream_tls_sni(p.s), "mx.example.test"));
    assert_int_equal(SSL_write(p.client, "ping", 4), 4);
    for (int i = 0; i < 5; i++)
        loop_poll(p.loop);
    assert_true(slice_is(buf_slice(&p.seen), "ping"));
    char got[8] = "";
    assert_int_equal(SSL_read(p.client, got, sizeof(got)), 5);
    assert_string_equal(got, "hello");
    close_pair(&p);
    drop_identity(&id);
}

static void test_rsa_tls13_is_signed_with_pss(void **state)
{
    (void)state;
    handshake_case("RSA", NULL, TLS1_3_VERSION, "pss");
}

static void test_rsa_tls12_handshake(void **state)
{
    (void)state;
    handshake_case("RSA", NULL, TLS1_2_VERSION, "pss");
}

static void test_p256_tls13_handshake(void **state)
{
    (void)state;
    handshake_case("EC", "P-256", TLS1_3_VERSION, "");
}

static void test_p256_tls12_handshake(void **state)
{
    (void)state;
    handshake_case("EC", "P-256", TLS1_2_VERSION, "");
}

static void test_p384_tls13_handshake(void **state)
{
    (void)state;
    handshake_case("EC", "P-384", TLS1_3_VERSION, "");
}

static void test_ed25519_tls13_handshake(void **state)
{
    (void)state;
    handshake_case("ED25519", NULL, TLS1_3_VERSION, "");
}

static void test_rsa_pkcs1_when_a_tls12_client_knows_no_pss(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "RSA", NULL);
    open_pair(&p, &id, TLS1_2_VERSION);
    SSL_set1_sigalgs_list(p.client, "RSA+SHA256");
    stream_start_tls(p.s, p.server, NULL);
    assert_true(shake(&p));
    assert_string_equal(id.padding, "pkcs1");
    assert_string_equal(id.digest, "SHA2-256");
    close_pair(&p);
    drop_identity(&id);
}

static void test_refused_signature_fails_the_handshake_and_closes(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "EC", "P-256");
    id.refuse = true;
    open_pair(&p, &id, TLS1_3_VERSION);
    stream_start_tls(p.s, p.server, NULL);
    assert_false(shake(&p));
    assert_int_equal(p.tls_code, ERR_IO);
    assert_int_equal(p.closes, 1);
    close_pair(&p);
    drop_identity(&id);
}

static void test_tls11_is_refused(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "RSA", NULL);
    open_pair(&p, &id, TLS1_1_VERSION);
    SSL_set_security_level(p.client, 0);
    stream_start_tls(p.s, p.server, NULL);
    assert_false(shake(&p));
    close_pair(&p);
    drop_identity(&id);
}

static void test_static_rsa_key_exchange_is_refused(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "RSA", NULL);
    open_pair(&p, &id, TLS1_2_VERSION);
    SSL_set_cipher_list(p.client, "AES128-GCM-SHA256");
    stream_start_tls(p.s, p.server, NULL);
    assert_false(shake(&p));
    close_pair(&p);
    drop_identity(&id);
}

static void test_ticket_resumption_needs_no_signature(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "EC", "P-256");
    open_pair(&p, &id, TLS1_2_VERSION);
    stream_start_tls(p.s, p.server, NULL);
    assert_true(shake(&p));
    SSL_SESSION *session = SSL_get1_session(p.client);
    SSL_set_shutdown(p.client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    stream_free(p.s);
    close(p.peer);
    SSL_free(p.client);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    p.peer = fds[1];
    p.tls_up = false;
    p.s = stream_new(p.loop, fds[0], 4096, 4096, &ops, &p);
    p.client = SSL_new(p.client_ctx);
    SSL_set_fd(p.client, p.peer);
    SSL_set_connect_state(p.client);
    SSL_set_session(p.client, session);
    stream_start_tls(p.s, p.server, NULL);
    assert_true(shake(&p));
    assert_int_equal(id.asked, 1);
    SSL_SESSION_free(session);
    close_pair(&p);
    drop_identity(&id);
}

static void test_starttls_discards_commands_sent_in_plain(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "EC", "P-256");
    open_pair(&p, &id, TLS1_3_VERSION);
    p.starttls = true;
    const char *injected = "STARTTLS\r\nMAIL FROM:<evil@example.test>\r\n";
    assert_int_equal(write(p.peer, injected, strlen(injected)), (ssize_t)strlen(injected));
    for (int i = 0; i < 3; i++)
        loop_poll(p.loop);
    char got[16] = "";
    assert_int_equal(read(p.peer, got, sizeof(got)), 8);
    assert_string_equal(got, "220 go\r\n");
    assert_true(shake(&p));
    assert_int_equal(SSL_write(p.client, "EHLO", 4), 4);
    for (int i = 0; i < 5; i++)
        loop_poll(p.loop);
    assert_true(slice_is(buf_slice(&p.seen), "EHLO"));
    close_pair(&p);
    drop_identity(&id);
}

static void test_more_than_max_in_under_tls_arrives_in_full(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    static char big[16000];
    memset(big, 'b', sizeof(big));
    make_identity(&id, "EC", "P-256");
    open_pair(&p, &id, TLS1_3_VERSION);
    stream_start_tls(p.s, p.server, NULL);
    assert_true(shake(&p));
    /* One record, four times what the stream may hold: nothing announces the later parts. */
    assert_int_equal(SSL_write(p.client, big, sizeof(big)), (int)sizeof(big));
    for (int i = 0; i < 20; i++)
        loop_poll(p.loop);
    assert_int_equal(buf_len(&p.seen), sizeof(big));
    close_pair(&p);
    drop_identity(&id);
}

static void test_close_notify_is_an_orderly_end(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "EC", "P-256");
    open_pair(&p, &id, TLS1_3_VERSION);
    stream_start_tls(p.s, p.server, NULL);
    assert_true(shake(&p));
    SSL_shutdown(p.client);
    for (int i = 0; i < 5; i++)
        loop_poll(p.loop);
    assert_int_equal(p.closes, 1);
    assert_int_equal(p.close_code, ERR_CLOSED);
    close_pair(&p);
    drop_identity(&id);
}

static void test_a_silent_client_in_the_handshake_times_out(void **state)
{
    (void)state;
    struct identity id = {0};
    struct pair p;
    make_identity(&id, "EC", "P-256");
    open_pair(&p, &id, TLS1_3_VERSION);
    stream_timeout(p.s, 10000);
    stream_start_tls(p.s, p.server, NULL);
    loop_poll(p.loop);
    loop_advance(p.loop, 10001);
    loop_poll(p.loop);
    assert_int_equal(p.closes, 1);
    assert_int_equal(p.close_code, ERR_TIMEOUT);
    close_pair(&p);
    drop_identity(&id);
}

/* Both ends as streams: the client context. */
static void client_case(bool with_ca, bool require, const char *name, bool up, bool verified)
{
    struct error err = {0};
    struct identity id = {0};
    struct pair server, client = {0};
    make_identity(&id, "EC", "P-256");
    open_pair(&server, &id, TLS1_3_VERSION);
    struct slice ca = with_ca ? buf_slice(&id.pem) : slice_of("");
    struct tls_context *t = tls_client_new(ca, require, &err);
    assert_non_null(t);
    buf_init(&client.seen, 4096);
    client.s = stream_new(server.loop, dup(server.peer), 4096, 4096, &ops, &client);
    stream_start_tls(server.s, server.server, NULL);
    stream_start_tls(client.s, t, name);
    for (int i = 0; i < 30; i++)
        loop_poll(server.loop);
    assert_int_equal(client.tls_up, up);
    assert_int_equal(client.closes, up ? 0 : 1);
    assert_int_equal(stream_tls_verified(client.s), verified);
    if (!up)
        assert_int_equal(client.tls_code, ERR_DENIED);
    stream_free(client.s);
    buf_clear(&client.seen);
    tls_context_free(t);
    close_pair(&server);
    drop_identity(&id);
}

static void test_opportunistic_client_goes_on_unverified(void **state)
{
    (void)state;
    client_case(false, false, "mx.example.test", true, false);
    client_case(true, false, "other.example.test", true, false);
}

static void test_client_with_authority_verifies_the_name(void **state)
{
    (void)state;
    client_case(true, false, "mx.example.test", true, true);
    client_case(true, true, "mx.example.test", true, true);
}

static void test_client_requiring_verification_refuses_another_name(void **state)
{
    (void)state;
    client_case(true, true, "other.example.test", false, false);
}

static void test_warm_up_of_both_kinds(void **state)
{
    (void)state;
    struct error err = {0};
    struct identity id = {0};
    make_identity(&id, "RSA", NULL);
    tls_set_signer(sign, &id);
    struct tls_context *server = tls_server_new(buf_slice(&id.pem), &err);
    assert_non_null(server);
    assert_int_equal(tls_warm_up(server, &err), OK);
    struct tls_context *client = tls_client_new(slice_of(""), false, &err);
    assert_non_null(client);
    assert_int_equal(tls_warm_up(client, &err), OK);
    assert_int_equal(id.asked, 0); /* keyd is not there yet */
    tls_context_free(server);
    tls_context_free(client);
    drop_identity(&id);
}

static void test_text_that_is_no_certificate_is_named(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(tls_server_new(slice_of("hello"), &err));
    assert_non_null(strstr(err.text, "no certificate in PEM form"));
    assert_null(tls_client_new(slice_of("hello"), false, &err));
    assert_int_equal(err.code, ERR_SYNTAX);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rsa_tls13_is_signed_with_pss),
        cmocka_unit_test(test_rsa_tls12_handshake),
        cmocka_unit_test(test_rsa_pkcs1_when_a_tls12_client_knows_no_pss),
        cmocka_unit_test(test_p256_tls13_handshake),
        cmocka_unit_test(test_p256_tls12_handshake),
        cmocka_unit_test(test_p384_tls13_handshake),
        cmocka_unit_test(test_ed25519_tls13_handshake),
        cmocka_unit_test(test_refused_signature_fails_the_handshake_and_closes),
        cmocka_unit_test(test_tls11_is_refused),
        cmocka_unit_test(test_static_rsa_key_exchange_is_refused),
        cmocka_unit_test(test_ticket_resumption_needs_no_signature),
        cmocka_unit_test(test_starttls_discards_commands_sent_in_plain),
        cmocka_unit_test(test_more_than_max_in_under_tls_arrives_in_full),
        cmocka_unit_test(test_close_notify_is_an_orderly_end),
        cmocka_unit_test(test_a_silent_client_in_the_handshake_times_out),
        cmocka_unit_test(test_opportunistic_client_goes_on_unverified),
        cmocka_unit_test(test_client_with_authority_verifies_the_name),
        cmocka_unit_test(test_client_requiring_verification_refuses_another_name),
        cmocka_unit_test(test_warm_up_of_both_kinds),
        cmocka_unit_test(test_text_that_is_no_certificate_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
