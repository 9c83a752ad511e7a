/* What the parts of a roster share: roster.c knows what each recipient is at, roster_read.c finds
 * their lines, roster_load.c reads some of these. */
#pragma once

#include "qmgr/roster.h"

/* What is known of one recipient. */
struct entry {
    uint64_t recipient, state_at; /* offsets of its lines in the file; 0: none */
    int64_t next;
    uint32_t group; /* recipient_group */
    uint8_t state;
    bool here;      /* in the content: that is right about it */
    bool unwritten; /* the file does not have its state */
};

struct span {
    uint64_t from, to;
};

struct roster {
    struct entry *entries;
    struct span *bad; /* damaged updates, in the order of the file */
    size_t nbad;
    size_t n, cap;
    uint64_t message_at, envelope_at, end;
    bool spoilt, null_sender;
};

/* Whether it is one of those chosen. */
bool roster_fits(const struct entry *, const struct roster_choice *);
/* Its file; a descriptor, or what the disk said. */
int roster_open(struct message *, struct disk *, struct error *);
