/* New messages into qmgr: from smtpd and bounce. One record carries a small message whole; more
 * recipients come before it, a large body goes into a file whose descriptor qmgr lends. */
#pragma once

#include "libmail/envelope.h"
#include "libutil/ipc.h"

enum { INJECT_INLINE_BODY = 48 * 1024, INJECT_RECIPIENTS = 11 * 1024, INJECT_MORE = 60000 };

/* Recipients that do not fit into inject_accept, under a number the client chose. */
#define INJECT_MORE_FIELDS(F, S) F(S, U64, txn, 0) F(S, BYTES, recipients, 60000)
/* Forgets what inject_more and inject_open left under txn. */
#define INJECT_DROP_FIELDS(F, S) F(S, U64, txn, 0)
/* Asks for a file for a body over INJECT_INLINE_BODY. */
#define INJECT_OPEN_FIELDS(F, S) F(S, U64, txn, 0)
#define INJECT_FILE_FIELDS(F, S) F(S, U32, code, 0) F(S, STR, dsn, 16) F(S, STR, text, 255)
/* The client must have closed the lent descriptor: qmgr takes a read lease as proof. The body
 * has CRLF line ends and includes the Received field, not Return-Path. */
#define INJECT_ACCEPT_FIELDS(F, S)                                               \
    F(S, U64, txn, 0)                                                            \
    F(S, BYTES, envelope, 4096) F(S, BYTES, recipients, 11264)                   \
        F(S, U64, size, 0)       /* of the body */                               \
        F(S, BYTES, body, 49152) /* empty when the body is in the file of txn */ \
        F(S, U64, qid, 0)        /* chosen by the client so that Received can name it; random */
/* code 250, or 451/452; sent only after the record is durable (I4). */
#define INJECT_RESULT_FIELDS(F, S) \
    F(S, U32, code, 0)             \
    F(S, STR, dsn, 16) F(S, STR, text, 255) F(S, U64, qid, 0) F(S, U32, commit_us, 0)
/* ETRN (RFC 1985): what waits for this domain is due now; with its subdomains after a leading
 * dot. The answer counts the messages. */
#define INJECT_ETRN_FIELDS(F, S) F(S, STR, domain, 256)
#define INJECT_ETRNED_FIELDS(F, S) F(S, U64, count, 0)
#define INJECT_PROTO(M)                                                         \
    M(inject_more, 1, IPC_CLIENT, 0, 0, IPC_NO_FD, INJECT_MORE_FIELDS)          \
    M(inject_drop, 2, IPC_CLIENT, 0, 0, IPC_NO_FD, INJECT_DROP_FIELDS)          \
    M(inject_open, 3, IPC_CLIENT, 4, 30000, IPC_NO_FD, INJECT_OPEN_FIELDS)      \
    M(inject_file, 4, IPC_SERVER, 0, 0, IPC_MAY_FD, INJECT_FILE_FIELDS)         \
    M(inject_accept, 5, IPC_CLIENT, 6, 120000, IPC_NO_FD, INJECT_ACCEPT_FIELDS) \
    M(inject_result, 6, IPC_SERVER, 0, 0, IPC_NO_FD, INJECT_RESULT_FIELDS)      \
    M(inject_etrn, 7, IPC_CLIENT, 8, 30000, IPC_NO_FD, INJECT_ETRN_FIELDS)      \
    M(inject_etrned, 8, IPC_SERVER, 0, 0, IPC_NO_FD, INJECT_ETRNED_FIELDS)
IPC_DECLARE(inject, INJECT_PROTO)
