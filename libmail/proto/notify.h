/* Mailbox changes: who commits a change says so; who watches that mailbox hears it. notifyd is
 * the server. An owner is named by the mail directory that authd grants (auth_grant.mail). A
 * channel given by notify_admit watches and changes that owner's mailboxes, without naming him;
 * only the session spawners may give one. A watch is answered by an event of sequence 0: what comes
 * later is told, what came before has to be looked for.
 *
 * Folders that others share with the owner come by notify_share, which an IMAP session sends for
 * each, and then notify_seal, before it reads a byte of its client: so the list is the spawner's,
 * which looked at the folders' own lists, and nothing can be added to it later. */
#pragma once

#include "libutil/ipc.h"

#define NOTIFY_CHANGED_FIELDS(F, S)                                      \
    F(S, STR, owner, 1024)  /* its mail directory, as authd grants it */ \
    F(S, STR, mailbox, 255) /* folder name as in the store, "INBOX" */   \
    F(S, U64, sequence, 0)
#define NOTIFY_WATCH_FIELDS(F, S)                          \
    F(S, STR, owner, 1024)  /* empty: the channel's own */ \
    F(S, STR, mailbox, 255) /* empty: stop */
#define NOTIFY_EVENT_FIELDS(F, S) F(S, STR, mailbox, 255) F(S, U64, sequence, 0)
#define NOTIFY_ADMIT_FIELDS(F, S) F(S, STR, owner, 1024)
#define NOTIFY_SHARE_FIELDS(F, S) F(S, STR, owner, 1024) F(S, STR, mailbox, 255)
#define NOTIFY_SEAL_FIELDS(F, S) F(S, U32, shares, 0) /* how many there were */
#define NOTIFY_PROTO(M)                                                      \
    M(notify_changed, 1, IPC_CLIENT, 0, 0, IPC_NO_FD, NOTIFY_CHANGED_FIELDS) \
    M(notify_watch, 2, IPC_CLIENT, 0, 0, IPC_NO_FD, NOTIFY_WATCH_FIELDS)     \
    M(notify_event, 3, IPC_SERVER, 0, 0, IPC_NO_FD, NOTIFY_EVENT_FIELDS)     \
    M(notify_admit, 4, IPC_CLIENT, 0, 0, IPC_WITH_FD, NOTIFY_ADMIT_FIELDS)   \
    M(notify_share, 5, IPC_CLIENT, 0, 0, IPC_NO_FD, NOTIFY_SHARE_FIELDS)     \
    M(notify_seal, 6, IPC_CLIENT, 0, 0, IPC_NO_FD, NOTIFY_SEAL_FIELDS)
IPC_DECLARE(notify, NOTIFY_PROTO)
