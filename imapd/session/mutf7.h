/* Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3). */
#pragma once

#include "libutil/buf.h"

/* Appends the UTF-8 form. ERR_SYNTAX when the name is no modified UTF-7; ERR_LIMIT. Text that
 * is valid UTF-8 already passes: some clients send it. */
int mutf7_decode(struct slice name, struct buf *out) MUST_USE;
/* Appends the wire form of a UTF-8 name. */
int mutf7_encode(struct slice name, struct buf *out);
