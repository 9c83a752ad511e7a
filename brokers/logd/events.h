/* What logd itself has to say. */
#pragma once

#include "libutil/log.h"

#define LOG_FILE_FIELDS(F, S) F(S, STR, path, 0) F(S, STR, reason, 0) F(S, U64, lost, 0)
#define LOGD_EVENTS(E)                                                                 \
    E(log_opened, "log.open", LOG_INFO, LOG_FILE_FIELDS,                               \
        "The log file was opened, at start or because it had been moved away.")        \
    E(log_lost, "log.lost", LOG_ERROR, LOG_FILE_FIELDS, "Lines could not be written.") \
    E(log_dropped, "log.dropped", LOG_WARN, LOG_FILE_FIELDS,                           \
        "A process logged faster than lines could be taken; count lines are missing.")
LOG_EVENTS_DECLARE(LOGD_EVENTS)
extern const struct log_event *const logd_events[];
