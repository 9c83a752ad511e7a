/*
 * Character sets of mail text, converted to UTF-8 from tables of our own: the sessions run
 * where iconv could load no module.
 *
 * Known: UTF-8, US-ASCII, ISO-8859-1 to -16 (there is no 12), windows-1250 to -1258, windows-874
 * (TIS-620), KOI8-R, KOI8-U, IBM866, and their usual aliases. Text in any other set is read as
 * ISO-8859-1, which keeps its ASCII part searchable.
 */
#pragma once

#include "libutil/buf.h"

struct charset;

/* The set of this name (any case); empty means US-ASCII; NULL when it is not known. */
const struct charset *charset_find(struct slice name);
/* Whether text in it can be read with utf8_take as it stands. */
bool charset_is_utf8(const struct charset *);
/* Appends text as valid UTF-8; NULL reads it as ISO-8859-1. Bytes that are malformed in the set
 * become U+FFFD. The only failure is out's maximum, left in out->failed. */
void charset_to_utf8(const struct charset *, struct slice text, struct buf *out);
/* Appends text with upper case mapped to lower for Latin, Greek, Cyrillic and Armenian letters,
 * and malformed bytes to U+FFFD: two texts equal ignoring case have equal results. */
void utf8_fold(struct slice text, struct buf *out);
bool utf8_valid(struct slice text);
/* The length of the well-formed sequence (RFC 3629 §4) at the front of text, which is not empty;
 * 0: there is none. */
size_t utf8_length(struct slice text);
/* Appends the encoding of code point c (at most 0x10ffff). */
void utf8_put(struct buf *out, uint32_t c);
/* Takes one code point from the front of *text (not empty); U+FFFD for a malformed byte. */
uint32_t utf8_take(struct slice *text);
