/* Positions by GUID, for imports that ask about every message of a large mailbox. */
#include "libstore/private.h"

static size_t slot_of(const struct guids *g, const unsigned char guid[STORE_GUID])
{
    uint64_t key;
    memcpy(&key, guid, sizeof(key));
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (g->nslots - 1);
}

static void put(struct box *b, uint32_t pos)
{
    struct guids *g = &b->guids;
    size_t s = slot_of(g, box_rec(b, pos)->guid);
    while (g->slots[s])
        s = (s + 1) & (g->nslots - 1);
    g->slots[s] = pos + 1;
}

/* Takes in what came since it was asked last. */
static void bring_up(struct box *b)
{
    struct guids *g = &b->guids;
    size_t n = box_count(b);
    if (2 * n >= g->nslots) {
        g->nslots = g->nslots ? g->nslots : 1024;
        while (2 * n >= g->nslots)
            g->nslots *= 2;
        free(g->slots);
        g->slots = xcalloc(g->nslots, sizeof(*g->slots));
        g->upto = 0;
    }
    while (g->upto < n)
        put(b, (uint32_t)g->upto++);
}

const struct disk_rec *guids_find(struct box *b, const unsigned char guid[STORE_GUID])
{
    struct guids *g = &b->guids;
    bring_up(b);
    for (size_t s = slot_of(g, guid); g->slots[s]; s = (s + 1) & (g->nslots - 1)) {
        const struct disk_rec *rec = box_rec(b, g->slots[s] - 1);
        if (!(rec->bits & REC_GONE) && memcmp(rec->guid, guid, STORE_GUID) == 0)
            return rec;
    }
    return NULL;
}

void guids_clear(struct box *b)
{
    free(b->guids.slots);
    b->guids = (struct guids){0};
}
