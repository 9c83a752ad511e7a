/*
 * One message on its way in: from MAIL to the answer after its content. It exists only between
 * these; transaction_free is the one way to end it, on every path.
 *
 *     MAIL     sender known, no recipient yet
 *     RCPT     at least one recipient accepted
 *     HEADER   content arrives, kept in memory until its header is complete
 *     BODY     content arrives, in memory up to INJECT_INLINE_BODY, in the lent file beyond
 *     COMMIT   qmgr has everything and makes it durable
 */
#pragma once

#include "libmail/proto/inject.h"
#include "libmail/smtp_data.h"
#include "libmail/smtp_grammar.h"
#include "libutil/arena.h"
#include "libutil/log.h"
#include "libutil/map.h"

enum transaction_state { TXN_MAIL, TXN_RCPT, TXN_HEADER, TXN_BODY, TXN_COMMIT };

enum {
    TXN_ARENA_MAX = 16 * 1024 * 1024,      /* what max-recipients lets anybody use is far less */
    TXN_RECIPIENTS_MAX = 48 * 1024 * 1024, /* packed bytes after alias expansion */
    TXN_HEADER_MAX = 256 * 1024,
    TXN_LINE_MAX = 64 * 1024 /* octets of a line of content */
};

struct transaction {
    enum transaction_state state;
    struct arena arena;
    struct log log; /* qid= */
    uint64_t qid;
    struct smtp_mail mail;
    struct slice sender;    /* qualified normal form; empty: null sender */
    int64_t priority;       /* after policy */
    int64_t hold_until;     /* ms since 1970, or 0 */
    struct slice hold;      /* what puts it on hold, or empty */
    unsigned accepted;      /* RCPT commands answered with 250 */
    unsigned nrecipients;   /* packed */
    struct buf recipients;  /* packed struct recipient */
    struct map seen;        /* recipients already packed */
    bool wishes;            /* some of them were asked for again, with NOTIFY=SUCCESS */
    struct slice only_rcpt; /* the address of the first RCPT */
    /* the RCPT lookupd is being asked about */
    struct smtp_rcpt rcpt;
    struct slice rcpt_text;
    /* content */
    struct smtp_data data;
    struct buf content; /* not yet written to the file */
    size_t scanned;     /* of content, for the end of the header */
    uint64_t size;      /* of the body as stored: in the file, then in content as well */
    int fd;             /* lent by qmgr, or -1 */
    bool opened;        /* qmgr was asked for a file */
    bool mentioned;     /* qmgr holds something under this qid that must be dropped */
    uint64_t qmgr_epoch;
    struct smtp_refusal failure; /* decided while content still arrives; code 0: none */
    const char *failure_rule;
    struct slice message_id;
    bool bulk, utf8_header;
};

struct transaction *transaction_new(const struct log *session_log, size_t recipients_max);
/* Frees everything, the file included. What qmgr holds is the caller's to drop. NULL is fine. */
void transaction_free(struct transaction *);
/* Remembers a failure; the first one counts. */
void transaction_fail(
    struct transaction *, unsigned code, const char *dsn, const char *text, const char *rule);
/* Adds what lookupd made of the current RCPT, without those that are there already. ERR_LIMIT,
 * or ERR_SYNTAX when the records are malformed or none; then nothing was added. */
int transaction_add_recipients(struct transaction *, struct slice packed) MUST_USE;
/* Before the recipients are sent on: gives those that were named more than once all that was asked
 * for them (RFC 3461). */
void transaction_settle(struct transaction *);
