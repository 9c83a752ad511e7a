#include "imapd/session/events.h"

LOG_EVENTS_DEFINE(imap, IMAP_EVENTS)
