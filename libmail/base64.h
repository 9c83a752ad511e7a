/* Base64 (RFC 4648 §4), strict and on one line, as in AUTH exchanges. MIME bodies, which may be
 * broken into lines and be sloppy, are decoded elsewhere. */
#pragma once

#include "libutil/buf.h"

/* Appends the decoded bytes. ERR_SYNTAX for any byte outside the alphabet, wrong padding or
 * left-over bits that are not zero; ERR_LIMIT when out is full. On failure out is unchanged. */
int base64_decode(struct slice in, struct buf *out) MUST_USE;
/* Appends the encoding with padding and without line breaks; 0 or ERR_LIMIT. */
int base64_encode(struct slice in, struct buf *out);
