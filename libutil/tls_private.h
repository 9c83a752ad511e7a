/* Shared by the tls*.c files only. */
#pragma once

#include <openssl/ssl.h>

#include "libutil/tls.h"

struct tls_context {
    SSL_CTX *ctx;
    OSSL_LIB_CTX *libctx; /* servers: with our provider beside the default one */
    OSSL_PROVIDER *builtin, *keys;
    bool server;
    bool verifies; /* clients: there are authorities to verify with */
    bool require_verified;
};

/* Loads the provider whose private keys are elsewhere into libctx. */
OSSL_PROVIDER *tls_keys_load(OSSL_LIB_CTX *libctx, struct error *);
/* A key of that provider: its public half, and signatures through the installed signer. */
EVP_PKEY *tls_keys_new(OSSL_LIB_CTX *libctx, EVP_PKEY *public_half, struct error *);
/* Asks the installed signer. */
int tls_sign(const unsigned char key_id[32], const char *digest, const char *padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len);
/* While it rests, every signature fails without the signer being asked. */
void tls_signer_rest(bool rests);
/* Fills err with `what` and the library's first reason, and empties its error queue. */
int tls_error(struct error *, int code, const char *what);
