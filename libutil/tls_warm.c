/*
 * Warm-up: everything OpenSSL does lazily (fetching algorithms, seeding, tables) is made to
 * happen before the sandbox closes, by handshakes between two ends in memory.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "libutil/tls_private.h"

/* A throw-away P-256 certificate, signed by itself. */
static X509 *make_certificate(OSSL_LIB_CTX *libctx, EVP_PKEY *key)
{
    X509 *cert = X509_new_ex(libctx, "?provider=default");
    if (!cert)
        return NULL;
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(
        name, "CN", MBSTRING_ASC, (const unsigned char *)"warm-up", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    if (X509_sign(cert, key, EVP_sha256()) <= 0) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

static SSL_CTX *make_server(OSSL_LIB_CTX *libctx)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(libctx, "?provider=default", TLS_server_method());
    EVP_PKEY *key = EVP_PKEY_Q_keygen(libctx, "?provider=default", "EC", "P-256");
    X509 *cert = key ? make_certificate(libctx, key) : NULL;
    if (!ctx || !cert || SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key) != 1) {
        SSL_CTX_free(ctx);
        ctx = NULL;
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

/* Runs both ends against each other; true when both finished and a byte crossed. */
static bool shake_hands(SSL_CTX *server_ctx, SSL_CTX *client_ctx, int version)
{
    SSL *server = SSL_new(server_ctx), *client = SSL_new(client_ctx);
    BIO *a = NULL, *b = NULL;
    bool done = false;
    if (server && client && BIO_new_bio_pair(&a, 0, &b, 0) == 1) {
        SSL_set_bio(server, a, a);
        SSL_set_bio(client, b, b);
        SSL_set_accept_state(server);
        SSL_set_connect_state(client);
        SSL_set_max_proto_version(client, version);
        for (int i = 0; i < 20 && !done; i++) {
            int c = SSL_do_handshake(client), s = SSL_do_handshake(server);
            done = c == 1 && s == 1;
        }
        char byte = 'x';
        done = done && SSL_write(client, &byte, 1) == 1 && SSL_read(server, &byte, 1) == 1;
        SSL_shutdown(server);
    }
    SSL_free(server);
    SSL_free(client);
    ERR_clear_error();
    return done;
}

int tls_warm_up(struct tls_context *t, struct error *err)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
    SSL_CTX *server = make_server(t->libctx);
    SSL_CTX *client = t->server ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (client)
        SSL_CTX_set_verify(client, SSL_VERIFY_NONE, NULL);
    int rc = OK;
    tls_signer_rest(true); /* keyd is not connected yet */
    if (!server || (t->server && !client))
        rc = tls_error(err, ERR_TEMP, "cannot prepare the TLS warm-up");
    for (size_t i = 0; i < ARRAY_LEN(versions) && rc == OK; i++) {
        /* With the real server key the handshake ends at the signature: as far as it goes it
         * warms the real context, the throw-away one does the rest. */
        if (t->server)
            shake_hands(t->ctx, client, versions[i]);
        bool done = shake_hands(server, t->server ? client : t->ctx, versions[i]);
        if (!done && !t->require_verified)
            rc = error_set(err, ERR_TEMP, "the TLS warm-up handshake failed");
    }
    tls_signer_rest(false);
    SSL_CTX_free(server);
    SSL_CTX_free(client);
    return rc;
}
