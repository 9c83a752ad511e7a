/* What the session spawner logs. A session program's list of events has these as well:
 * {IMAP_EVENTS(LOG_POINTER_) SPAWNER_EVENTS(LOG_POINTER_) NULL}. */
#pragma once

#include "libutil/log.h"

#define SESSION_DIED_FIELDS(F, S) \
    F(S, STR, user, 0) F(S, I64, pid, 0) F(S, I64, signal, 0) F(S, I64, status, 0)
#define SESSION_REFUSE_FIELDS(F, S) F(S, STR, user, 0) F(S, STR, rule, 0) F(S, STR, why, 0)
#define SPAWNER_EVENTS(E)                                                \
    E(session_died, "session.died", LOG_ERROR, SESSION_DIED_FIELDS,      \
        "A session process ended by a signal or with an error.")         \
    E(session_refuse, "session.refuse", LOG_WARN, SESSION_REFUSE_FIELDS, \
        "A logged-in user was given no session.")
LOG_EVENTS_DECLARE(SPAWNER_EVENTS)
