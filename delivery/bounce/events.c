#include "delivery/bounce/events.h"

LOG_EVENTS_DEFINE(bounce, BOUNCE_EVENTS)
