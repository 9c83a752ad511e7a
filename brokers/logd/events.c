#include "brokers/logd/events.h"

LOG_EVENTS_DEFINE(logd, LOGD_EVENTS)
