/*
 * Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3), or UTF-8 once the client has enabled
 * UTF8=ACCEPT (RFC 9755, RFC 6855).
 */
#pragma once

#include "libutil/buf.h"

/* Appends the UTF-8 form. ERR_SYNTAX when the name is no modified UTF-7; ERR_LIMIT. */
int mutf7_decode(struct slice name, struct buf *out) MUST_USE;
/* Appends the modified UTF-7 form of a UTF-8 name. */
int mutf7_encode(struct slice name, struct buf *out);

/* Whether a name from a client is UTF-8 as it stands: what is not 7-bit cannot be modified UTF-7,
 * and some clients send it without having enabled it. */
bool wire_is_utf8(struct slice name, bool enabled);
/* Appends the UTF-8 form of a name from a client. As mutf7_decode. */
int wire_take_mailbox(struct slice name, bool enabled, struct buf *out) MUST_USE;
/* Appends a mailbox name as an IMAP string. */
int wire_put_mailbox(struct buf *out, struct slice name, bool enabled);
