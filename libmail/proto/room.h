/* May a session (client) put messages into a folder that somebody shares with its user: it sees
 * nothing else of the owner's, so it asks its spawner, which checks that the folder is shared with
 * this user and asks an agent that has the mailbox (quota.h). */
#pragma once

#include "libmail/proto/quota.h"

/* owner: canonical name. directory: the folder's in his mail directory; folder: its name there. */
#define ROOM_ASK_FIELDS(F, S) \
    F(S, STR, owner, 255)     \
    F(S, STR, directory, 255) F(S, STR, folder, 255) F(S, U64, bytes, 0) F(S, U64, messages, 0)
#define ROOM_PROTO(M)                                                \
    M(room_ask, 1, IPC_CLIENT, 2, 10000, IPC_NO_FD, ROOM_ASK_FIELDS) \
    M(room_answer, 2, IPC_SERVER, 0, 0, IPC_NO_FD, QUOTA_ANSWER_FIELDS)
IPC_DECLARE(room, ROOM_PROTO)
