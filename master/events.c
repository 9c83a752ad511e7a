#include "master/master.h"

LOG_EVENTS_DEFINE(master, MASTER_EVENTS)
