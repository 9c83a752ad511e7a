/* Inside libstore: the view that sessions hold. */
#pragma once

#include "libstore/private.h"

struct store_mailbox {
    struct store *store;
    struct box *box;
    bool read_only;
    bool owed; /* expunges may be waiting to be told */
    uint32_t count;
    uint32_t *map; /* positions in the box; NULL: sequence number - 1 */
    uint32_t cap;
    size_t next_pos; /* positions from here on are not in the view yet */
    size_t keywords;
    uint64_t sequence; /* of the last refresh */
    struct uidset recent;
    uint32_t *lists;     /* what the last refresh handed out */
    struct uidls *uidls; /* NULL: not read yet */
};

void uidls_free(struct uidls *);

struct disk_rec *view_rec(const struct store_mailbox *, uint32_t seq);
