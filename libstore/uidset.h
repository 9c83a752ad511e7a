/*
 * A set of UIDs as sorted, disjoint, non-adjacent inclusive ranges: cheap for whole mailboxes
 * and ready to be printed as an IMAP sequence-set.
 */
#pragma once

#include "libutil/buf.h"

struct uid_range {
    uint32_t min, max;
};

/* Zero it before use; uidset_clear frees. */
struct uidset {
    struct uid_range *ranges;
    size_t n, cap;
};

void uidset_clear(struct uidset *);
/* Adds min..max (min <= max) in any order; overlaps merge. */
void uidset_add_range(struct uidset *, uint32_t min, uint32_t max);
void uidset_add(struct uidset *, uint32_t uid);
bool uidset_has(const struct uidset *, uint32_t uid);
size_t uidset_count(const struct uidset *);
/* "1:4,7"; the empty set appends nothing. */
void uidset_print(const struct uidset *, struct buf *out);
/* Iterates over single UIDs: *uid starts at 0; false at the end. */
bool uidset_next(const struct uidset *, uint32_t *uid);
