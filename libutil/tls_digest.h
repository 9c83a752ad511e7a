/*
 * SHA-256 (FIPS 180-4), for names of content that must not be forged. Failing to compute one is
 * no condition of the input: it ends the process, as running out of memory does.
 */
#pragma once

#include "libutil/slice.h"

enum { DIGEST_HEX = 65 }; /* with its NUL */

struct digest;

struct digest *digest_new(void);
void digest_put(struct digest *, struct slice);
/* Writes it in lower case hex and begins anew. */
void digest_take(struct digest *, char out[DIGEST_HEX]);
void digest_free(struct digest *);
/* Whether s has the form of a digest in lower case hex. */
bool digest_is_hex(struct slice s);
