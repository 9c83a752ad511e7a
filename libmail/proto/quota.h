/* May mail for this mailbox come in: lookupd (client) asks an agent that has the mailboxes, at each
 * RCPT for a user with limits, and of others when a table has changed; a session spawner for those
 * who put mail into folders of others. */
#pragma once

#include "libutil/ipc.h"

enum quota_verdict { QUOTA_FITS, QUOTA_FULL, QUOTA_FULL_DEFER, QUOTA_UNKNOWN };

/* mail: the mail directory relative to the mail root; for local, the account. coexist: other
 * programs use it too. limits: as authd gives them (libstore/quota.h); the agent remembers them for
 * the delivery; empty: as remembered; blank: none any more.
 * size: of the message as announced, 0 when it was not. append: by a user, so without grace, and
 * `messages` of together `size` bytes into just this folder; otherwise one message, for the folder
 * that +detail would name. To a user who asks about no messages also the mailbox's totals and
 * limits are told (0: no limit). */
#define QUOTA_ASK_FIELDS(F, S) \
    F(S, STR, mail, 1024)      \
    F(S, BOOL, coexist, 0)     \
    F(S, STR, folder, 1024)    \
    F(S, STR, limits, 1024) F(S, U64, size, 0) F(S, U64, messages, 0) F(S, BOOL, append, 0)
#define QUOTA_ANSWER_FIELDS(F, S) \
    F(S, U32, verdict, 0)         \
    F(S, U64, used_bytes, 0)      \
    F(S, U64, used_messages, 0) F(S, U64, max_bytes, 0) F(S, U64, max_messages, 0)
#define QUOTA_PROTO(M)                                                \
    M(quota_ask, 1, IPC_CLIENT, 2, 5000, IPC_NO_FD, QUOTA_ASK_FIELDS) \
    M(quota_answer, 2, IPC_SERVER, 0, 0, IPC_NO_FD, QUOTA_ANSWER_FIELDS)
IPC_DECLARE(quota, QUOTA_PROTO)
