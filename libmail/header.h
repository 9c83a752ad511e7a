/*
 * Header fields of a message (RFC 5322 §2.2) over a borrowed slice; nothing is copied. Line ends
 * are CRLF or LF. Text before the first empty line that is no field ends the header.
 */
#pragma once

#include "libutil/buf.h"

struct header_field {
    struct slice name;
    struct slice body; /* behind the colon up to the line end, folds included */
    struct slice raw;  /* the whole field with its line end */
};

struct header_iter {
    struct slice rest; /* where the next field begins; at the end: the body */
};

void header_iter_init(struct header_iter *, struct slice message);
/* False at the end of the header; then iter.rest is the body (behind the empty line). */
bool header_iter_next(struct header_iter *, struct header_field *);
/* The first field of this name (any case). */
bool header_find(struct slice message, const char *name, struct header_field *);
/* The header with the empty line that ends it. */
struct slice header_part(struct slice message);
struct slice header_body(struct slice message);
/* Appends a field body unfolded and trimmed: line ends go, the space after them stays. 0 or
 * ERR_LIMIT. */
int header_unfold(struct slice body, struct buf *out);
