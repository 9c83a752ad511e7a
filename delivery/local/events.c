#include "delivery/local/events.h"

LOG_EVENTS_DEFINE(local, LOCAL_EVENTS)
