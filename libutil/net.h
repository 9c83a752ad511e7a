/*
 * Network addresses in text: addresses, CIDR blocks, host:port. No sockets and no names looked
 * up. IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) count as the IPv4 address they hold.
 */
#pragma once

#include "libutil/error.h"
#include "libutil/slice.h"

struct net_addr {
    uint8_t bits; /* 32 or 128 */
    uint8_t bytes[16];
};

struct net_block {
    struct net_addr addr;
    uint8_t prefix;
};

/* 192.0.2.1, 2001:db8::1, [2001:db8::1], IPv6:2001:db8::1. ERR_SYNTAX. */
int net_addr_parse(struct slice s, struct net_addr *) MUST_USE;
/* 127.0.0.0/8 and ::1. */
bool net_addr_is_loopback(const struct net_addr *);
/* ADDRESS or ADDRESS/PREFIX; bits beyond the prefix must be zero. */
int net_block_parse(struct slice s, struct net_block *, struct error *) MUST_USE;
bool net_block_contains(const struct net_block *, const struct net_addr *);

/* domain, domain:port, [host], [host]:port where host is a name or an address. *host points into
 * s, without brackets; *bracketed tells whether there were any, which means this very host
 * instead of the domain's MX hosts; *port is unchanged when none is given. */
int net_hostport_parse(
    struct slice s, struct slice *host, bool *bracketed, uint16_t *port) MUST_USE;

/* A place to listen: ADDR:PORT, *:PORT, [ADDR6]:PORT, PORT 1 to 65535, a final s for TLS from
 * the first byte. *host is "*" or the address without brackets. */
struct net_listen {
    struct slice host;
    uint16_t port;
    bool tls;
};
int net_listen_parse(struct slice s, struct net_listen *, struct error *) MUST_USE;

/* Letters, digits, hyphens, underscores in labels of 1 to 63, at most 253 in all; UTF-8 passes. */
bool net_is_domain(struct slice s);
