/* Credentials and users: authd answers. A login front learns yes or no and a one-time ticket;
 * the session spawner redeems the ticket and believes authd, never the front (I2). Housekeeping
 * asks for everybody's mailbox, one at a time. */
#pragma once

#include "libutil/filemark.h"
#include "libutil/ipc.h"

enum { AUTH_TICKET = 32 };
enum auth_code { AUTH_OK, AUTH_FAILED, AUTH_TEMPORARY, AUTH_DISABLED };

#define AUTH_LOGIN_FIELDS(F, S)                                                                    \
    F(S, STR, user, 255) F(S, SECRET, password, 1024) F(S, STR, authzid, 255)                      \
        F(S, STR, service, 16) /* smtp imap pop3 */                                                \
        F(S, STR, client, 64) F(S, BOOL, tls, 0)
#define AUTH_VERDICT_FIELDS(F, S)                                                                  \
    F(S, U32, code, 0) F(S, STR, user, 255) /* canonical */                                        \
        F(S, SECRET, ticket, 32)            /* for imap and pop3 */                                \
        F(S, STR, why, 255)                 /* for the log, never for the client */
#define AUTH_REDEEM_FIELDS(F, S) F(S, SECRET, ticket, 32) F(S, STR, service, 16)
/* uid and gid are -1 for virtual users: the mail account. `mail` is the mail directory: relative
 * to the mail root for virtual users, absolute for system users. coexist: other programs use it too. */
#define AUTH_GRANT_FIELDS(F, S)                                                                    \
    F(S, U32, code, 0) F(S, STR, user, 255) F(S, I64, uid, 0) F(S, I64, gid, 0)                    \
        F(S, STR, mail, 1024) F(S, BOOL, coexist, 0)                                               \
        F(S, STR, quota, 1024) /* limits as libstore/quota.h reads them; empty: none */
#define AUTH_USER_FIELDS(F, S) F(S, STR, user, 255)
/* AUTH_OK: exists, AUTH_FAILED: does not. mail is the mail directory relative to the mail root;
 * quota as in the grant. */
#define AUTH_KNOWN_FIELDS(F, S)                                                                    \
    F(S, U32, code, 0) F(S, STR, mail, 1024) F(S, BOOL, coexist, 0) F(S, STR, quota, 1024)         \
        F(S, U64, generation, 0) /* of the users table; 0: not to be kept */
/* The users table of this generation, for lookupd; sent ahead of the first answer from it. */
#define AUTH_MARK_FIELDS(F, S) F(S, U64, generation, 0) FILEMARK_FIELDS(F, S)
/* Names that may have a mailbox, in order, those behind `after`: a line each, as many as fit; `more`
 * when there are others. Whose mail it is, and whether there is any, auth_owner tells. */
#define AUTH_LIST_FIELDS(F, S) F(S, STR, after, 255)
#define AUTH_NAMES_FIELDS(F, S) F(S, U32, code, 0) F(S, STR, names, 60000) F(S, BOOL, more, 0)
#define AUTH_OWNER_FIELDS(F, S) F(S, STR, user, 255)
#define AUTH_PROTO(M)                                                                              \
    M(auth_login, 1, IPC_CLIENT, 2, 30000, IPC_NO_FD, AUTH_LOGIN_FIELDS)                           \
    M(auth_verdict, 2, IPC_SERVER, 0, 0, IPC_NO_FD, AUTH_VERDICT_FIELDS)                           \
    M(auth_redeem, 3, IPC_CLIENT, 4, 10000, IPC_NO_FD, AUTH_REDEEM_FIELDS)                         \
    M(auth_grant, 4, IPC_SERVER, 0, 0, IPC_NO_FD, AUTH_GRANT_FIELDS)                               \
    M(auth_user, 5, IPC_CLIENT, 6, 10000, IPC_NO_FD, AUTH_USER_FIELDS)                             \
    M(auth_known, 6, IPC_SERVER, 0, 0, IPC_NO_FD, AUTH_KNOWN_FIELDS)                             \
    M(auth_list, 7, IPC_CLIENT, 8, 30000, IPC_NO_FD, AUTH_LIST_FIELDS)                             \
    M(auth_names, 8, IPC_SERVER, 0, 0, IPC_NO_FD, AUTH_NAMES_FIELDS)                               \
    M(auth_owner, 9, IPC_CLIENT, 4, 10000, IPC_NO_FD, AUTH_OWNER_FIELDS)                           \
    M(auth_mark, 10, IPC_SERVER, 0, 0, IPC_MAY_FD, AUTH_MARK_FIELDS)
IPC_DECLARE(auth, AUTH_PROTO)
