/*
 * Content transfer encodings of mail bodies (RFC 2045 §6) and encoded words (RFC 2047).
 *
 * These decoders read what strangers wrote: they skip what is not theirs instead of failing.
 * Output goes to a buf; the only failure is its maximum, left in out->failed.
 */
#pragma once

#include "libutil/buf.h"

enum encoding { ENCODING_IDENTITY, ENCODING_BASE64, ENCODING_QUOTED_PRINTABLE };

/* The encoding a Content-Transfer-Encoding value names; unknown names count as identity. */
enum encoding encoding_of(struct slice name);
/* Appends the decoded body. Base64 skips bytes outside its alphabet and ends at padding;
 * quoted-printable keeps a malformed escape as it stands. */
void encoding_decode(enum encoding, struct slice body, struct buf *out);

/* Appends a header field's text as UTF-8: unfolded, encoded words decoded, space between two
 * adjacent ones dropped (RFC 2047 §6.2). A malformed word stays as it stands. */
void rfc2047_decode(struct slice text, struct buf *out);
