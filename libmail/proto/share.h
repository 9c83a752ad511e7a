/* Folders of somebody else are administered: the spawner of a session that asked for it (client)
 * has an agent that has the mailboxes (server) do what the user may by the folder's list. */
#pragma once

#include "libutil/ipc.h"

/* With the right that each needs (RFC 4314 §4). */
enum share_verb {
    SHARE_LIST,   /* a: changes the entry of `other` in the folder's list */
    SHARE_CREATE, /* k, in the nearest folder above that there is: makes the folder */
    SHARE_DELETE, /* x */
    SHARE_RENAME, /* x, and k above `other`: gives it that name */
};

/* mail: the owner's mail directory relative to the mail root. user: who asks, by his canonical
 * name. Folders are named as their owner sees them; how: enum acl_how; rights: bits
 * of enum acl_right (libstore/acl.h). */
#define SHARE_WHAT_FIELDS(F, S) \
    F(S, U32, verb, 0)          \
    F(S, STR, folder, 1024) F(S, STR, other, 1024) F(S, U32, how, 0) F(S, U32, rights, 0)
#define SHARE_ASK_FIELDS(F, S) \
    F(S, STR, mail, 1024)      \
    F(S, STR, user, 255) SHARE_WHAT_FIELDS(F, S)
/* code: OK or an enum error; ERR_NOT_FOUND also where the user may not know of the folder.
 * mailbox: of one that was made, its number (RFC 8474). */
#define SHARE_DONE_FIELDS(F, S) F(S, I64, code, 0) F(S, U64, mailbox, 0)
#define SHARE_PROTO(M)                                                 \
    M(share_ask, 1, IPC_CLIENT, 2, 20000, IPC_NO_FD, SHARE_ASK_FIELDS) \
    M(share_done, 2, IPC_SERVER, 0, 0, IPC_NO_FD, SHARE_DONE_FIELDS)
IPC_DECLARE(share, SHARE_PROTO)
