/* Inside libstore: the view that sessions hold. Sequence numbers are positions in the box less
 * the holes before them, so that a view costs memory for expunged messages only. */
#pragma once

#include "libstore/private.h"

struct store_mailbox {
    struct store *store;
    struct box *box;
    bool read_only;
    bool owed; /* expunges may be waiting to be told */
    uint32_t count;
    uint32_t *holes; /* positions in the box that are not in the view, ascending */
    size_t nholes;
    size_t next_pos; /* positions from here on are not in the view yet */
    size_t keywords;
    uint64_t sequence; /* of the last refresh */
    struct uidset recent;
    struct uidset leftover; /* expunged here, and the file is still to be removed */
    uint32_t *lists;        /* what the last refresh handed out */
    struct uidls *uidls;    /* NULL: not read yet */
    struct seen *seen;      /* NULL: \Seen is the owner's */
};

void uidls_free(struct uidls *);
/* Removes files of `leftover` for about so long. */
void view_discard(struct store_mailbox *, int ms);

/* --- seen.c --- */
void seen_free(struct seen *);
/* The flags of a message as this user sees them. */
uint32_t seen_flags(const struct seen *, uint32_t uid, uint32_t flags);
int seen_change(struct store_mailbox *, const struct uidset *uids, bool add, struct uidset *changed,
    struct error *) MUST_USE;

const struct disk_rec *view_rec(const struct store_mailbox *, uint32_t seq);
