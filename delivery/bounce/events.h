/* What the bounce agent logs. */
#pragma once

#include "libutil/log.h"

#define BOUNCE_REPORT_FIELDS(F, S) \
    F(S, STR, to, 0) F(S, STR, about, 0) F(S, STR, kind, 0) F(S, U64, size, 0)
#define BOUNCE_FAILED_FIELDS(F, S) F(S, STR, to, 0) F(S, STR, about, 0) F(S, STR, reason, 0)
#define BOUNCE_WORDS_FIELDS(F, S) F(S, STR, key, 0) F(S, STR, reason, 0)
#define BOUNCE_EVENTS(E)                                                                  \
    E(report_sent, "report.sent", LOG_INFO, BOUNCE_REPORT_FIELDS, "A report was queued.") \
    E(report_dropped, "report.dropped", LOG_WARN, BOUNCE_FAILED_FIELDS,                   \
        "Nobody can be told: neither the sender nor the postmaster can be reached.")      \
    E(report_failed, "report.failed", LOG_WARN, BOUNCE_FAILED_FIELDS,                     \
        "A report could not be queued now; it will be tried again.")                      \
    E(report_words, "report.words", LOG_WARN, BOUNCE_WORDS_FIELDS,                        \
        "A text in the table report-texts cannot be used; the report has ours. "          \
        "`veredus config check` names the line.")
LOG_EVENTS_DECLARE(BOUNCE_EVENTS)
extern const struct log_event *const bounce_events[];
