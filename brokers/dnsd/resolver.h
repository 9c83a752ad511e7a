/*
 * libunbound on our event loop: cache, DNSSEC validation, forwarding. Everything it reads from
 * files is read here before the sandbox closes. /etc/hosts is not used: mail is routed by DNS.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/conf.h"
#include "libutil/loop.h"

struct resolver;
struct resolver_query;

struct resolver_facts { /* for the log */
    unsigned servers;   /* 0: the root servers are asked */
    bool validates;
    char anchor[256];
};

struct resolver_answer {
    unsigned status; /* enum dns_status */
    bool secure;
    uint32_t ttl;
    struct slice why;     /* of DNS_BOGUS */
    struct slice records; /* packed dns_record */
};

typedef void resolver_fn(const struct resolver_answer *, void *arg);

/* Settings from the block `dns`. Missing default trust anchor: answers are not validated. A
 * configured one that cannot be read is an error. */
struct resolver *resolver_new(
    struct loop *, const struct conf_block *dns, struct resolver_facts *, struct error *);
void resolver_free(struct resolver *);
/* fn is called once, from the loop, within 25 s, unless cancelled. type: enum in
 * libutil/proto/dns.h; for DNS_PTR name may be an address. */
struct resolver_query *resolver_ask(
    struct resolver *, struct slice name, unsigned type, resolver_fn *, void *arg);
void resolver_cancel(struct resolver_query *);
