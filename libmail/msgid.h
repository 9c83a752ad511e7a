/* Message-ID (RFC 5322 §3.6.4). */
#pragma once

#include "libutil/buf.h"

/* Appends "<random@host>"; 0 or ERR_LIMIT. */
int msgid_new(struct slice host, struct buf *out);
/* The first <...> in a Message-ID field body, brackets included; empty if there is none or it
 * holds control characters. */
struct slice msgid_find(struct slice body);
