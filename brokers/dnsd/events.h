/* What dnsd logs. */
#pragma once

#include "libutil/log.h"

#define DNS_START_FIELDS(F, S) F(S, U32, servers, 0) F(S, STR, validation, 0) F(S, STR, anchor, 0)
#define DNS_FAILED_FIELDS(F, S) \
    F(S, STR, name, 0) F(S, U32, type, 0) F(S, STR, result, 0) F(S, STR, reason, 0)
#define DNSD_EVENTS(E)                                                                             \
    E(dns_start, "dns.start", LOG_INFO, DNS_START_FIELDS,                                          \
        "The resolver is ready. No servers: the root servers are asked. Validation off: there is " \
        "no trust anchor.")                                                                        \
    E(dns_failed, "dns.failed", LOG_NOTICE, DNS_FAILED_FIELDS,                                     \
        "A question had no usable answer; mail that depends on it waits.")
LOG_EVENTS_DECLARE(DNSD_EVENTS)
extern const struct log_event *const dnsd_events[];
