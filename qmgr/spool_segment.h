/* One segment of the log as bytes, as a start finds it (docs/spool.md): its head, its mark, and the
 * records in it. The bytes are without stamps (sectors.h). Nothing here keeps what it is given. */
#pragma once

#include "qmgr/spool_private.h"

struct found_segment {
    unsigned number;
    uint64_t generation; /* first sequence found; 0: never used */
    uint64_t before;     /* what its SEGMENT record says was durable before it */
    uint64_t mark;       /* what its MARK says was durable; 0: none */
    uint64_t promised;   /* the last of its records that something vouches for; 0: nothing does */
    uint64_t last;       /* the last of its records that this start believes */
    unsigned version;    /* the format it is written in */
    bool soiled;         /* as struct segment */
    int64_t length;      /* of the file */
    uint64_t size;       /* what its SEGMENT record says it has; 0: nothing says it */
    int64_t lacks;       /* as struct segment */
    size_t start;        /* where its first sound record is */
    bool copy;           /* that is the copy of its SEGMENT record */
    bool stamped;        /* in sectors */
    bool blank;          /* nothing but zeros */
    bool rotten;         /* there are unsound ones before that, which were sound once */
};

/* Reads the head: the segment's place in the order, and what is vouched for. A segment that was
 * never used stays of generation 0. */
void segment_look(struct found_segment *, struct slice all);
/* The next sound record after `above` from offset `from` on. False: none. */
bool segment_find(struct slice all, size_t from, uint64_t above, struct logrec *rec, size_t *at);
/* The highest `committed` that sound records after `above` speak of; 0: none. */
uint64_t segment_committed(struct slice all, size_t from, uint64_t above);
/* The record that has to follow the one with sequence `good`, which ends at *at. False: it cannot
 * be read. */
bool segment_next(
    struct slice all, const struct found_segment *, uint64_t good, size_t *at, struct logrec *rec);
/* Where the record ends that is at `at`. */
size_t segment_behind(const struct logrec *, size_t at);
/* The last sequence of the sound records in a row from the first one on. */
uint64_t segment_last(struct slice all, const struct found_segment *);
