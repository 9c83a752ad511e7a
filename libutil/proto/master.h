/* What master and a daemon say to each other on the daemon's descriptor 3. master is the
 * server. A daemon's start: config, then listen and peer in any number, then go. */
#pragma once

#include "libutil/ipc.h"

enum { MASTER_FD = 3 };

#define MASTER_CONFIG_FIELDS(F, S)                                            \
    F(S, U32, worker, 0) /* number of this process among those of its role */ \
    F(S, BOOL, rootless, 0)                                                   \
    F(S, STR, directory, 4096) /* the instance's directory */
#define MASTER_LISTEN_FIELDS(F, S)                                                           \
    F(S, STR, name, 64)     /* the listen block's name */                                    \
    F(S, STR, protocol, 16) /* smtp submission lmtp submit imap pop3 */                      \
    F(S, STR, address, 255) /* as configured: 127.0.0.1:465s; a final s means TLS at once */ \
    F(S, BOOL, tls, 0)      /* that final s */
#define MASTER_PEER_FIELDS(F, S)                                                     \
    F(S, U32, conversation, 0) /* enum conversation */                               \
    F(S, U32, side, 0)         /* enum ipc_side: which the receiver takes */         \
    F(S, U32, role, 0)         /* enum role of the other end */                      \
    F(S, U32, worker, 0)                                                             \
    F(S, I64, uid, 0)   /* of the other end; for ctl, who is asking (SO_PEERCRED) */ \
    F(S, STR, user, 32) /* that user's name, for ctl; empty: it has none */
#define MASTER_GO_FIELDS(F, S)
#define MASTER_READY_FIELDS(F, S) F(S, STR, sandbox, 1024) /* sandbox_report_print */
#define MASTER_FAILED_FIELDS(F, S) F(S, STR, text, 511)
#define MASTER_DRAIN_FIELDS(F, S)
#define MASTER_ASK_FIELDS(F, S)
#define MASTER_FIGURES_FIELDS(F, S) \
    F(S, U32, sessions, 0) F(S, BYTES, children, 60000) /* packed master_child */
#define MASTER_SELFTEST_FIELDS(F, S)
#define MASTER_SELFTESTED_FIELDS(F, S) F(S, U32, failures, 0) F(S, BYTES, text, 16384)

/* The process at the other end of a conversation that the sender began does not answer: it is
 * killed, and started again. */
#define MASTER_HUNG_FIELDS(F, S) F(S, U32, role, 0) F(S, U32, worker, 0) F(S, STR, reason, 255)

/* A child process of a daemon (a session, a delivery). */
#define MASTER_CHILD_FIELDS(F, S) \
    F(S, I64, pid, 0) F(S, I64, uid, 0) F(S, I64, started, 0) F(S, STR, what, 255)
RECORD_DECLARE(master_child, MASTER_CHILD_FIELDS)

#define MASTER_PROTO(M)                                                              \
    M(master_config, 1, IPC_SERVER, 0, 0, IPC_WITH_FD, MASTER_CONFIG_FIELDS)         \
    M(master_listen, 2, IPC_SERVER, 0, 0, IPC_WITH_FD, MASTER_LISTEN_FIELDS)         \
    M(master_peer, 3, IPC_SERVER, 0, 0, IPC_WITH_FD, MASTER_PEER_FIELDS)             \
    M(master_go, 4, IPC_SERVER, 0, 0, IPC_NO_FD, MASTER_GO_FIELDS)                   \
    M(master_ready, 5, IPC_CLIENT, 0, 0, IPC_NO_FD, MASTER_READY_FIELDS)             \
    M(master_failed, 6, IPC_CLIENT, 0, 0, IPC_NO_FD, MASTER_FAILED_FIELDS)           \
    M(master_drain, 7, IPC_SERVER, 0, 0, IPC_NO_FD, MASTER_DRAIN_FIELDS)             \
    M(master_ask, 8, IPC_SERVER, 9, 3000, IPC_NO_FD, MASTER_ASK_FIELDS)              \
    M(master_figures, 9, IPC_CLIENT, 0, 0, IPC_NO_FD, MASTER_FIGURES_FIELDS)         \
    M(master_selftest, 10, IPC_SERVER, 11, 10000, IPC_NO_FD, MASTER_SELFTEST_FIELDS) \
    M(master_selftested, 11, IPC_CLIENT, 0, 0, IPC_NO_FD, MASTER_SELFTESTED_FIELDS)  \
    M(master_hung, 12, IPC_CLIENT, 0, 0, IPC_NO_FD, MASTER_HUNG_FIELDS)
IPC_DECLARE(master, MASTER_PROTO)
