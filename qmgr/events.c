#include "qmgr/events.h"

LOG_EVENTS_DEFINE(qmgr, QMGR_EVENTS)
