/* Words for people and machines in a report: clean of what could end a line, and in the character
 * set that the way to the reader bears. */
#pragma once

#include "libutil/buf.h"

/* Without control characters; what is not UTF-8 as '?'. */
void words_put(struct buf *, struct slice);
/* The same, with everything outside ASCII as '?'. */
void words_put_ascii(struct buf *, struct slice);
/* Text broken at spaces to lines of width; further lines begin with indent. */
void words_put_folded(struct buf *, struct slice, size_t column, size_t width, const char *indent);
/* The text of a header field: in encoded words (RFC 2047) where it is not ASCII. */
void words_put_encoded(struct buf *, struct slice);
/* A field with a date, of ms since 1970. */
void words_put_date(struct buf *, const char *name, int64_t ms);
/* Lines as quoted-printable (RFC 2045 §6.7); in and out with CRLF. */
void words_put_quoted_printable(struct buf *, struct slice);
