#include "brokers/keyd/events.h"

LOG_EVENTS_DEFINE(keyd, KEYD_EVENTS)
