/* Where an address goes: asked by smtpd for each RCPT and by bounce, answered by lookupd. */
#pragma once

#include "libmail/envelope.h"
#include "libutil/filemark.h"
#include "libutil/ipc.h"

#define ROUTE_CHECK_FIELDS(F, S)                                                         \
    F(S, STR, address, 320)                                                              \
    F(S, STR, sender, 320)                                                               \
    F(S, STR, login, 255)                                                                \
    F(S, STR, client, 64)                                                                \
    F(S, BOOL, may_relay, 0) /* authenticated, from configured networks, or ourselves */ \
    F(S, U64, size, 0)       /* as declared (RFC 1870); 0: not known */
#define ROUTE_VERDICT_FIELDS(F, S)                                                                \
    F(S, U32, code, 0) /* 250, or the SMTP reply code of the refusal */                           \
    F(S, STR, dsn, 16) /* enhanced status code */                                                 \
    F(S, STR, text, 400)                                                                          \
    F(S, STR, rule, 255)                                                                          \
    F(S, BYTES, recipients, 60000) /* packed recipient */                                         \
    F(S, STR, hold, 64)            /* what in the table of held mail fits; empty: nothing does */ \
    F(S, BOOL, keep, 0) /* the same for all who may relay, or may not, until a mark fails */
/* What verdicts are made from, for smtpd, ahead of the first verdict to be kept. */
enum route_source { ROUTE_ALIASES, ROUTE_VIRTUAL, ROUTE_TRANSPORT, ROUTE_USERS, ROUTE_SOURCES };
#define ROUTE_MARK_FIELDS(F, S) F(S, U32, source, 0) FILEMARK_FIELDS(F, S)
/* The administrator's words for a report (libmail/report_texts.h), as they stand in the table;
 * empty: there are none. languages: a list as in Accept-Language. */
#define ROUTE_WORDS_FIELDS(F, S) F(S, U32, kind, 0) F(S, STR, languages, 255)
#define ROUTE_WORDED_FIELDS(F, S) F(S, STR, subject, 200) F(S, STR, text, 8192)
#define ROUTE_PROTO(M)                                                     \
    M(route_check, 1, IPC_CLIENT, 2, 20000, IPC_NO_FD, ROUTE_CHECK_FIELDS) \
    M(route_verdict, 2, IPC_SERVER, 0, 0, IPC_NO_FD, ROUTE_VERDICT_FIELDS) \
    M(route_words, 3, IPC_CLIENT, 4, 20000, IPC_NO_FD, ROUTE_WORDS_FIELDS) \
    M(route_worded, 4, IPC_SERVER, 0, 0, IPC_NO_FD, ROUTE_WORDED_FIELDS)   \
    M(route_mark, 5, IPC_SERVER, 0, 0, IPC_MAY_FD, ROUTE_MARK_FIELDS)
IPC_DECLARE(route, ROUTE_PROTO)
