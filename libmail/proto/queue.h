/* Administration of the queue: veredus(1) is the client, qmgr the server. */
#pragma once

#include "libmail/envelope.h"
#include "libutil/ipc.h"

/* One message in a listing. */
#define QUEUE_ENTRY_FIELDS(F, S)                                \
    F(S, U64, qid, 0)                                           \
    F(S, STR, sender, 320)                                      \
    F(S, I64, received, 0)                                      \
    F(S, U64, size, 0)                                          \
    F(S, U32, recipients, 0)  /* still waiting */               \
    F(S, STR, recipient, 320) /* the first of them */           \
    F(S, STR, state, 16)      /* active deferred held */        \
    F(S, I64, next, 0)        /* next attempt, ms since 1970 */ \
    F(S, U32, attempts, 0)                                      \
    F(S, STR, reason, 480)                                      \
    F(S, I64, until, 0) /* its sender does not want it delivered before; 0: at once */
RECORD_DECLARE(queue_entry, QUEUE_ENTRY_FIELDS)
#define QUEUE_RECIPIENT_FIELDS(F, S)                                                         \
    F(S, STR, address, 320)                                                                  \
    F(S, STR, original, 320)                                                                 \
    F(S, STR, orcpt, 500)                                                                    \
    F(S, U32, notify, 0)                                                                     \
    F(S, STR, transport, 32)                                                                 \
    F(S, STR, nexthop, 1024) F(S, STR, state, 16) /* waiting active delivered failed done */ \
        F(S, U32, attempts, 0) F(S, I64, next, 0) F(S, STR, reason, 480) F(S, STR, owner, 320)
RECORD_DECLARE(queue_recipient, QUEUE_RECIPIENT_FIELDS)

/* Which messages: a message fits when all that is given fits. Empty and 0: not given. */
#define QUEUE_FILTER_FIELDS(F, S)                                               \
    F(S, I64, older, 0)    /* at least so many ms old */                        \
    F(S, I64, younger, 0)  /* less than so many ms old */                       \
    F(S, STR, sender, 320) /* an address, @domain, or <> for the null sender */ \
    F(S, STR, domain, 255) /* of a recipient that waits */                      \
    F(S, STR, state, 16)   /* active deferred held damaged */                   \
    F(S, STR, reason, 200) /* part of why a recipient waits, in any case of letters */
RECORD_DECLARE(queue_filter, QUEUE_FILTER_FIELDS)

/* after: cursor, 0, then queue_page.next. filter: packed queue_filter, or empty: all. A page may be
 * empty and yet have more behind it. */
#define QUEUE_LIST_FIELDS(F, S) F(S, U64, after, 0) F(S, BYTES, filter, 1024)
#define QUEUE_PAGE_FIELDS(F, S) F(S, BYTES, entries, 60000) F(S, U64, next, 0) F(S, BOOL, more, 0)
#define QUEUE_SHOW_FIELDS(F, S) F(S, U64, qid, 0) F(S, U32, from, 0) /* first recipient */
#define QUEUE_DETAILS_FIELDS(F, S) \
    F(S, I64, code, 0)             \
    F(S, BYTES, envelope, 4096)    \
    F(S, U64, size, 0) F(S, STR, state, 16) F(S, BYTES, recipients, 50000) F(S, U32, next, 0)
/* verb: flush (and retry, the same) delete hold release bounce, with qid 0 for every message;
 * requeue redirect drain for one. argument: flush: only recipients in this domain; bounce: what the
 * sender is told; redirect: the address; drain: the node, [HOST]:PORT. All may be empty but the
 * last two. */
#define QUEUE_ACT_FIELDS(F, S) \
    F(S, STR, verb, 16)        \
    F(S, U64, qid, 0)          \
    F(S, STR, argument, 320) F(S, U64, act, 0) /* a number for all that one command does */
