#include "delivery/remote/events.h"

LOG_EVENTS_DEFINE(remote, REMOTE_EVENTS)
