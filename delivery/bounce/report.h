/*
 * Delivery reports: multipart/report of a text for people, message/delivery-status for machines
 * (RFC 3464), and the returned message or its header (RFC 6522). Everything of ours is 7-bit;
 * what comes from elsewhere is made so, except the returned message, which stays as it was.
 *
 * Where the sender used SMTPUTF8 and something in the report is not ASCII, the report has the
 * forms of RFC 6533 and is itself sent with SMTPUTF8.
 */
#pragma once

#include "libmail/proto/deliver.h"
#include "libutil/buf.h"
#include "libutil/error.h"

struct report {
    enum report_kind kind;
    struct envelope envelope; /* of the message reported about */
    struct slice recipients;  /* packed struct report_recipient */
    uint32_t left_out;        /* recipients that did not fit */
    uint32_t serial, group;   /* for its own envelope, see about_serial there */
    uint64_t indexes;
    int64_t will_retry_until; /* delay: ms since 1970 */
    struct slice original;    /* as much of the message as we have, header first */
    uint64_t size;            /* of the whole message */
    bool whole;               /* return the message, not only its header */
    struct slice hostname;    /* ours */
    struct slice subject;     /* words with placeholders (libmail/report_texts.h) */
    struct slice text;
    struct slice to;     /* who is told */
    bool postmaster;     /* the sender cannot be told: this goes to the double-bounce address */
    bool utf8;           /* report_choose_form */
    uint64_t qid;        /* of the message reported about */
    uint64_t report_qid; /* of the report */
    int64_t now;         /* ms since 1970 */
};

/* Sets utf8, when everything else is set. */
void report_choose_form(struct report *);
/* Everything up to the returned text, with the boundary the end needs. */
enum { REPORT_BOUNDARY = 64 };
int report_head(const struct report *, struct buf *out, char boundary[REPORT_BOUNDARY]) MUST_USE;
/* What is returned, when it is in `original`. */
struct slice report_returned(const struct report *);
int report_tail(const char *boundary, struct buf *out) MUST_USE;
/* Whether the report holds bytes over 127. */
bool report_is_8bit(const struct report *);
