/* Positions by GUID, and the lists of deliveries and tombstones by what they are asked for: at
 * every delivery, so that looking through them would be most of its work. A table covers the end
 * of its list, from the place on that was asked for. */
#include "libstore/private.h"

typedef uint64_t (*place_key)(const struct box *, size_t i);

/* Copies of a message share the first bytes of their GUIDs. */
static uint64_t key_of(const unsigned char guid[STORE_GUID])
{
    uint64_t half[2];
    memcpy(half, guid, sizeof(half));
    return half[0] ^ (half[1] << 32 | half[1] >> 32);
}

/* A GUID never changes, so it is looked at where it was read. */
static uint64_t record_key(const struct box *b, size_t i)
{
    return key_of(i < b->nbase ? b->base[i].guid : b->extra[i - b->nbase].guid);
}

static uint64_t delivery_key(const struct box *b, size_t i)
{
    return b->deliveries[i].id;
}

static uint64_t tomb_key(const struct box *b, size_t i)
{
    return key_of(box_tomb(b, i)->guid);
}

static size_t slot_of(const struct places *p, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 24) & (p->nslots - 1);
}

static void start_over(struct places *p, size_t from, size_t n)
{
    size_t nslots = 64;
    while (2 * nslots < 3 * (n - from + 1))
        nslots *= 2;
    if (nslots != p->nslots) {
        free(p->slots);
        p->slots = xrealloc(NULL, nslots, sizeof(*p->slots));
    }
    memset(p->slots, 0, nslots * sizeof(*p->slots));
    *p = (struct places){.slots = p->slots, .nslots = nslots, .from = from, .upto = from};
}

/* Takes in what came since it was asked last. */
static void bring_up(struct places *p, const struct box *b, place_key key, size_t from, size_t n)
{
    if (from < p->from || n < p->upto || 3 * (n - p->from) >= 2 * p->nslots)
        start_over(p, from, n);
    for (; p->upto < n; p->upto++) {
        size_t s = slot_of(p, key(b, p->upto));
        while (p->slots[s])
            s = (s + 1) & (p->nslots - 1);
        p->slots[s] = (uint32_t)p->upto + 1;
    }
}

/* The last place before `before` with this key, or SIZE_MAX. */
static size_t last_with(
    const struct places *p, const struct box *b, place_key key, uint64_t wanted, size_t before)
{
    size_t found = SIZE_MAX;
    for (size_t s = slot_of(p, wanted); p->slots[s]; s = (s + 1) & (p->nslots - 1)) {
        size_t i = p->slots[s] - 1;
        if (i < before && (found == SIZE_MAX || i > found) && key(b, i) == wanted)
            found = i;
    }
    return found;
}

const struct disk_rec *guids_find(struct box *b, size_t first, const unsigned char guid[STORE_GUID])
{
    uint64_t key = key_of(guid);
    bring_up(&b->guids, b, record_key, first, box_count(b));
    for (size_t at = SIZE_MAX;;) {
        at = last_with(&b->guids, b, record_key, key, at);
        if (at == SIZE_MAX)
            return NULL;
        const struct disk_rec *rec = box_rec(b, at);
        if (!(rec->bits & REC_GONE) && memcmp(rec->guid, guid, STORE_GUID) == 0)
            return rec;
    }
}

const struct disk_delivery *deliveries_find(struct box *b, uint64_t id)
{
    bring_up(&b->by_delivery, b, delivery_key, 0, b->ndeliveries);
    size_t at = last_with(&b->by_delivery, b, delivery_key, id, SIZE_MAX);
    return at == SIZE_MAX ? NULL : &b->deliveries[at];
}

void deliveries_moved(struct box *b)
{
    free(b->by_delivery.slots);
    b->by_delivery = (struct places){0};
}

bool tombs_have(struct box *b, size_t first, const unsigned char guid[STORE_GUID])
{
    uint64_t key = key_of(guid);
    bring_up(&b->by_tomb, b, tomb_key, first, box_tombs(b));
    for (size_t at = SIZE_MAX;;) {
        at = last_with(&b->by_tomb, b, tomb_key, key, at);
        if (at == SIZE_MAX || memcmp(box_tomb(b, at)->guid, guid, STORE_GUID) == 0)
            return at != SIZE_MAX;
    }
}

void guids_clear(struct box *b)
{
    free(b->guids.slots);
    free(b->by_tomb.slots);
    b->guids = b->by_tomb = (struct places){0};
    deliveries_moved(b);
}
