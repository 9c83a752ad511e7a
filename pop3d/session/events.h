/* What POP3 sessions log. */
#pragma once

#include "libutil/log.h"

#define POP3_OPEN_FIELDS(F, S) \
    F(S, STR, user, 0) F(S, STR, client, 0) F(S, U32, messages, 0) F(S, U64, size, 0)
#define POP3_CLOSE_FIELDS(F, S)                                                        \
    F(S, STR, user, 0)                                                                 \
    F(S, STR, why, 0) F(S, U32, retrieved, 0) F(S, U32, deleted, 0) F(S, U64, sent, 0) \
        F(S, I64, seconds, 0)
#define POP3_REFUSE_FIELDS(F, S) F(S, STR, user, 0) F(S, STR, rule, 0) F(S, STR, why, 0)

#define POP3_EVENTS(E)                                                                        \
    E(pop3_open, "pop3.open", LOG_INFO, POP3_OPEN_FIELDS, "A POP3 session has its maildrop.") \
    E(pop3_close, "pop3.close", LOG_INFO, POP3_CLOSE_FIELDS, "A POP3 session ended.")         \
    E(pop3_refuse, "pop3.refuse", LOG_NOTICE, POP3_REFUSE_FIELDS,                             \
        "A user who had logged in got no maildrop, or a command failed.")
LOG_EVENTS_DECLARE(POP3_EVENTS)
extern const struct log_event *const pop3_events[];
