/* What the two halves of a start share: reading the log (spool_scan.c), and handing over what was
 * found in it and beside it (spool_found.c). */
#pragma once

#include "qmgr/spool_segment.h"

struct spool_scan {
    struct disk *disk;
    const struct spool_found_ops *ops;
    void *arg;
    struct found_segment *segments; /* in the order of their first sequence */
    size_t nsegments;
    struct map live;        /* qid -> struct live */
    struct map parked;      /* qid -> struct parked_name */
    struct map big;         /* names under big/ that are needed */
    struct list overridden; /* FORGET jobs for messages in the log that are parked too */
    uint64_t last;          /* highest sequence seen anywhere */
    uint64_t good;          /* last sequence read in order */
    unsigned next_number;
    bool read_only;
    bool damaged; /* records are lost: bodies that nobody names may belong to them */
    bool fresh;   /* a parked file may not be durable as it is read */
    struct error error;
};

void scan_trouble(struct spool_scan *, const char *what, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A copy under corrupt/, for people to look at. */
void scan_set_aside(struct spool_scan *, const char *path, struct slice bytes);
