/* What login fronts log. One line for each connection's beginning, verdict and end. */
#pragma once

#include "libutil/log.h"

#define LOGIN_CONNECT_FIELDS(F, S) F(S, STR, client, 0) F(S, STR, listener, 0)
#define LOGIN_OK_FIELDS(F, S) \
    F(S, STR, user, 0)        \
    F(S, STR, client, 0)      \
    F(S, STR, method, 0) F(S, STR, tls, 0) F(S, I64, session, 0) F(S, I64, ms, 0)
#define LOGIN_FAIL_FIELDS(F, S) \
    F(S, STR, user, 0)          \
    F(S, STR, client, 0)        \
    F(S, STR, method, 0) F(S, STR, rule, 0) F(S, STR, why, 0) F(S, I64, delay_ms, 0)
#define LOGIN_CLOSE_FIELDS(F, S) \
    F(S, STR, client, 0)         \
    F(S, STR, why, 0) F(S, U64, received, 0) F(S, U64, sent, 0) F(S, I64, seconds, 0)

#define LOGIN_EVENTS(E)                                                                      \
    E(login_connect, "login.connect", LOG_INFO, LOGIN_CONNECT_FIELDS, "A client connected.") \
    E(login_ok, "login.ok", LOG_INFO, LOGIN_OK_FIELDS,                                       \
        "A user logged in; `session` is the process that serves it.")                        \
    E(login_fail, "login.fail", LOG_NOTICE, LOGIN_FAIL_FIELDS,                               \
        "A login was refused; `rule` says by which check.")                                  \
    E(login_close, "login.close", LOG_INFO, LOGIN_CLOSE_FIELDS,                              \
        "The connection ended; bytes count what was relayed.")
LOG_EVENTS_DECLARE(LOGIN_EVENTS)
extern const struct log_event *const login_events[];
