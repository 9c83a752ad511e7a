/*
 * Replies of an SMTP server as the client reads them (RFC 5321 §4.2, enhanced codes RFC 2034).
 *
 *     struct smtp_reply r;
 *     smtp_reply_init(&r);
 *     while ((rc = smtp_reply_read(&r, stream_in(s))) == 1) { use r; smtp_reply_reset(&r); }
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { SMTP_REPLY_LINE_MAX = 4096, SMTP_REPLY_LINES_MAX = 200, SMTP_REPLY_TEXT_MAX = 16384 };

struct smtp_reply {
    unsigned code; /* 200..559 */
    unsigned lines;
    char dsn[16];    /* "5.7.1", or "" when the reply has none */
    struct buf text; /* the lines without code and enhanced code, separated by \n */
    bool partial;    /* between the lines of one reply */
};

void smtp_reply_init(struct smtp_reply *);
/* Makes ready for the next reply, keeping the memory. */
void smtp_reply_reset(struct smtp_reply *);
void smtp_reply_clear(struct smtp_reply *);
/* Consumes from in. 1: a whole reply is there; 0: more input is needed; ERR_SYNTAX: this is not
 * SMTP; ERR_LIMIT: too long. Bare LF ends a line too: a client gains nothing by refusing it. */
int smtp_reply_read(struct smtp_reply *, struct buf *in) MUST_USE;
/* The i-th line of the text, or an empty slice with p == NULL. */
struct slice smtp_reply_line(const struct smtp_reply *, unsigned i);
/* Whether an EHLO reply offers keyword; *params gets what follows it. */
bool smtp_reply_offers(const struct smtp_reply *, const char *keyword, struct slice *params);
/* The reply on one line for logs and reports: "550 5.1.1 text text", cut to fit. */
void smtp_reply_print(const struct smtp_reply *, struct buf *out);
