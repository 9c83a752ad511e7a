/*
 * Parked messages: one self-contained, readable file each, parked/QID-SIZE. The first SIZE bytes
 * are the message as it came; then follow blocks of text lines:
 *
 *     == veredus parked message, format 2 ==
 *     message qid=... due=... held=no warned=no
 *     envelope sender=... received=...
 *     recipient address=... transport=... nexthop=...        in order, one line each
 *     state index=0 state=1 attempts=2 next=... text=...
 *     end crc=1a2b3c4d
 *
 * The first block is whole. Later blocks hold a `message` line and `state` lines, of which the last
 * word counts, and perhaps `recipient` lines, which add to those there are. One at the end of the
 * file without its `end` line, or that lacks a sector, is an update that a crash cut off, and is
 * ignored. Any other that is not sound has been damaged since: it is reported, and what is before
 * and behind it counts. The body comes first so that
 * a large body becomes a parked file without being copied and an agent can be lent the file as it
 * is; updates only append.
 *
 * The file's modification time repeats `due`, so that a start reads no file.
 */
#pragma once

#include "libmail/envelope.h"
#include "libutil/arena.h"
#include "libutil/error.h"
#include "qmgr/format.h"

enum { PARKED_NAME = 48, PARKED_FORMAT = SPOOL_FORMAT };

/* What a recipient is at; numbers are on disk. */
enum rcpt_state {
    RCPT_WAITING = 1,   /* to be attempted at `next` */
    RCPT_FAILED = 2,    /* for good; the sender has not been told yet */
    RCPT_DELIVERED = 3, /* the sender wants to be told and has not been yet */
    RCPT_DONE = 4       /* nothing more to do */
};

#define PARKED_STATE_FIELDS(F, S)                                      \
    F(S, U32, index, 0)                                                \
    F(S, U32, state, 0)  /* enum rcpt_state */                         \
    F(S, U32, status, 0) /* enum deliver_status of the last attempt */ \
    F(S, U32, attempts, 0)                                             \
    F(S, I64, next, 0)                                                 \
    F(S, I64, last, 0) F(S, STR, dsn, 16) F(S, STR, text, 480) F(S, STR, mta, 255)
RECORD_DECLARE(parked_state, PARKED_STATE_FIELDS)

#define PARKED_MESSAGE_FIELDS(F, S)                                                        \
    F(S, STR, qid, 16)                                                                     \
    F(S, I64, due, 0)                                                                      \
    F(S, BOOL, held, 0)                                                                    \
    F(S, BOOL, warned, 0)                                                                  \
    F(S, U32, delivered, 0)                                                                \
    F(S, U32, bounced, 0) /* recipients so far */                                          \
    F(S, STR, crc, 8)     /* CRC32C of the body, 8 hexadecimal digits; empty: not known */ \
    F(S, U32, reports, 0) /* reports about it that have been accepted */
RECORD_DECLARE(parked_message, PARKED_MESSAGE_FIELDS)

struct parked {
    struct parked_message message;
    struct envelope envelope;
    struct recipient *recipients;
    struct parked_state *states;
    size_t count;
    unsigned format;     /* to write; 0: the newest */
    size_t end;          /* offset in the trailer after the last sound block: where to append */
    size_t bad, bad_end; /* from the first damaged update to the end of the last; bad_end 0: none */
};

/* "parked/QID-SIZE" */
void parked_path(uint64_t qid, uint64_t size, char out[PARKED_NAME]);
/* Reads a name in parked/. False for anything else. */
bool parked_parse_name(const char *name, uint64_t *qid, uint64_t *size);

/* The first block. */
int parked_put(struct buf *, const struct parked *) MUST_USE;
/* An update: message line, and the states of count recipients. */
int parked_put_update(struct buf *, unsigned format, const struct parked_message *,
    const struct parked_state *, size_t count) MUST_USE;
/* An update with more recipients: the last n of count. */
int parked_put_growth(struct buf *, unsigned format, const struct parked_message *,
    const struct recipient *added, size_t n, const struct parked_state *, size_t count) MUST_USE;
/* Reads everything after the body, which is at `offset` of the file. All strings live in the arena.
 * ERR_VERSION when a newer release wrote it, ERR_CORRUPT when the first block is not whole. */
int parked_parse(struct slice trailer, uint64_t offset, struct arena *, struct parked *out,
    struct error *) MUST_USE;
/* Judges the first line behind the body. ERR_VERSION, ERR_CORRUPT. */
int parked_check_format(struct slice line, struct error *) MUST_USE;
/* Takes the next sound block off the front. False at the end. */
bool parked_next_block(struct slice *trailer, struct slice *block);
/* What is behind the last sound block, at this offset of the file: how many bytes of it have been
 * whole once, and are damaged. 0: nothing, or an update that a crash cut off. */
size_t parked_damaged_tail(struct slice tail, uint64_t offset);
