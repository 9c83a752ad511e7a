#include "brokers/keyd/keys.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "brokers/keyd/shape.h"

enum { SECURE_HEAP = 1 << 18, SECURE_MIN = 32, KEYS_MAX = 64 };

struct key {
    unsigned char id[SHA256_DIGEST_LENGTH];
    const char *type;
    EVP_PKEY *pkey;
};

struct keys {
    struct key all[KEYS_MAX];
    size_t count;
};

struct keys *keys_new(bool *locked)
{
    *locked = CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_MIN) == 1;
    return NEW(struct keys);
}

void keys_free(struct keys *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->count; i++)
        EVP_PKEY_free(keys->all[i].pkey);
    free(keys);
}

size_t keys_count(const struct keys *keys)
{
    return keys->count;
}

/* A key under a pass phrase is an error, never a prompt. */
static int no_pass_phrase(char *into, int size, int writing, void *arg)
{
    (void)into;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static EVP_PKEY *read_key(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)MIN(pem.n, (size_t)INT32_MAX));
    EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return pkey;
}

static int check_certificate(
    EVP_PKEY *pkey, const char *name, const char *cert_name, struct slice pem, struct error *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)MIN(pem.n, (size_t)INT32_MAX));
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    int rc = OK;
    if (!cert)
        rc = error_set(err, ERR_SYNTAX, "%s holds no certificate in PEM form", cert_name);
    else if (X509_check_private_key(cert, pkey) != 1)
        rc = error_set(err, ERR_DENIED, "the key in %s does not belong to the certificate in %s",
            name, cert_name);
    X509_free(cert);
    BIO_free(bio);
    ERR_clear_error();
    return rc;
}

static bool set_id(struct key *key)
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(key->pkey, &der);
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, key->id, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return ok;
}

static const char *type_of(const EVP_PKEY *pkey)
{
    static const char *const types[] = {"RSA", "EC", "ED25519"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (EVP_PKEY_is_a(pkey, types[i]))
            return types[i];
    return NULL;
}

static int sign_with(const struct key *key, const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *params = NULL;
    const char *name = *digest ? digest : NULL;
    bool ok = ctx && EVP_DigestSignInit_ex(ctx, &params, name, NULL, NULL, key->pkey, NULL) == 1;
    if (ok && strcmp(padding, "pss") == 0)
        ok = EVP_PKEY_CTX_set_rsa_padding(params, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(params, RSA_PSS_SALTLEN_DIGEST) == 1;
    ok = ok && EVP_DigestSign(ctx, sig, sig_len, (const unsigned char *)tbs.p, tbs.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok ? OK : ERR_TEMP;
}

/* Also fetches what OpenSSL would otherwise look for inside the sandbox. */
static int prove(const struct key *key, const char *name, struct error *err)
{
    bool rsa = strcmp(key->type, "RSA") == 0, ed = strcmp(key->type, "ED25519") == 0;
    const char *const paddings[] = {rsa ? "pss" : "", rsa ? "pkcs1" : ""};
    static const char *const digests[] = {"SHA2-256", "SHA2-384", "SHA2-512"};
    for (size_t d = 0; d < ARRAY_LEN(digests); d++)
        for (size_t p = 0; p < ARRAY_LEN(paddings); p++) {
            unsigned char sig[1024];
            size_t n = sizeof(sig);
            if (sign_with(key, ed ? "" : digests[d], paddings[p], SLICE_LIT("x"), sig, &n) != OK)
                return error_set(err, ERR_UNSUPPORTED, "the key in %s cannot sign", name);
        }
    return OK;
}

int keys_add(struct keys *keys, const char *name, struct slice key_pem, const char *cert_name,
    struct slice cert_pem, struct error *err)
{
    if (keys->count == KEYS_MAX)
        return error_set(err, ERR_LIMIT, "more than %d keys", KEYS_MAX);
    struct key key = {.pkey = read_key(key_pem)};
    if (!key.pkey)
        return error_set(
            err, ERR_SYNTAX, "%s holds no private key in PEM form without pass phrase", name);
    int rc = OK;
    key.type = type_of(key.pkey);
    if (!key.type)
        rc = error_set(err, ERR_UNSUPPORTED, "the key in %s is not RSA, ECDSA or Ed25519", name);
    if (rc == OK && cert_pem.n)
        rc = check_certificate(key.pkey, name, cert_name, cert_pem, err);
    if (rc == OK)
        rc = prove(&key, name, err);
    if (rc == OK && !set_id(&key))
        rc = error_set(err, ERR_UNSUPPORTED, "the key in %s has no public half", name);
    if (rc != OK) {
        EVP_PKEY_free(key.pkey);
        return rc;
    }
    keys->all[keys->count++] = key;
    return OK;
}

int keys_sign(struct keys *keys, struct slice key_id, struct slice digest, struct slice padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len)
{
    char digest_name[32], padding_name[16];
    if (!slice_to_cstr(digest, digest_name, sizeof(digest_name)) ||
        !slice_to_cstr(padding, padding_name, sizeof(padding_name)))
        return ERR_DENIED;
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *key = &keys->all[i];
        if (!slice_eq(key_id, slice_from(key->id, sizeof(key->id))))
            continue;
        if (!shape_allows(shape_of(tbs), key->type, digest_name, padding_name))
            return ERR_DENIED;
        return sign_with(key, digest_name, padding_name, tbs, sig, sig_len);
    }
    return ERR_NOT_FOUND;
}
