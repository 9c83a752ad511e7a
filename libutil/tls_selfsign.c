#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "libutil/tls.h"

enum { VALID_DAYS = 3650 };

static int add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    int ok = ext && X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    return ok;
}

static int fill(X509 *cert, EVP_PKEY *key, const char *hostname)
{
    char names[600];
    snprintf(names, sizeof(names), "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", hostname);
    X509_NAME *subject = X509_get_subject_name(cert);
    BIGNUM *serial = BN_new();
    int ok = X509_set_version(cert, 2) && serial && BN_rand(serial, 120, 0, 0) &&
             BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) &&
             X509_gmtime_adj(X509_getm_notBefore(cert), -300) &&
             X509_gmtime_adj(X509_getm_notAfter(cert), VALID_DAYS * 86400L) &&
             X509_NAME_add_entry_by_txt(
                 subject, "CN", MBSTRING_UTF8, (const unsigned char *)hostname, -1, -1, 0) &&
             X509_set_issuer_name(cert, subject) && X509_set_pubkey(cert, key) &&
             add_extension(cert, NID_subject_alt_name, names) &&
             add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
             add_extension(cert, NID_ext_key_usage, "serverAuth") &&
             X509_sign(cert, key, EVP_sha256());
    BN_free(serial);
    return ok;
}

/* Moves what was written into bio to out. */
static int take(BIO *bio, struct buf *out)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    return n > 0 ? buf_put(out, slice_from(data, (size_t)n)) : ERR_IO;
}

int tls_self_signed(
    const char *hostname, struct buf *cert_pem, struct buf *key_pem, struct error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *c = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_secmem());
    int rc = ERR_IO;
    if (key && cert && c && k && fill(cert, key, hostname) && PEM_write_bio_X509(c, cert) &&
        PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL))
        rc = take(c, cert_pem) || take(k, key_pem) ? ERR_LIMIT : OK;
    BIO_free(c);
    BIO_free(k);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc ? error_set(err, rc, "a self-signed certificate could not be made") : OK;
}
