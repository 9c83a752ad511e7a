/* What authd logs. Never a password, never a hash. */
#pragma once

#include "libutil/log.h"

#define AUTH_OK_FIELDS(F, S) \
    F(S, STR, user, 0)       \
    F(S, STR, service, 0) F(S, STR, client, 0) F(S, BOOL, tls, 0) F(S, BOOL, cached, 0)
#define AUTH_FAIL_FIELDS(F, S)                                                       \
    F(S, STR, user, 0)                                                               \
    F(S, STR, service, 0) F(S, STR, client, 0) F(S, BOOL, tls, 0) F(S, STR, rule, 0) \
        F(S, STR, reason, 0)
#define AUTH_REFUSED_FIELDS(F, S) F(S, STR, peer, 0) F(S, STR, rule, 0) F(S, STR, reason, 0)
#define AUTHD_EVENTS(E)                                                                           \
    E(auth_ok, "auth.ok", LOG_INFO, AUTH_OK_FIELDS, "A password was right.")                      \
    E(auth_fail, "auth.fail", LOG_NOTICE, AUTH_FAIL_FIELDS,                                       \
        "A login was refused; rule says why: unknown, password, disabled, limit, format, table.") \
    E(auth_refused, "auth.refused", LOG_WARN, AUTH_REFUSED_FIELDS,                                \
        "Another process asked for what it may not have: a ticket that does not exist, is over "  \
        "or belongs to another service, or a question that is not its own.")
LOG_EVENTS_DECLARE(AUTHD_EVENTS)
extern const struct log_event *const authd_events[];
