#include "brokers/lookupd/events.h"

LOG_EVENTS_DEFINE(lookupd, LOOKUPD_EVENTS)
