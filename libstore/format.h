/*
 * The files beside a Maildir, as docs/store.md describes them: veredus.index (a snapshot),
 * veredus.log (transactions since), veredus.cache (texts made from messages). Little endian;
 * every part has a CRC32C; a higher version is refused.
 *
 * Encoding and total decoding only; no file is touched here.
 */
#pragma once

#include "libstore/witness.h"
#include "libutil/buf.h"
#include "libutil/error.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are mapped as they stand");

enum { FORMAT_VERSION = 1, FORMAT_TXN_MAX = 1 << 28 };

/* bits of a record */
enum {
    REC_NEW = 1,   /* the file is in new/ */
    REC_SIZED = 2, /* size is known */
    REC_CRLF = 4,  /* the file has CRLF line ends throughout */
    REC_DISK = 0xff,
    /* In memory only: */
    REC_GONE = 0x100,  /* expunged */
    REC_DIRTY = 0x200, /* flags changed, not yet reported by store_refresh */
    REC_META = 0x400   /* size found, not yet in the log */
};

struct disk_rec {
    uint32_t crc; /* of what follows */
    uint32_t uid;
    uint64_t keywords;
    uint64_t modseq;
    uint32_t size;  /* with CRLF; no message is larger than 1 GiB */
    uint32_t saved; /* when it came into this folder (RFC 8514) */
    unsigned char guid[16];
    uint32_t date;
    uint32_t cache; /* in units of 8 bytes; 0: none */
    uint32_t name;  /* of the file, in the name section; 0: made from the guid */
    uint8_t flags;
    uint8_t file_flags; /* as in the file's name */
    uint16_t bits;
};
_Static_assert(sizeof(struct disk_rec) == 64, "record size is part of the format");

struct disk_tomb {
    uint64_t modseq;
    uint32_t uid;
    uint32_t time;
    unsigned char guid[16];
};

/* A delivery id that was used; the newest last. */
struct disk_delivery {
    uint64_t id;
    uint32_t uid;
    uint32_t time;
};

/* Followed by records, tombs, deliveries, keywords (u8 length and name, by index), names. */
struct disk_index {
    char magic[8];
    uint32_t crc; /* of what follows in the header */
    uint32_t version;
    uint32_t uidvalidity, uidnext, reserved, first_recent;
    uint32_t nrecords, ntombs, ndeliveries, keywords_len, names_len;
    uint32_t tail_crc; /* of everything after the records */
    uint64_t sequence, modseq, tomb_floor, cache_id;
    /* ns; when the Maildir was last compared; 1: it is not (no coexistence); 2: names are being
     * changed */
    uint64_t cur_mtime, new_mtime;
    struct witness witness;
    uint64_t mailbox_id; /* RFC 8474 */
    /* Totals of the records, so that nobody has to count them. */
    uint64_t bytes; /* of those whose size is known */
    /* Modseqs between these two were given, and then lost with the machine: who knows one of them
     * has seen what is no more. */
    uint64_t lost_from, lost_to;
    uint32_t unseen, deleted, unsized;
    uint32_t misnamed;      /* whose file does not have the flags in its name yet */
    uint32_t first_unseen;  /* no message below this UID is unseen */
    uint32_t cache_end;     /* in units of 8 bytes */
    uint32_t cache_records; /* in the cache file, dead ones included */
    uint32_t spare;
};
_Static_assert(sizeof(struct disk_index) == 192, "header size is part of the format");

struct disk_log {
    char magic[8];
    uint32_t crc; /* of what follows */
    uint32_t version;
    uint64_t sequence; /* of the index that the log continues */
    uint64_t cache_id, mailbox_id;
    uint32_t uidvalidity, uidnext, reserved;
    uint32_t cache_end;
};
_Static_assert(sizeof(struct disk_log) == 56, "header size is part of the format");

/* A transaction: this, then operations. uidnext and reserved are the values after it. */
struct disk_txn {
    uint32_t magic;
    uint32_t length; /* with this header */
    uint32_t crc;    /* of what follows */
    uint32_t uidnext;
    uint64_t sequence, previous;
    uint32_t reserved;
    uint32_t visible; /* 1: sets the mailbox's modseq */
};
_Static_assert(sizeof(struct disk_txn) == 40, "header size is part of the format");

enum op_type {
    OP_APPEND = 1, /* a record */
    OP_FLAGS,      /* add, remove or replace flags and keywords of ranges */
    OP_KEYWORD,    /* the name of a keyword bit */
    OP_EXPUNGE,    /* ranges */
    OP_RECENT,     /* messages from this UID on are recent */
    OP_BOOT,       /* first write after the machine started, or the file system was mounted */
    OP_META,       /* size and cache place found later */
    OP_FILE,       /* the file's name changed */
    OP_SCAN,       /* directory times at the last comparison */
    OP_LOST        /* ranges whose files are gone, by whomever */
};

/* One operation; which members count depends on the type. */
struct op {
    enum op_type type;
    struct disk_rec rec; /* APPEND; uid META FILE; cache, size, bits META; bits, file_flags FILE */
    uint64_t delivery;   /* APPEND */
    struct slice name;   /* APPEND: base name or empty; KEYWORD */
    uint32_t cache_end;  /* APPEND, META: end of the cache file after this, 0: as before */
    uint32_t time;       /* EXPUNGE, LOST, and APPEND with delivery */
    uint32_t number;     /* RECENT: uid; FLAGS: enum store_how; KEYWORD: bit */
    uint32_t flags;      /* FLAGS */
    uint64_t keywords;   /* FLAGS */
    uint64_t a, b;       /* SCAN: cur, new; BOOT: boot time, mount */
    struct slice ranges; /* FLAGS, EXPUNGE, LOST: packed min, max */
};

extern const char index_magic[8], log_magic[8];

/* Fill magic, version and crc. */
void index_seal(struct disk_index *);
void log_seal(struct disk_log *);
void rec_seal(struct disk_rec *);
bool rec_valid(const struct disk_rec *);
/* Whether the file's name lags behind: coexistence. */
bool rec_misnamed(const struct disk_rec *);
/* OK, ERR_CORRUPT, or ERR_VERSION for a higher version with a good checksum. */
int index_check(const struct disk_index *) MUST_USE;
int log_check(const struct disk_log *) MUST_USE;

/* Builds a transaction: start, operations, then seal, which also checks the maximum. */
void txn_start(struct buf *);
void txn_op(struct buf *, const struct op *);
int txn_seal(struct buf *, const struct disk_txn *values) MUST_USE;

enum txn_state { TXN_GOOD, TXN_END, TXN_TORN, TXN_BAD };
/* Looks at the transaction at the front of `log`. GOOD: *head and *ops are set. END: nothing is
 * there. TORN: too short to be whole, or zeros to the end. BAD: anything else. */
enum txn_state txn_peek(struct slice log, struct disk_txn *head, struct slice *ops);
/* The next operation; false at the end or when malformed (then r->bad). */
bool op_next(struct reader *r, struct op *);
/* The i-th packed range; false past the end. */
bool op_range(const struct op *, size_t i, uint32_t *min, uint32_t *max);
/* Where the next whole transaction begins after offset 1, for salvage; log.n when nowhere. */
size_t txn_resync(struct slice log);
