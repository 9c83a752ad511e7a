#include "brokers/keyd/keys.h"
#include "brokers/keyd/shape.h"
#include "libutil/buf.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

struct fixture {
    struct keys *keys;
    EVP_PKEY *rsa, *ec;
};

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    bool locked;
    f->keys = keys_new(&locked);
    f->rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    f->ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    keys_free(f->keys);
    EVP_PKEY_free(f->rsa);
    EVP_PKEY_free(f->ec);
    free(f);
    return 0;
}

static struct buf pem_of(EVP_PKEY *pkey, const char *pass_phrase)
{
    struct buf out;
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(bio, pkey, pass_phrase ? EVP_aes_128_cbc() : NULL, pass_phrase,
        pass_phrase ? (int)strlen(pass_phrase) : 0, NULL, NULL);
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    buf_init(&out, 1 << 16);
    buf_put(&out, slice_from(text, (size_t)n));
    BIO_free(bio);
    return out;
}

static struct buf certificate_of(EVP_PKEY *pkey)
{
    struct buf out;
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, pkey);
    X509_sign(cert, pkey, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    buf_init(&out, 1 << 16);
    buf_put(&out, slice_from(text, (size_t)n));
    BIO_free(bio);
    X509_free(cert);
    return out;
}

static int add(struct fixture *f, EVP_PKEY *key, EVP_PKEY *cert_key, struct error *err)
{
    struct buf key_pem = pem_of(key, NULL), cert_pem = certificate_of(cert_key);
    int rc =
        keys_add(f->keys, "key.pem", buf_slice(&key_pem), "cert.pem", buf_slice(&cert_pem), err);
    buf_clear(&key_pem);
    buf_clear(&cert_pem);
    return rc;
}

static struct slice id_of(EVP_PKEY *pkey, unsigned char id[32])
{
    unsigned char *der = NULL;
    int n = i2d_PUBKEY(pkey, &der);
    EVP_Digest(der, (size_t)n, id, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
    return slice_from(id, 32);
}

static struct slice tls13_bytes(char out[146], size_t hash)
{
    memset(out, ' ', 64);
    memcpy(out + 64, "TLS 1.3, server CertificateVerify", 34);
    memset(out + 98, 'h', hash);
    return slice_from(out, 98 + hash);
}

static struct slice tls12_bytes(char out[256], unsigned char group, unsigned char length)
{
    memset(out, 'r', 256);
    out[64] = 3;
    out[65] = 0;
    out[66] = (char)group;
    out[67] = (char)length;
    out[68] = 4;
    return slice_from(out, 68 + (size_t)length);
}

static void test_tls13_certificate_verify_is_known(void **state)
{
    (void)state;
    char b[146];
    assert_int_equal(shape_of(tls13_bytes(b, 32)), SHAPE_TLS13);
    assert_int_equal(shape_of(tls13_bytes(b, 48)), SHAPE_TLS13);
}

static void test_anything_near_tls13_is_not_signed(void **state)
{
    (void)state;
    char b[146];
    assert_int_equal(shape_of(tls13_bytes(b, 33)), SHAPE_OTHER);
    tls13_bytes(b, 32);
    b[0] = 'x';
    assert_int_equal(shape_of(slice_from(b, 130)), SHAPE_OTHER);
    tls13_bytes(b, 32);
    memcpy(b + 73, "client", 6); /* a client's CertificateVerify */
    assert_int_equal(shape_of(slice_from(b, 130)), SHAPE_OTHER);
    tls13_bytes(b, 32);
    b[97] = 'x'; /* the separator */
    assert_int_equal(shape_of(slice_from(b, 130)), SHAPE_OTHER);
    assert_int_equal(shape_of(slice_of("")), SHAPE_OTHER);
}

static void test_tls12_server_key_exchange_is_known(void **state)
{
    (void)state;
    char b[256];
    assert_int_equal(shape_of(tls12_bytes(b, 29, 32)), SHAPE_TLS12);
    assert_int_equal(shape_of(tls12_bytes(b, 23, 65)), SHAPE_TLS12);
}

static void test_tls12_with_wrong_lengths_or_groups_is_not_signed(void **state)
{
    (void)state;
    char b[256];
    assert_int_equal(shape_of(tls12_bytes(b, 29, 33)), SHAPE_OTHER);
    assert_int_equal(shape_of(tls12_bytes(b, 99, 32)), SHAPE_OTHER);
    struct slice s = tls12_bytes(b, 29, 32);
    assert_int_equal(shape_of(slice_from(b, s.n + 1)), SHAPE_OTHER);
    assert_int_equal(shape_of(slice_from(b, s.n - 1)), SHAPE_OTHER);
    tls12_bytes(b, 23, 65);
    b[68] = 2; /* a compressed point */
    assert_int_equal(shape_of(slice_from(b, 133)), SHAPE_OTHER);
}

static void test_signature_verifies_with_the_public_key(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_int_equal(add(f, f->ec, f->ec, &err), OK);
    char b[146];
    unsigned char id[32], sig[256];
    size_t n = sizeof(sig);
    struct slice tbs = tls13_bytes(b, 32);
    assert_int_equal(
        keys_sign(f->keys, id_of(f->ec, id), SLICE_LIT("SHA2-256"), slice_of(""), tbs, sig, &n),
        OK);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, f->ec), 1);
    assert_int_equal(EVP_DigestVerify(ctx, sig, n, (const unsigned char *)tbs.p, tbs.n), 1);
    EVP_MD_CTX_free(ctx);
}

