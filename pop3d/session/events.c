#include "pop3d/session/events.h"

#include "libmail/spawner_events.h"

POP3_EVENTS(LOG_EVENT_)
const struct log_event *const pop3_events[] = {
    POP3_EVENTS(LOG_POINTER_) SPAWNER_EVENTS(LOG_POINTER_) NULL};
