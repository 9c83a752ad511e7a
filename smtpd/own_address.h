/*
 * Address literals that mean this host (RFC 5321 §4.1.3, §4.5.1): user@[192.0.2.1] where the client
 * is connected to 192.0.2.1, or something of ours listens there. Such an address is the local part
 * at our host name.
 */
#pragma once

#include "libmail/address.h"
#include "smtpd/session.h"

bool own_address(const struct session *, const struct address *);
