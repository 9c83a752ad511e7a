/*
 * Addresses of the type "utf-8" in ORCPT and in reports (RFC 6533 §3). Inside Veredus they are
 * plain UTF-8; outside they are written
 *
 *     raw          utf-8-addr-unitext: UTF-8, with \x{HEX} for what would end a word
 *     not raw      utf-8-addr-xtext: ASCII only, everything else as \x{HEX}
 */
#pragma once

#include "libutil/buf.h"

/* Resolves \x{HEX}, and xtext's +HH where the sender used that. ERR_SYNTAX when the result is not
 * printable UTF-8. */
int orcpt_utf8_decode(struct slice in, struct buf *out) MUST_USE;
int orcpt_utf8_encode(struct slice in, bool raw, struct buf *out);
