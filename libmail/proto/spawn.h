/* A login front hands a logged-in connection to the session spawner. */
#pragma once

#include "libutil/ipc.h"

#define SPAWN_START_FIELDS(F, S)                                                                   \
    F(S, SECRET, ticket, 32)                                                                       \
    F(S, STR, client, 64) F(S, BOOL, tls, 0)                                                       \
    F(S, STR, tag, 128)      /* imap: tag of the login command, answered by the session */         \
    F(S, BYTES, input, 49152) /* what the client sent after it, unread */
#define SPAWN_STARTED_FIELDS(F, S) F(S, U32, code, 0) F(S, I64, pid, 0) F(S, STR, why, 255)
#define SPAWN_PROTO(M)                                                                             \
    M(spawn_start, 1, IPC_CLIENT, 2, 15000, IPC_WITH_FD, SPAWN_START_FIELDS)                       \
    M(spawn_started, 2, IPC_SERVER, 0, 0, IPC_NO_FD, SPAWN_STARTED_FIELDS)
IPC_DECLARE(spawn, SPAWN_PROTO)
