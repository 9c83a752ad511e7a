#include "delivery/pipe/events.h"

LOG_EVENTS_DEFINE(pipe, PIPE_EVENTS)
