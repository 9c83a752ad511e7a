/*
 * TLS contexts on OpenSSL 3: certificates here, private keys elsewhere. A server context signs
 * through a provider of ours that asks keyd; it never holds a private key. TLS 1.2 and up,
 * forward secrecy only. OpenSSL types do not appear in this header.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"
#include "libutil/slice.h"

struct tls_context;

/* Asks for a signature. key_id is the SHA-256 of the SubjectPublicKeyInfo (DER), `digest` an
 * OpenSSL name ("SHA2-256"; "" with Ed25519), `padding` "pss", "pkcs1" or "" (not RSA). tbs are
 * the bytes to be signed. Writes at most *sig_len bytes and sets *sig_len. Blocks. Returns 0 or
 * an error code. */
typedef int tls_sign_fn(void *arg, const unsigned char key_id[32], const char *digest,
    const char *padding, struct slice tbs, unsigned char *sig, size_t *sig_len);

/* Installs the signer for all later server contexts of this process. */
void tls_set_signer(tls_sign_fn *, void *arg);

/* A server context for a PEM certificate chain (its text, leaf first). NULL on error. */
struct tls_context *tls_server_new(struct slice chain_pem, struct error *);
/* A client context. With ca_pem (may be empty: the system's store is NOT read) peers are
 * verified and the outcome recorded; a failure does not end the handshake (opportunistic TLS,
 * RFC 7435) unless `require_verified`. */
struct tls_context *tls_client_new(struct slice ca_pem, bool require_verified, struct error *);
void tls_context_free(struct tls_context *);
/* Forces lazy initialisation (random bytes, error strings, a first handshake in memory) so that
 * no file or unusual system call is needed later, inside the sandbox. */
int tls_warm_up(struct tls_context *, struct error *);

/* A certificate for hostname and localhost, signed by its own new key (P-256), valid ten years;
 * both as PEM text. The caller wipes key_pem. */
int tls_self_signed(
    const char *hostname, struct buf *cert_pem, struct buf *key_pem, struct error *) MUST_USE;
