/* Inside libstore: the format of veredus.journal, for journal.c, which writes it, and replay.c. */
#pragma once

#include "libstore/journal.h"

#define JOURNAL_NAME "veredus.journal"

enum {
    JOURNAL_START = 64, /* entries begin here */
    JOURNAL_MAX = 64 << 20,
    JOURNAL_MAGIC = 0x314e524a,
    JOURNAL_ENTRY_MAX = 2 * JOURNAL_BODY_MAX
};

/* Written when the file is filled and its name is on disk: then entries may be relied on. Whoever
 * finds another witness than his own puts back what was lost, and notes his. */
struct journal_head {
    char magic[8];
    uint32_t crc; /* of what follows */
    uint32_t version;
    uint64_t size;
    struct witness witness;
};
_Static_assert(sizeof(struct journal_head) <= JOURNAL_START, "entries are behind it");

struct journal_entry {
    uint32_t magic;
    uint32_t length; /* with this header, a multiple of 8 */
    uint32_t crc;    /* of what follows, without padding */
    uint32_t version;
    uint64_t generation, number;
    uint64_t sequence;
    uint32_t uidvalidity;
    uint32_t n[4]; /* folder, operation, keywords, content */
    uint32_t spare;
    uint64_t mailbox; /* the folder's object id: it may have another name now */
};
_Static_assert(sizeof(struct journal_entry) == 72, "header size is part of the format");

static inline uint32_t journal_entry_size(const struct journal_entry *e)
{
    return (uint32_t)sizeof(*e) + e->n[0] + e->n[1] + e->n[2] + e->n[3];
}

static inline bool journal_plausible(const struct journal_entry *e, size_t room)
{
    for (size_t i = 0; i < ARRAY_LEN(e->n); i++)
        if (e->n[i] > JOURNAL_ENTRY_MAX)
            return false;
    return e->magic == JOURNAL_MAGIC && e->version == FORMAT_VERSION && e->length <= room &&
           journal_entry_size(e) <= e->length;
}

/* Also tells the mount. ERR_CORRUPT: it has to be made anew; ERR_VERSION. */
int journal_read_head(int fd, struct journal_head *, uint32_t *mount, struct error *) MUST_USE;
int journal_write_head(int fd, struct journal_head *, struct error *) MUST_USE;
/* Locked: no entry counts any more. */
int journal_forget(struct store *, struct error *) MUST_USE;
