/*
 * A report under way: one sender hears of one kind of news about one message.
 *
 * It tells of all recipients that fit, whatever portions they are delivered in: those of a message
 * that is in memory as a whole, or out of the file. Nothing of the message changes meanwhile, so
 * those that were told of are the ones that are done when the report is accepted. The report names
 * them in its own envelope (`about`), so that its acceptance and their end are one record on the
 * disk: after a crash nobody is told twice.
 */
#pragma once

#include "qmgr/qmgr.h"
#include "qmgr/roster.h"

struct report {
    struct qmgr *q;
    struct message *m;
    enum report_kind kind;
    uint32_t serial, group;
    uint32_t *places; /* in the content; NULL: the message has a roster */
    uint64_t indexes; /* the message is not parked: a bit for each */
    size_t n;         /* recipients told of */
    size_t expanded;  /* of them: nobody has received anything there */
    bool accepted;
    struct buf envelope;          /* of the message as it was sent for these, encoded */
    char sender[321];             /* the same as text, for the log */
    const struct content *source; /* where recipients are taken from: the content, or a copy ... */
    struct content *portion;      /* ... of a part of the file, owned */
    size_t at, from;              /* the next one of source, and of the file */
    struct buf packed;            /* for the agent */
    size_t ahead;                 /* bytes it has got */
    uint32_t left_out;
    int64_t until;
};

/* The report was taken (code OK), with this queue id, or refused. The report is freed. */
void report_over(struct report *, int code, uint64_t qid, struct slice why);
/* Those of a roster that it may tell of. */
struct roster_choice report_choice(const struct report *);
/* Whether it tells of this recipient. */
bool report_belongs(const struct report *, const struct rcpt *);
