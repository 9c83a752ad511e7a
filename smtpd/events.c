#include "smtpd/events.h"

LOG_EVENTS_DEFINE(smtpd, SMTPD_EVENTS)
