#include "delivery/house/events.h"

LOG_EVENTS_DEFINE(house, HOUSE_EVENTS)
