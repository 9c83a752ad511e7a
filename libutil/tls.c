#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509v3.h>

#include "libutil/tls_private.h"

/* One signer a process, as the header promises: OpenSSL's provider has no better place. */
static tls_sign_fn *signer;
static void *signer_arg;
static bool signer_rests;

void tls_set_signer(tls_sign_fn *fn, void *arg)
{
    signer = fn;
    signer_arg = arg;
}

int tls_sign(const unsigned char key_id[32], const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len)
{
    if (!signer || signer_rests)
        return ERR_TEMP;
    return signer(signer_arg, key_id, digest, padding, tbs, sig, sig_len);
}

void tls_signer_rest(bool rests)
{
    signer_rests = rests;
}

int tls_error(struct error *err, int code, const char *what)
{
    unsigned long first = ERR_peek_error();
    const char *reason = first ? ERR_reason_error_string(first) : NULL;
    ERR_clear_error();
    return error_set(err, code, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
}

/* TLS 1.2 and up, forward secrecy, authenticated encryption; no compression, no renegotiation. */
static bool set_policy(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Resumption is by ticket, sealed with a key of this process: no state is kept. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, "ECDHE+CHACHA20:ECDHE+AESGCM") == 1 &&
           SSL_CTX_set_ciphersuites(ctx,
               "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256") == 1 &&
           SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") == 1;
}

static bool open_providers(struct tls_context *t, struct error *err)
{
    t->libctx = OSSL_LIB_CTX_new();
    if (t->libctx)
        t->builtin = OSSL_PROVIDER_load(t->libctx, "default");
    if (!t->builtin) {
        tls_error(err, ERR_TEMP, "cannot load OpenSSL's default provider");
        return false;
    }
    t->keys = tls_keys_load(t->libctx, err);
    return t->keys != NULL;
}

static X509 *read_certificate(struct tls_context *t, BIO *bio)
{
    X509 *cert = X509_new_ex(t->libctx, "?provider=default");
    if (cert && !PEM_read_bio_X509(bio, &cert, NULL, NULL)) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

static int use_leaf(struct tls_context *t, X509 *leaf, struct error *err)
{
    EVP_PKEY *public_half = X509_get0_pubkey(leaf);
    if (!public_half)
        return tls_error(err, ERR_SYNTAX, "the certificate has no usable public key");
    EVP_PKEY *key = tls_keys_new(t->libctx, public_half, err);
    if (!key)
        return ERR_UNSUPPORTED;
    int rc = OK;
    if (SSL_CTX_use_certificate(t->ctx, leaf) != 1)
        rc = tls_error(err, ERR_SYNTAX, "cannot use the certificate");
    else if (SSL_CTX_use_PrivateKey(t->ctx, key) != 1)
        rc = tls_error(err, ERR_SYNTAX, "cannot use the certificate's key");
    EVP_PKEY_free(key);
    return rc;
}

static int use_chain(struct tls_context *t, struct slice pem, struct error *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)MIN(pem.n, (size_t)INT32_MAX));
    X509 *leaf = bio ? read_certificate(t, bio) : NULL;
    int rc;
    if (!leaf)
        rc = tls_error(err, ERR_SYNTAX, "no certificate in PEM form");
    else
        rc = use_leaf(t, leaf, err);
    X509_free(leaf);
    X509 *next;
    while (rc == OK && (next = read_certificate(t, bio))) {
        if (SSL_CTX_add1_chain_cert(t->ctx, next) != 1)
            rc = tls_error(err, ERR_SYNTAX, "cannot use the certificate chain");
        X509_free(next);
    }
    ERR_clear_error(); /* the end of the text is an error to PEM_read */
    BIO_free(bio);
    return rc;
}

struct tls_context *tls_server_new(struct slice chain_pem, struct error *err)
{
    struct tls_context *t = NEW(struct tls_context);
    t->server = true;
    if (!open_providers(t, err))
        goto fail;
    /* Both providers know RSA and EC: what is not our key is wanted from the default one. */
    t->ctx = SSL_CTX_new_ex(t->libctx, "?provider=default", TLS_server_method());
    if (!t->ctx || !set_policy(t->ctx)) {
        tls_error(err, ERR_TEMP, "cannot make a TLS context");
        goto fail;
    }
    if (use_chain(t, chain_pem, err) != OK)
        goto fail;
    return t;
fail:
    tls_context_free(t);
    return NULL;
}

static bool add_authorities(struct tls_context *t, struct slice pem, struct error *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(t->ctx);
    BIO *bio = BIO_new_mem_buf(pem.p, (int)MIN(pem.n, (size_t)INT32_MAX));
    X509 *cert;
    while (bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        t->verifies |= X509_STORE_add_cert(store, cert) == 1;
        X509_free(cert);
    }
    BIO_free(bio);
    ERR_clear_error();
    if (!t->verifies)
        error_set(err, ERR_SYNTAX, "no certificate authority in PEM form");
    return t->verifies;
}

struct tls_context *tls_client_new(struct slice ca_pem, bool require_verified, struct error *err)
{
    struct tls_context *t = NEW(struct tls_context);
    t->require_verified = require_verified;
    t->ctx = SSL_CTX_new(TLS_client_method());
    if (!t->ctx || !set_policy(t->ctx)) {
        tls_error(err, ERR_TEMP, "cannot make a TLS context");
        goto fail;
    }
    if (ca_pem.n && !add_authorities(t, ca_pem, err))
        goto fail;
    SSL_CTX_set_verify(t->ctx, require_verified ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return t;
fail:
    tls_context_free(t);
    return NULL;
}

void tls_context_free(struct tls_context *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    if (t->keys)
        OSSL_PROVIDER_unload(t->keys);
    if (t->builtin)
        OSSL_PROVIDER_unload(t->builtin);
    OSSL_LIB_CTX_free(t->libctx);
    free(t);
}
