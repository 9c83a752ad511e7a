#include "libutil/tls_pair.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "libutil/file.h"

enum { PEM_MAX = 1024 * 1024 };

/* A key under a pass phrase is an error, never a prompt. */
static int no_pass_phrase(char *into, int size, int writing, void *arg)
{
    (void)into;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static int compare(const struct buf *cert_pem, const struct buf *key_pem, const char *cert_path,
    const char *key_path, struct error *err)
{
    struct slice c = buf_slice(cert_pem), k = buf_slice(key_pem);
    BIO *cert_bio = BIO_new_mem_buf(c.p, (int)c.n), *key_bio = BIO_new_mem_buf(k.p, (int)k.n);
    X509 *cert = cert_bio ? PEM_read_bio_X509(cert_bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = key_bio ? PEM_read_bio_PrivateKey(key_bio, NULL, no_pass_phrase, NULL) : NULL;
    int rc = OK;
    if (!cert)
        rc = error_set(err, ERR_SYNTAX, "%s holds no certificate in PEM form", cert_path);
    else if (!key)
        rc = error_set(
            err, ERR_SYNTAX, "%s holds no private key in PEM form without pass phrase", key_path);
    else if (X509_check_private_key(cert, key) != 1)
        rc = error_set(err, ERR_DENIED, "the key in %s does not belong to the certificate in %s",
            key_path, cert_path);
    EVP_PKEY_free(key);
    X509_free(cert);
    BIO_free(key_bio);
    BIO_free(cert_bio);
    ERR_clear_error();
    return rc;
}

int tls_check_pair(const char *cert_path, const char *key_path, struct error *err)
{
    struct buf cert, key;
    buf_init(&cert, PEM_MAX);
    buf_init(&key, PEM_MAX);
    int rc = file_read(cert_path, &cert, err);
    if (rc == OK)
        rc = file_read(key_path, &key, err);
    if (rc == OK)
        rc = compare(&cert, &key, cert_path, key_path, err);
    buf_wipe(&key);
    buf_clear(&cert);
    return rc;
}
