/* What remote logs. */
#pragma once

#include "libutil/log.h"

#define DLV_SMTP_FIELDS(F, S) \
    F(S, STR, mx, 0)          \
    F(S, STR, ip, 0)          \
    F(S, STR, tls, 0)         \
    F(S, U32, nrcpt, 0) F(S, U32, accepted, 0) F(S, BOOL, reused, 0) F(S, STR, reply, 0)
#define DLV_REFUSED_FIELDS(F, S) \
    F(S, STR, to, 0)             \
    F(S, STR, mx, 0) F(S, STR, ip, 0) F(S, STR, verb, 0) F(S, STR, rule, 0) F(S, STR, reply, 0)
#define DLV_SITE_FIELDS(F, S) F(S, STR, mx, 0) F(S, STR, ip, 0) F(S, STR, reason, 0)
#define DLV_ROUTE_FIELDS(F, S) F(S, STR, nexthop, 0) F(S, STR, dsn, 0) F(S, STR, reason, 0)
#define REMOTE_EVENTS(E)                                                                        \
    E(dlv_smtp, "dlv.smtp", LOG_INFO, DLV_SMTP_FIELDS,                                          \
        "A message was offered to another server; reply is its last word, accepted counts the " \
        "recipients it took.")                                                                  \
    E(dlv_refused, "dlv.refused", LOG_INFO, DLV_REFUSED_FIELDS,                                 \
        "Another server refused a recipient, in reply to verb; rule remote, or ours.")          \
    E(dlv_site, "dlv.site", LOG_NOTICE, DLV_SITE_FIELDS,                                        \
        "A host could not be used; the next one is tried, or the mail waits.")                  \
    E(dlv_route, "dlv.route", LOG_INFO, DLV_ROUTE_FIELDS, "No host was found for a next hop.")  \
    E(dlv_plain, "dlv.plain", LOG_NOTICE, DLV_SITE_FIELDS,                                      \
        "TLS failed with a host; the message is sent without it (RFC 7435).")
LOG_EVENTS_DECLARE(REMOTE_EVENTS)
extern const struct log_event *const remote_events[];
