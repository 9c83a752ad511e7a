/* Internationalised domain names (RFC 5890 to 5892), by libidn2. Mail is routed, and mailboxes are
 * found, by A-labels; U-labels are what people write. */
#pragma once

#include "libmail/address.h"

/* Turns the domain of *a into A-labels when it is not ASCII, which normalises it (NFC, lower
 * case). ERR_SYNTAX: no such name may exist; ERR_LIMIT. */
int idn_address(struct address *a) MUST_USE;
/* The same for a name alone: out holds 256 bytes. */
int idn_domain(struct slice domain, char out[256]) MUST_USE;
