/* What smtpd logs. */
#pragma once

#include "libutil/log.h"

#define SMTP_LISTEN_FIELDS(F, S) F(S, STR, listener, 0) F(S, STR, address, 0)
#define SMTP_CONNECT_FIELDS(F, S) F(S, STR, client, 0) F(S, STR, listener, 0) F(S, BOOL, early, 0)
#define SMTP_TLS_FIELDS(F, S) \
    F(S, STR, client, 0)      \
    F(S, STR, version, 0) F(S, STR, cipher, 0) F(S, STR, sni, 0) F(S, STR, reason, 0)
#define SMTP_AUTH_FIELDS(F, S) \
    F(S, STR, client, 0)       \
    F(S, STR, mechanism, 0) F(S, STR, user, 0) F(S, STR, result, 0) F(S, STR, reason, 0)
#define SMTP_REJECT_FIELDS(F, S)                                                                \
    F(S, STR, client, 0)                                                                        \
    F(S, STR, verb, 0)                                                                          \
    F(S, U32, code, 0)                                                                          \
    F(S, STR, dsn, 0) F(S, STR, rule, 0) F(S, STR, from, 0) F(S, STR, to, 0) F(S, STR, helo, 0) \
        F(S, STR, text, 0)
#define MSG_ACCEPT_FIELDS(F, S)                                                                \
    F(S, STR, from, 0)                                                                         \
    F(S, U32, nrcpt, 0)                                                                        \
    F(S, U64, size, 0)                                                                         \
    F(S, STR, message_id, 0) F(S, STR, commit_ms, 0) F(S, STR, user, 0) F(S, I64, priority, 0) \
        F(S, BOOL, bulk, 0) F(S, STR, rule, 0) F(S, I64, hold_until, 0)
#define SMTP_ETRN_FIELDS(F, S) \
    F(S, STR, client, 0) F(S, STR, domain, 0) F(S, STR, user, 0) F(S, U64, count, 0)
#define SMTP_CLOSE_FIELDS(F, S) \
    F(S, STR, reason, 0)        \
    F(S, STR, client, 0)        \
    F(S, STR, client_name, 0)   \
    F(S, U32, seconds, 0) F(S, U32, messages, 0) F(S, U32, recipients, 0) F(S, U32, errors, 0)

#define SMTPD_EVENTS(E)                                                                         \
    E(smtp_listen, "smtp.listen", LOG_DEBUG, SMTP_LISTEN_FIELDS, "A socket accepts clients.")   \
    E(smtp_connect, "smtp.connect", LOG_INFO, SMTP_CONNECT_FIELDS,                              \
        "A client connected; early=yes: it talked before it was greeted.")                      \
    E(smtp_tls, "smtp.tls", LOG_INFO, SMTP_TLS_FIELDS,                                          \
        "A TLS handshake ended; with a reason, it failed.")                                     \
    E(smtp_auth, "smtp.auth", LOG_INFO, SMTP_AUTH_FIELDS,                                       \
        "A client tried to log in; result is ok, failed or temporary.")                         \
    E(smtp_reject, "smtp.reject", LOG_NOTICE, SMTP_REJECT_FIELDS,                               \
        "A command or message was refused; rule says why.")                                     \
    E(msg_accept, "msg.accept", LOG_INFO, MSG_ACCEPT_FIELDS,                                    \
        "A message is in the spool, and the client was told so; with a rule, it is on hold by " \
        "it.")                                                                                  \
    E(smtp_etrn, "smtp.etrn", LOG_INFO, SMTP_ETRN_FIELDS,                                       \
        "A client asked for mail that waits for a domain; count messages do.")                  \
    E(smtp_close, "smtp.close", LOG_INFO, SMTP_CLOSE_FIELDS, "A session ended.")
LOG_EVENTS_DECLARE(SMTPD_EVENTS)
extern const struct log_event *const smtpd_events[];
