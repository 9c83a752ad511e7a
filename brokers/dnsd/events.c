#include "brokers/dnsd/events.h"

LOG_EVENTS_DEFINE(dnsd, DNSD_EVENTS)
