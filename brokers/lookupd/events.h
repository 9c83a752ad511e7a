/* What lookupd logs. */
#pragma once

#include "libutil/log.h"

#define ROUTE_DONE_FIELDS(F, S) \
    F(S, STR, address, 0) F(S, U32, recipients, 0) F(S, STR, transport, 0) F(S, STR, nexthop, 0)
#define ROUTE_REFUSED_FIELDS(F, S) \
    F(S, STR, address, 0)          \
    F(S, U32, code, 0) F(S, STR, dsn, 0) F(S, STR, rule, 0) F(S, STR, reason, 0)
#define LOOKUPD_EVENTS(E)                                                                        \
    E(route_done, "route.done", LOG_DEBUG, ROUTE_DONE_FIELDS, "An address goes somewhere.")      \
    E(route_refused, "route.refused", LOG_DEBUG, ROUTE_REFUSED_FIELDS,                           \
        "An address goes nowhere; who asked logs the refusal.")                                  \
    E(route_trouble, "route.trouble", LOG_WARN, ROUTE_REFUSED_FIELDS,                            \
        "The configuration or a table is at fault: an alias loops or names what cannot receive " \
        "mail, a table cannot be read, postmaster has no address.")
LOG_EVENTS_DECLARE(LOOKUPD_EVENTS)
extern const struct log_event *const lookupd_events[];