static void test_unknown_key_id_is_an_error_reply(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_int_equal(add(f, f->ec, f->ec, &err), OK);
    char b[146];
    unsigned char id[32], sig[256];
    size_t n = sizeof(sig);
    assert_int_equal(keys_sign(f->keys, id_of(f->rsa, id), SLICE_LIT("SHA2-256"), slice_of("pss"),
                         tls13_bytes(b, 32), sig, &n),
        ERR_NOT_FOUND);
    assert_int_equal(keys_sign(f->keys, slice_of(""), SLICE_LIT("SHA2-256"), slice_of(""),
                         tls13_bytes(b, 32), sig, &n),
        ERR_NOT_FOUND);
}

static void test_other_bytes_and_weak_digests_are_refused(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_int_equal(add(f, f->rsa, f->rsa, &err), OK);
    char b[146];
    unsigned char id[32], sig[1024];
    size_t n = sizeof(sig);
    struct slice key = id_of(f->rsa, id), tbs = tls13_bytes(b, 32), pss = SLICE_LIT("pss");
    struct slice sha256 = SLICE_LIT("SHA2-256");
    assert_int_equal(
        keys_sign(f->keys, key, sha256, pss, SLICE_LIT("a document"), sig, &n), ERR_DENIED);
    assert_int_equal(keys_sign(f->keys, key, SLICE_LIT("SHA1"), pss, tbs, sig, &n), ERR_DENIED);
    assert_int_equal(keys_sign(f->keys, key, slice_of(""), pss, tbs, sig, &n), ERR_DENIED);
    assert_int_equal(keys_sign(f->keys, key, sha256, SLICE_LIT("pkcs1"), tbs, sig, &n), ERR_DENIED);
    assert_int_equal(keys_sign(f->keys, key, sha256, pss, tbs, sig, &n), OK);
}

static void test_key_and_certificate_that_do_not_match_are_named(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    assert_int_equal(add(f, f->ec, f->rsa, &err), ERR_DENIED);
    assert_non_null(strstr(err.text, "key.pem"));
    assert_non_null(strstr(err.text, "cert.pem"));
    assert_int_equal(keys_count(f->keys), 0);
}

static void test_key_under_a_pass_phrase_is_named_not_asked_for(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct buf pem = pem_of(f->ec, "secret");
    assert_int_equal(keys_add(f->keys, "k", buf_slice(&pem), "", slice_of(""), &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "without pass phrase"));
    buf_clear(&pem);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tls13_certificate_verify_is_known),
        TEST(test_anything_near_tls13_is_not_signed),
        TEST(test_tls12_server_key_exchange_is_known),
        TEST(test_tls12_with_wrong_lengths_or_groups_is_not_signed),
        TEST(test_signature_verifies_with_the_public_key),
        TEST(test_unknown_key_id_is_an_error_reply),
        TEST(test_other_bytes_and_weak_digests_are_refused),
        TEST(test_key_and_certificate_that_do_not_match_are_named),
        TEST(test_key_under_a_pass_phrase_is_named_not_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
