#include "brokers/authd/events.h"

LOG_EVENTS_DEFINE(authd, AUTHD_EVENTS)
