#include "brokers/notifyd/events.h"

LOG_EVENTS_DEFINE(notifyd, NOTIFYD_EVENTS)
