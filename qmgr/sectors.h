/*
 * The sectors of a segment of format 2 (docs/spool.md). Each holds 496 bytes of the log and a stamp
 * of 16: the commit that wrote it (the sequence of its first record), how many sectors of that
 * commit follow, and a CRC32C of all that and of its place. Every commit begins with a sector of
 * its own and ends with one that holds no record, only the sequence of the last one.
 *
 * A disk writes a sector whole or not at all. So what is neither old nor as it was written has been
 * damaged since: a start can tell a commit that a crash cut off, which leaves old sectors, from one
 * that was complete and of which something has rotted.
 */
#pragma once

#include "qmgr/disk.h"

enum {
    SECTOR = 512,
    SECTOR_STAMP = 16,
    SECTOR_ROOM = SECTOR - SECTOR_STAMP,
    /* The head of a segment, by sectors: the SEGMENT record, */
    SECTOR_COPY = 1, /* the same again, */
    SECTOR_MARK,     /* and MARK, `committed` of the last batch, rewritten in place. */
    SECTOR_FIRST     /* Here the commits begin. */
};

/* Sectors that a commit of so many bytes takes. */
uint32_t sectors_of(size_t bytes);
/* One sector that is no part of a commit: of a segment's head. content: up to SECTOR_ROOM bytes. */
void sector_fill(char sector[SECTOR], struct slice content, uint64_t commit, uint32_t place);
/* Writes a commit at this offset, a multiple of SECTOR. Negative errno. */
int sectors_write(struct disk *, int fd, int64_t offset, const struct iovec *, int n,
    uint64_t first, uint64_t last) MUST_USE;

/* A segment in memory. */
struct sectors {
    char *data; /* without stamps: what the sectors hold lies side by side */
    size_t n;
    char *stamps; /* NULL: there are none, it is of format 1 or was never used */
    size_t count;
};

/* True when the bytes of a segment are stamped: one of its first sectors is sound. */
bool sectors_stamped(struct slice raw);
/* Takes the stamps out of s->data. */
void sectors_strip(struct sectors *);
void sectors_clear(struct sectors *);
/* True when there is a damaged one among these (by number). */
bool sectors_damaged(const struct sectors *, size_t from, size_t end);
/* Where offset `at` of the stripped bytes was in the file. */
size_t sectors_raw(const struct sectors *, size_t at);
/* Where the commit behind the one whose last record ends at `at` begins. */
size_t sectors_next(size_t at);
/* The log of the segment that began with `generation` can be read to `good`, which ends at `from`:
 * the sequence up to which the sectors from there on prove that commits were complete. Not above
 * good: nothing does. */
uint64_t sectors_claim(const struct sectors *, size_t from, uint64_t generation, uint64_t good);
