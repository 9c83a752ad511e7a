/* What pipe logs. */
#pragma once

#include "libutil/log.h"

#define PIPE_RUN_FIELDS(F, S)                                                          \
    F(S, STR, to, 0)                                                                   \
    F(S, STR, account, 0)                                                              \
    F(S, STR, block, 0) F(S, STR, file, 0) F(S, STR, result, 0) F(S, U32, status, 0) F(S, U32, signal, 0) \
        F(S, I64, ms, 0) F(S, STR, reason, 0)
#define PIPE_EVENTS(E)                                                                        \
    E(pipe_run, "dlv.command", LOG_INFO, PIPE_RUN_FIELDS,                                     \
        "A command was to be run for a message, or a file to be appended to. account: as whom; " \
        "block: the command block; file: that an alias names; "                               \
        "result: delivered, deferred or failed; status, signal: how it ended.")
LOG_EVENTS_DECLARE(PIPE_EVENTS)
extern const struct log_event *const pipe_events[];
