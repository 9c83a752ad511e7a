/* What notifyd logs. */
#pragma once

#include "libutil/log.h"

#define NOTIFY_REFUSE_FIELDS(F, S) F(S, STR, peer, 0) F(S, STR, owner, 0) F(S, STR, rule, 0)
#define NOTIFYD_EVENTS(E)                                                                     \
    E(notify_refuse, "notify.refuse", LOG_WARN, NOTIFY_REFUSE_FIELDS,                         \
        "A process asked for what it may not have: watch without an owner or " \
        "what is not shared with it, or admit without " \
        "being a session spawner; or there are too many channels.")
LOG_EVENTS_DECLARE(NOTIFYD_EVENTS)
extern const struct log_event *const notifyd_events[];
