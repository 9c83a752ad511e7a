/* The control socket: veredus(1) is the client, master the server. */
#pragma once

#include "libutil/ipc.h"

/* One process, as `veredus status` lists it. */
#define CTL_PROCESS_FIELDS(F, S)                                                                   \
    F(S, STR, role, 32) F(S, U32, worker, 0) F(S, I64, pid, 0) F(S, I64, uid, 0)                   \
        F(S, I64, uptime, 0) /* seconds */                                                         \
        F(S, U32, restarts, 0) F(S, U32, sessions, 0)                                              \
        F(S, STR, state, 32) /* starting running draining waiting (for a restart) */               \
        F(S, STR, what, 255) /* a child's user or message */                                       \
        F(S, STR, sandbox, 1024)
RECORD_DECLARE(ctl_process, CTL_PROCESS_FIELDS)

#define CTL_NONE_FIELDS(F, S)
#define CTL_STATUS_FIELDS(F, S) F(S, U32, from, 0) /* first process to list */
#define CTL_STATUS_PAGE_FIELDS(F, S)                                                               \
    F(S, BYTES, processes, 60000) F(S, U32, next, 0) /* where to go on; 0: complete */             \
        F(S, I64, started, 0)
#define CTL_RESULT_FIELDS(F, S) F(S, I64, code, 0) F(S, STR, text, 32768)
#define CTL_CONNECT_FIELDS(F, S) F(S, U32, conversation, 0) F(S, U32, role, 0)
#define CTL_SELFTEST_FIELDS(F, S) F(S, STR, role, 32) F(S, U32, worker, 0)

#define CTL_PROTO(M)                                                                               \
    M(ctl_status, 1, IPC_CLIENT, 2, 10000, IPC_NO_FD, CTL_STATUS_FIELDS)                           \
    M(ctl_status_page, 2, IPC_SERVER, 0, 0, IPC_NO_FD, CTL_STATUS_PAGE_FIELDS)                     \
    M(ctl_stop, 3, IPC_CLIENT, 4, 60000, IPC_NO_FD, CTL_NONE_FIELDS)                               \
    M(ctl_result, 4, IPC_SERVER, 0, 0, IPC_NO_FD, CTL_RESULT_FIELDS)                               \
    M(ctl_reload, 5, IPC_CLIENT, 4, 60000, IPC_NO_FD, CTL_RELOAD_FIELDS)                           \
    M(ctl_connect, 6, IPC_CLIENT, 7, 10000, IPC_NO_FD, CTL_CONNECT_FIELDS)                         \
    M(ctl_connected, 7, IPC_SERVER, 0, 0, IPC_MAY_FD, CTL_RESULT_FIELDS)                           \
    M(ctl_selftest, 8, IPC_CLIENT, 4, 20000, IPC_NO_FD, CTL_SELFTEST_FIELDS)
#define CTL_RELOAD_FIELDS(F, S)
IPC_DECLARE(ctl, CTL_PROTO)
