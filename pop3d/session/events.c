#include "pop3d/session/events.h"

LOG_EVENTS_DEFINE(pop3, POP3_EVENTS)
