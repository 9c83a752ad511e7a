#include "delivery/virtual/events.h"

LOG_EVENTS_DEFINE(virtual, VIRTUAL_EVENTS)
