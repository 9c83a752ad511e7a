/*
 * One spelling for names that look the same: Unicode's normal form C (RFC 6531 §3.2 has mailbox
 * names compared so; RFC 6532 §3.1), by libunistring. It is for looking up and comparing: addresses
 * that go to others keep the bytes they came with.
 */
#pragma once

#include "libmail/address.h"

/* UTF-8 in normal form C, ended by NUL. ERR_SYNTAX: not UTF-8; ERR_LIMIT. */
int nfc_text(struct slice, char *out, size_t size) MUST_USE;
/* The local part; quoting is kept. */
int nfc_address(struct address *) MUST_USE;