#define QUEUE_ACTED_FIELDS(F, S) F(S, I64, code, 0) F(S, U64, count, 0) F(S, STR, text, 255)
/* The body, read only. */
#define QUEUE_BODY_FIELDS(F, S) F(S, U64, qid, 0)
#define QUEUE_CONTENT_FIELDS(F, S) F(S, I64, code, 0) F(S, U64, size, 0)
/* Attempts, oldest first; partial: there were others, which are not told. from: cursor, 0, then next of the answer until that is 0. */
#define QUEUE_ATTEMPT_FIELDS(F, S)                              \
    F(S, STR, address, 320)                                     \
    F(S, I64, at, 0)                                            \
    F(S, U32, attempts, 0)                                      \
    F(S, STR, result, 16) /* deferred bounced delivered done */ \
    F(S, STR, dsn, 16) F(S, STR, mta, 255) F(S, STR, text, 480)
RECORD_DECLARE(queue_attempt, QUEUE_ATTEMPT_FIELDS)
#define QUEUE_HISTORY_FIELDS(F, S) F(S, U64, qid, 0) F(S, U32, from, 0)
#define QUEUE_PAST_FIELDS(F, S) \
    F(S, I64, code, 0) F(S, BYTES, attempts, 50000) F(S, U32, next, 0) F(S, BOOL, partial, 0)
/* What each message is to each domain: of its recipients that wait, or (by_sender) of its sender. A
 * message has a row for each domain; `first` is set in one of them, as is its size. after and from:
 * cursor, 0, then next and from of the answer. */
#define QUEUE_SHARE_FIELDS(F, S)                            \
    F(S, STR, domain, 255)                                  \
    F(S, STR, state, 16) /* active deferred held damaged */ \
    F(S, I64, received, 0)                                  \
    F(S, U32, recipients, 0) F(S, BOOL, first, 0) F(S, U64, size, 0) /* in the first only */
RECORD_DECLARE(queue_share, QUEUE_SHARE_FIELDS)
#define QUEUE_SHAPE_FIELDS(F, S) F(S, U64, after, 0) F(S, U32, from, 0) F(S, BOOL, by_sender, 0)
#define QUEUE_SHARES_FIELDS(F, S) \
    F(S, BYTES, shares, 60000) F(S, U64, next, 0) F(S, U32, from, 0) F(S, BOOL, more, 0)
#define QUEUE_PROTO(M)                                                          \
    M(queue_list, 1, IPC_CLIENT, 2, 30000, IPC_NO_FD, QUEUE_LIST_FIELDS)        \
    M(queue_page, 2, IPC_SERVER, 0, 0, IPC_NO_FD, QUEUE_PAGE_FIELDS)            \
    M(queue_show, 3, IPC_CLIENT, 4, 30000, IPC_NO_FD, QUEUE_SHOW_FIELDS)        \
    M(queue_details, 4, IPC_SERVER, 0, 0, IPC_NO_FD, QUEUE_DETAILS_FIELDS)      \
    M(queue_act, 5, IPC_CLIENT, 6, 60000, IPC_NO_FD, QUEUE_ACT_FIELDS)          \
    M(queue_acted, 6, IPC_SERVER, 0, 0, IPC_NO_FD, QUEUE_ACTED_FIELDS)          \
    M(queue_body, 7, IPC_CLIENT, 8, 30000, IPC_NO_FD, QUEUE_BODY_FIELDS)        \
    M(queue_content, 8, IPC_SERVER, 0, 0, IPC_MAY_FD, QUEUE_CONTENT_FIELDS)     \
    M(queue_history, 9, IPC_CLIENT, 10, 30000, IPC_NO_FD, QUEUE_HISTORY_FIELDS) \
    M(queue_past, 10, IPC_SERVER, 0, 0, IPC_NO_FD, QUEUE_PAST_FIELDS)           \
    M(queue_shape, 11, IPC_CLIENT, 12, 30000, IPC_NO_FD, QUEUE_SHAPE_FIELDS)    \
    M(queue_shares, 12, IPC_SERVER, 0, 0, IPC_NO_FD, QUEUE_SHARES_FIELDS)
IPC_DECLARE(queue, QUEUE_PROTO)
