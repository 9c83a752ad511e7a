/* Work from qmgr (client) to a delivery agent (server): one message, up to
 * DELIVER_RECIPIENTS_MAX recipients of one destination. */
#pragma once

#include "libmail/envelope.h"
#include "libutil/ipc.h"

enum { DELIVER_RECIPIENTS_MAX = 50, DELIVER_TARGETS_MAX = 16 * 1024 };
enum deliver_status {
    DELIVERED,
    DEFERRED,
    FAILED,
    RELAYED_NO_DSN, /* success was to be reported, and the next hop does not do it */
    DELIVER_EXPIRED,
    EXPANDED /* an alias of several recipients: TRANSPORT_EXPANDED */
};

/* The outcome for one recipient. Every recipient gets exactly one; any left out counts as
 * deferred. With DELIVERED and targets, the recipient's own words (~/.forward) name others that
 * take its place besides what was delivered: qmgr has them routed and notes it in one step, so that
 * each gets the message once. A target is an address, a name of this host, or |command. */
#define OUTCOME_FIELDS(F, S)                                                                    \
    F(S, U32, index, 0)  /* position in deliver_start.recipients */                             \
    F(S, U32, status, 0) /* enum deliver_status */                                              \
    F(S, STR, dsn, 16)                                                                          \
    F(S, STR, text, 480)        /* reply or reason */                                           \
    F(S, STR, mta, 255)         /* remote host name */                                          \
    F(S, BOOL, site, 0)         /* the destination as a whole failed: connect, greeting, TLS */ \
    F(S, BYTES, targets, 16384) /* buf_lv each */                                               \
    F(S, BOOL, only, 0)         /* nothing was stored besides */
RECORD_DECLARE(outcome, OUTCOME_FIELDS)

/* The agent has as long as it needs, as long as it answers pings.
 * delivery: unique per (message, recipient set) and stable over retries and restarts, so that a
 * mailbox accepts it once (I10): recipient i has delivery id `delivery + i`. The body (CRLF,
 * without Return-Path) is inline, or in the read-only descriptor. */
#define DELIVER_START_FIELDS(F, S) \
    F(S, U64, delivery, 0)         \
    F(S, BYTES, envelope, 4096)    \
    F(S, BYTES, recipients, 11264) F(S, U64, size, 0) F(S, BYTES, body, 49152) F(S, U32, attempt, 0)
#define DELIVER_DONE_FIELDS(F, S) F(S, BYTES, outcomes, 60000) /* packed outcome */
/* Makes everything delivered so far durable (virtual and local): the spool record is kept until
 * then. code: enum error_code. */
#define DELIVER_SYNC_FIELDS(F, S)
#define DELIVER_SYNCED_FIELDS(F, S) F(S, I64, code, 0) F(S, STR, text, 255)

/* To the bounce agent: write one report to the sender about these recipients. */
enum report_kind { REPORT_FAILURE, REPORT_DELAY, REPORT_SUCCESS };
#define REPORT_RECIPIENT_FIELDS(F, S)              \
    F(S, STR, address, 320)                        \
    F(S, STR, original, 320)                       \
    F(S, STR, orcpt, 500)                          \
    F(S, U32, status, 0) /* enum deliver_status */ \
    F(S, STR, dsn, 16) F(S, STR, text, 480) F(S, STR, mta, 255) F(S, I64, last_attempt, 0)
RECORD_DECLARE(report_recipient, REPORT_RECIPIENT_FIELDS)
#define DELIVER_REPORT_FIELDS(F, S)                                                       \
    F(S, U32, kind, 0)                                                                    \
    F(S, BYTES, envelope, 4096)                                                           \
    F(S, BYTES, recipients, 24576) /* packed report_recipient; the agent tells if cut */  \
    F(S, U64, size, 0)                                                                    \
    F(S, I64, will_retry_until, 0)                                                        \
    F(S, BYTES, header, 32768) /* header and, where it fits, body; else the descriptor */ \
    F(S, U32, left_out, 0)     /* recipients that did not fit */                          \
    F(S, U32, ahead, 0)        /* bytes of recipients sent before */                      \
    F(S, U32, serial, 0)       /* for the report's envelope: about_serial ... */          \
    F(S, U32, group, 0) F(S, U64, indexes, 0)
/* Recipients that do not fit into deliver_report, ahead of it. */
#define DELIVER_REPORT_MORE_FIELDS(F, S) \
    F(S, U64, qid, 0) F(S, U32, ahead, 0) F(S, BYTES, recipients, 60000)
/* The agent is ready for more. */
#define DELIVER_REPORT_TAKEN_FIELDS(F, S)
#define DELIVER_REPORTED_FIELDS(F, S) F(S, I64, code, 0) F(S, STR, text, 255) F(S, U64, qid, 0)
/* Whether the agent's process still does anything. Every agent answers at once, from its loop. */
#define DELIVER_PING_FIELDS(F, S)
#define DELIVER_PONG_FIELDS(F, S)
/* remote asks before it connects to an MX host; request: the id of the deliver_start. Not granted:
 * the host has all the connections it may have; the agent ends the delivery at once, and no attempt
 * was made. */
#define DELIVER_HOST_FIELDS(F, S) F(S, U32, request, 0) F(S, STR, host, 255)
#define DELIVER_GRANT_FIELDS(F, S) F(S, BOOL, granted, 0)
#define DELIVER_PROTO(M)                                                                      \
    M(deliver_start, 1, IPC_CLIENT, 2, 0, IPC_MAY_FD, DELIVER_START_FIELDS)                   \
    M(deliver_done, 2, IPC_SERVER, 0, 0, IPC_NO_FD, DELIVER_DONE_FIELDS)                      \
    M(deliver_sync, 3, IPC_CLIENT, 4, 60000, IPC_NO_FD, DELIVER_SYNC_FIELDS)                  \
    M(deliver_synced, 4, IPC_SERVER, 0, 0, IPC_NO_FD, DELIVER_SYNCED_FIELDS)                  \
    M(deliver_report, 5, IPC_CLIENT, 6, 120000, IPC_MAY_FD, DELIVER_REPORT_FIELDS)            \
    M(deliver_reported, 6, IPC_SERVER, 0, 0, IPC_NO_FD, DELIVER_REPORTED_FIELDS)              \
    M(deliver_report_more, 11, IPC_CLIENT, 12, 120000, IPC_NO_FD, DELIVER_REPORT_MORE_FIELDS) \
    M(deliver_report_taken, 12, IPC_SERVER, 0, 0, IPC_NO_FD, DELIVER_REPORT_TAKEN_FIELDS)     \
    M(deliver_ping, 7, IPC_CLIENT, 8, 0, IPC_NO_FD, DELIVER_PING_FIELDS)                      \
    M(deliver_pong, 8, IPC_SERVER, 0, 0, IPC_NO_FD, DELIVER_PONG_FIELDS)                      \
    M(deliver_host, 9, IPC_SERVER, 10, 30000, IPC_NO_FD, DELIVER_HOST_FIELDS)                 \
    M(deliver_grant, 10, IPC_CLIENT, 0, 0, IPC_NO_FD, DELIVER_GRANT_FIELDS)
IPC_DECLARE(deliver, DELIVER_PROTO)

/* Answers a ping. False: it was something else. For agents. */
bool deliver_pong(struct ipc *, const struct ipc_in *);
