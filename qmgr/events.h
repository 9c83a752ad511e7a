/* What qmgr logs. */
#pragma once

#include "libutil/log.h"

#define QMGR_DLV_DONE_FIELDS(F, S) \
    F(S, STR, to, 0)               \
    F(S, STR, orig_to, 0)          \
    F(S, STR, via, 0)              \
    F(S, STR, result, 0)           \
    F(S, STR, dsn, 0)              \
    F(S, STR, mx, 0) F(S, STR, reply, 0) F(S, I64, delay_ms, 0) F(S, U32, try, 0) F(S, I64, next, 0)
#define QMGR_MSG_DONE_FIELDS(F, S) \
    F(S, STR, result, 0) F(S, U32, delivered, 0) F(S, U32, bounced, 0) F(S, I64, life_ms, 0)
#define QMGR_MSG_BOUNCE_FIELDS(F, S) \
    F(S, STR, kind, 0)               \
    F(S, STR, sender, 0) F(S, U32, nrcpt, 0) F(S, STR, report, 0) F(S, STR, reason, 0)
#define QMGR_MSG_PARK_FIELDS(F, S) F(S, STR, why, 0) F(S, I64, next, 0)
#define QMGR_ACT_FIELDS(F, S)                                                         \
    F(S, STR, by_uid, 0)                                                              \
    F(S, STR, by, 0)                                                                  \
    F(S, STR, verb, 0)                                                                \
    F(S, STR, argument, 0) F(S, STR, result, 0) F(S, U64, count, 0) F(S, STR, act, 0) \
        F(S, STR, qids, 0)
#define QMGR_RECOVERED_FIELDS(F, S) \
    F(S, U64, log, 0) F(S, U64, parked, 0) F(S, U64, troubles, 0) F(S, I64, took_ms, 0)
#define QMGR_SPOOL_FIELDS(F, S) F(S, STR, what, 0) F(S, STR, reason, 0)
#define QMGR_COMMITS_FIELDS(F, S) \
    F(S, U64, batches, 0)         \
    F(S, U64, records, 0)         \
    F(S, U64, syncs, 0) F(S, U64, bytes, 0) F(S, U32, free_segments, 0) F(S, U64, queued, 0)
#define QMGR_AGENT_FIELDS(F, S) F(S, STR, agent, 0) F(S, STR, reason, 0)

#define QMGR_EVENTS(E)                                                                             \
    E(dlv_done, "dlv.done", LOG_INFO, QMGR_DLV_DONE_FIELDS,                                        \
        "An attempt for one recipient is over.")                                                   \
    E(msg_done, "msg.done", LOG_INFO, QMGR_MSG_DONE_FIELDS, "A message left the queue.")           \
    E(msg_bounce, "msg.bounce", LOG_INFO, QMGR_MSG_BOUNCE_FIELDS,                                  \
        "The sender was told about recipients, or would have been.")                               \
    E(msg_park, "msg.park", LOG_DEBUG, QMGR_MSG_PARK_FIELDS, "A message has to wait.")             \
    E(queue_action, "queue.act", LOG_NOTICE, QMGR_ACT_FIELDS,                                      \
        "Somebody acted on a message; what belongs to one command has the same act. Without qid: " \
        "on "                                                                                      \
        "all, with their number, after lines that name them (flush: many in qids).")               \
    E(spool_recovered, "spool.recovered", LOG_INFO, QMGR_RECOVERED_FIELDS,                         \
        "What the spool held at start.")                                                           \
    E(spool_trouble, "spool.trouble", LOG_ERROR, QMGR_SPOOL_FIELDS,                                \
        "Something in the spool is damaged, foreign or missing.")                                  \
    E(spool_failed, "spool.failed", LOG_ERROR, QMGR_SPOOL_FIELDS, "The disk refused.")             \
    E(spool_commits, "spool.commits", LOG_DEBUG, QMGR_COMMITS_FIELDS, "Figures since the start.")  \
    E(agent_trouble, "agent.trouble", LOG_WARN, QMGR_AGENT_FIELDS,                                 \
        "A delivery agent did not answer as it should.")
LOG_EVENTS_DECLARE(QMGR_EVENTS)
extern const struct log_event *const qmgr_events[];
