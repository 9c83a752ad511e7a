#include "libmail/login_events.h"

LOG_EVENTS_DEFINE(login, LOGIN_EVENTS)
