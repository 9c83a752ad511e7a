/*
 * Records of the spool log (docs/spool.md). A record is a 40-byte header, a payload, and zeros
 * up to a multiple of 8; numbers are little endian:
 *
 *     magic u32, version u16, type u16, sequence u64, committed u64, qid u64, length u32,
 *     crc u32 (CRC32C of header with crc = 0 and payload)
 *
 * `committed` is the last sequence known to be durable when this record was written: a damaged
 * record at or below a later record's `committed` is damage, above it an unfinished commit.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"
#include "qmgr/format.h"

enum {
    LOGREC_MAGIC = 0x52515631, /* "1VQR" on disk */
    LOGREC_VERSION = SPOOL_FORMAT,
    LOGREC_HEADER = 40,
    LOGREC_ALIGN = 8,
    LOGREC_BIG_NAME = 32,
    LOGREC_PAYLOAD_MAX = 256 * 1024 * 1024
};

enum logrec_type {
    LOGREC_SEGMENT = 1, /* first of every segment: u64 last durable sequence before it */
    LOGREC_ACCEPT,      /* struct logrec_accept */
    LOGREC_DONE,        /* u32 recipient indexes that need nothing more */
    LOGREC_FORGET,      /* the message is finished, parked, or was never accepted */
    LOGREC_EXPAND,      /* struct logrec_expand */
    LOGREC_MARK         /* in the head of the segment; qid: generation of the segment */
};

struct logrec {
    enum logrec_type type;
    uint16_t version;
    uint64_t sequence, committed, qid;
    struct slice payload;
    size_t total; /* bytes in the log, padding included */
};

struct logrec_accept {
    uint32_t crc;            /* CRC32C of a large body; 0: not known. Not in format 1 */
    struct slice envelope;   /* encoded struct envelope */
    struct slice recipients; /* encoded struct recipient, one after the other */
    uint64_t size;           /* of the body */
    struct slice big;        /* file name under big/, or empty: body follows */
    struct slice body;
};

/* Recipients that are done because others took their place, and these, all at once. `first` is the
 * index of the first new one. An expansion undoes earlier ones of the same message whose `first` is
 * not lower: they failed, and nobody acted on them. With nothing else in it, it does just that. */
struct logrec_expand {
    uint32_t first;
    struct slice done;       /* u32 indexes */
    struct slice recipients; /* encoded struct recipient, one after the other */
};

/* Starts a record in an empty buf; the payload is put after it. */
int logrec_begin(struct buf *, enum logrec_type, uint64_t qid);
/* Sets the length and pads. ERR_LIMIT when any put had failed. */
int logrec_finish(struct buf *) MUST_USE;
/* Gives a finished record its place in the log and its checksum. May be repeated. */
void logrec_seal(struct buf *, unsigned format, uint64_t sequence, uint64_t committed);
/* ACCEPT in one go; envelope and recipients are encoded in this format already. */
int logrec_put_accept(
    struct buf *, unsigned format, uint64_t qid, const struct logrec_accept *) MUST_USE;
/* MARK, finished and sealed: of the segment that begins with this sequence, all up to `committed`
 * was durable. */
void logrec_put_mark(struct buf *, unsigned format, uint64_t generation, uint64_t committed);
/* Enters the checksum of a large body into a finished ACCEPT that is not of format 1. */
void logrec_set_crc(struct buf *, uint32_t crc);

int logrec_put_expand(struct buf *, uint64_t qid, const struct logrec_expand *) MUST_USE;

/* Decodes the record at the start of s. ERR_VERSION: a newer version's record (out->version is
 * set); ERR_CORRUPT: not a whole, sound record. Slices point into s. */
int logrec_decode(struct slice s, struct logrec *out) MUST_USE;
int logrec_get_accept(struct slice payload, unsigned format, struct logrec_accept *out) MUST_USE;
int logrec_get_expand(struct slice payload, struct logrec_expand *out) MUST_USE;
