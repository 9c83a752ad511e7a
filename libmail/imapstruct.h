/*
 * ENVELOPE, BODY and BODYSTRUCTURE of a message as IMAP sends them (RFC 3501 §7.4.2), and the
 * string forms they are made of. The store caches these texts when a message arrives.
 */
#pragma once

#include "libmail/mime.h"

enum {
    IMAP_STRING_MAX = 16384,  /* a header value longer than this is cut in an ENVELOPE */
    IMAP_ADDRESSES_MAX = 1000 /* of one field; more are left out */
};

/* Appends the three texts, parentheses included, without item names: "(NIL \"hi\" ...)". They
 * may hold literals. Sizes are given with CRLF whatever the stored line ends. Any of the buffers
 * may be NULL. Returns 0, or ERR_LIMIT when the arena's cap or a buffer's maximum was reached. */
int imap_structure(struct slice message, struct arena *, struct buf *envelope, struct buf *body,
    struct buf *bodystructure) MUST_USE;
/* The same from parts already parsed. header is the message's header. */
int imap_put_envelope(struct slice header, struct arena *, struct buf *out) MUST_USE;
int imap_put_body(struct slice message, const struct mime_part *, struct arena *, bool extended,
    struct buf *out) MUST_USE;

/* An IMAP string: quoted where that is allowed, else a literal. NULs are left out. */
int imap_put_string(struct buf *out, struct slice s);
/* As imap_put_string; NIL when s.p is NULL. */
int imap_put_nstring(struct buf *out, struct slice s);
