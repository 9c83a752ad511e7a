/* The next hop of a recipient as lookupd writes it. */
#pragma once

#include "libutil/error.h"
#include "libutil/slice.h"

enum { NEXTHOP_HOST_MAX = 256, LMTP_PORT = 24 };

struct nexthop {
    char host[NEXTHOP_HOST_MAX]; /* domain, host or address, without brackets */
    uint16_t port;
    bool mx;   /* host is a domain whose MX hosts are meant */
    bool lmtp; /* RFC 2033 */
};

/* domain, domain:port (MX hosts); [host], [host]:port, an address (that host); lmtp:host:port,
 * lmtp:[address]:port. */
int nexthop_parse(struct slice, uint16_t smtp_port, struct nexthop *, struct error *) MUST_USE;
