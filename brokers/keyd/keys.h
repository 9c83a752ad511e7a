/*
 * The private keys, in memory only. Loaded before the sandbox closes; from then on they can be
 * used and not read. OpenSSL's secure heap keeps the numbers in locked pages where the system
 * allows it, and the process cannot be dumped or traced (sandbox).
 */
#pragma once

#include "libutil/error.h"
#include "libutil/slice.h"

struct keys;

/* An empty set. *locked tells whether the secure heap could be locked into memory. */
struct keys *keys_new(bool *locked);
void keys_free(struct keys *);
/* Adds a key and proves that it can sign. `name` is for messages. With a certificate (PEM, may
 * be empty) the two must belong together. ERR_SYNTAX, ERR_UNSUPPORTED, ERR_DENIED (no match). */
int keys_add(struct keys *, const char *name, struct slice key_pem, const char *cert_name,
    struct slice cert_pem, struct error *) MUST_USE;
size_t keys_count(const struct keys *);
/* Signs tbs if its shape is that of a TLS server handshake. Writes at most *sig_len bytes.
 * ERR_NOT_FOUND: no such key; ERR_DENIED: not a handshake; ERR_TEMP: OpenSSL refused. */
int keys_sign(struct keys *, struct slice key_id, struct slice digest, struct slice padding,
    struct slice tbs, unsigned char *sig, size_t *sig_len) MUST_USE;
