/* What a session (client) asks its spawner about folders that others share with its user, for it
 * sees nothing else of theirs: is there room, and let this be done with them. The spawner checks
 * that the folder is shared with this user, and asks an agent that has the mailbox (quota.h,
 * share.h). */
#pragma once

#include "libmail/proto/quota.h"
#include "libmail/proto/share.h"

/* owner: canonical name. directory: of a folder that is shared, in his mail directory; folder: its
 * name there. */
#define ROOM_ASK_FIELDS(F, S) \
    F(S, STR, owner, 255)     \
    F(S, STR, directory, 255) F(S, STR, folder, 1024) F(S, U64, bytes, 0) F(S, U64, messages, 0)
#define ROOM_CHANGE_FIELDS(F, S) \
    F(S, STR, owner, 255)        \
    F(S, STR, directory, 255) SHARE_WHAT_FIELDS(F, S)
#define ROOM_PROTO(M)                                                      \
    M(room_ask, 1, IPC_CLIENT, 2, 10000, IPC_NO_FD, ROOM_ASK_FIELDS)       \
    M(room_answer, 2, IPC_SERVER, 0, 0, IPC_NO_FD, QUOTA_ANSWER_FIELDS)    \
    M(room_change, 3, IPC_CLIENT, 4, 30000, IPC_NO_FD, ROOM_CHANGE_FIELDS) \
    M(room_changed, 4, IPC_SERVER, 0, 0, IPC_NO_FD, SHARE_DONE_FIELDS)
IPC_DECLARE(room, ROOM_PROTO)
