#include "libutil/tls_digest.h"

#include <openssl/evp.h>

struct digest {
    EVP_MD_CTX *ctx;
};

static void must(int ok)
{
    if (ok != 1)
        abort();
}

struct digest *digest_new(void)
{
    struct digest *d = NEW(struct digest);
    d->ctx = EVP_MD_CTX_new();
    must(d->ctx != NULL);
    must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
    return d;
}

void digest_put(struct digest *d, struct slice s)
{
    must(EVP_DigestUpdate(d->ctx, s.p, s.n));
}

void digest_take(struct digest *d, char out[DIGEST_HEX])
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    must(EVP_DigestFinal_ex(d->ctx, raw, &n));
    must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
    for (unsigned i = 0; i < n && 2 * i + 2 < DIGEST_HEX; i++)
        snprintf(out + 2 * (size_t)i, 3, "%02x", raw[i]);
}

void digest_free(struct digest *d)
{
    if (d)
        EVP_MD_CTX_free(d->ctx);
    free(d);
}

bool digest_is_hex(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789abcdef", s.p[i]) || !s.p[i])
            return false;
    return s.n == DIGEST_HEX - 1;
}
