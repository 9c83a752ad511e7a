/*
 * Reads the answer section of a DNS message (RFC 1035 §4): bytes that strangers can influence,
 * so everything is checked, compression included. libunbound follows aliases; what is taken
 * are the records of the type asked for, whatever name they stand under.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { PACKET_NAME_MAX = 256 };

struct packet {
    unsigned rcode;
    uint32_t ttl; /* the least of the records taken; 0 without any */
    size_t count; /* records appended to out */
};

/* Appends packed dns_record to out; records that do not fit, or hold no host name where one is
 * due, are left out. ERR_SYNTAX: not a DNS message. */
int packet_read(struct slice message, unsigned type, struct packet *, struct buf *out) MUST_USE;
/* The name to ask for the PTR of an address: "1.2.0.192.in-addr.arpa". ERR_SYNTAX. */
int packet_reverse_name(struct slice address, char out[PACKET_NAME_MAX]) MUST_USE;
