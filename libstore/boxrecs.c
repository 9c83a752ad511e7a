/* The records of a box: those of the mapped index as they stand, copies of those that the log
 * changed, and new ones. Nothing is read before it is asked for, so opening costs the same for
 * ten messages and for a million. */
#include "libstore/private.h"

#include "libutil/crc32c.h"

enum { CHUNK = 64 /* records checked at a time */, OVER_CHUNK = 256 };

size_t box_count(const struct box *b)
{
    return b->nbase + b->nextra;
}

static bool bit_get(const unsigned char *bits, size_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void bit_set(unsigned char *bits, size_t i)
{
    bits[i / 8] |= (unsigned char)(1u << (i % 8));
}

static size_t bit_bytes(size_t nbase)
{
    return nbase / CHUNK / 8 + 1;
}

/* --- the overlay ------------------------------------------------------------------------------ */

static size_t slot_of(const struct overlay *o, uint32_t pos)
{
    return (pos * 2654435769u >> 7) & (o->nslots - 1);
}

static struct disk_rec *over_at(const struct overlay *o, size_t i)
{
    return &o->chunks[i / OVER_CHUNK][i % OVER_CHUNK];
}

static struct disk_rec *over_find(const struct box *b, size_t pos)
{
    const struct overlay *o = &b->over;
    if (o->n == 0 || !bit_get(o->touched, pos / CHUNK))
        return NULL;
    for (size_t s = slot_of(o, (uint32_t)pos); o->slots[s]; s = (s + 1) & (o->nslots - 1))
        if (o->pos[o->slots[s] - 1] == pos)
            return over_at(o, o->slots[s] - 1);
    return NULL;
}

static void over_insert(struct overlay *o, uint32_t i)
{
    size_t s = slot_of(o, o->pos[i]);
    while (o->slots[s])
        s = (s + 1) & (o->nslots - 1);
    o->slots[s] = i + 1;
}

static void over_grow(struct overlay *o)
{
    size_t chunks = o->n / OVER_CHUNK;
    if (o->n % OVER_CHUNK == 0) {
        o->chunks = xrealloc(o->chunks, chunks + 1, sizeof(*o->chunks));
        o->chunks[chunks] = xrealloc(NULL, OVER_CHUNK, sizeof(**o->chunks));
        o->pos = xrealloc(o->pos, (chunks + 1) * OVER_CHUNK, sizeof(*o->pos));
    }
    if (2 * o->n < o->nslots)
        return;
    o->nslots = o->nslots ? 2 * o->nslots : OVER_CHUNK;
    free(o->slots);
    o->slots = xcalloc(o->nslots, sizeof(*o->slots));
    for (uint32_t i = 0; i < o->n; i++)
        over_insert(o, i);
}

static struct disk_rec *over_add(struct box *b, size_t pos)
{
    struct overlay *o = &b->over;
    over_grow(o);
    if (!o->touched)
        o->touched = xcalloc(bit_bytes(b->nbase), 1);
    bit_set(o->touched, pos / CHUNK);
    o->fresh++;
    o->pos[o->n] = (uint32_t)pos;
    struct disk_rec *rec = over_at(o, o->n);
    *rec = b->base[pos];
    over_insert(o, (uint32_t)o->n++);
    return rec;
}

static void over_clear(struct overlay *o)
{
    for (size_t i = 0; i * OVER_CHUNK < o->n; i++)
        free(o->chunks[i]);
    free(o->chunks);
    free(o->pos);
    free(o->slots);
    free(o->touched);
    *o = (struct overlay){0};
}

/* --- checking --------------------------------------------------------------------------------- */

static bool record_good(const struct box *b, const struct disk_rec *rec, uint32_t last)
{
    return rec_valid(rec) && rec->uid > last && rec->uid < b->head.uidnext &&
           (rec->name == 0 || box_name_at(b, rec->name).n);
}

/* What does not check is as if it were expunged: so it will be when the index was made anew. */
static void check_chunk(struct box *b, size_t chunk)
{
    size_t pos = chunk * CHUNK, end = MIN(pos + CHUNK, b->nbase);
    uint32_t last = pos && rec_valid(&b->base[pos - 1]) ? b->base[pos - 1].uid : 0;
    bit_set(b->checked, chunk);
    for (; pos < end; pos++) {
        if (record_good(b, &b->base[pos], last)) {
            last = b->base[pos].uid;
            continue;
        }
        struct disk_rec *rec = over_add(b, pos);
        *rec = (struct disk_rec){.uid = ++last, .bits = REC_GONE};
        b->damaged = true;
        b->live -= b->live > 0;
    }
}

int box_check_all(struct box *b)
{
    for (size_t chunk = 0; chunk * CHUNK < b->nbase && !b->damaged; chunk++)
        if (b->checked && !bit_get(b->checked, chunk))
            check_chunk(b, chunk);
    return b->damaged ? ERR_CORRUPT : OK;
}

/* --- access ----------------------------------------------------------------------------------- */

void box_recs_init(struct box *b)
{
    b->checked = xcalloc(bit_bytes(b->nbase), 1);
}

void box_recs_clear(struct box *b)
{
    over_clear(&b->over);
    guids_clear(b);
    free(b->checked);
    b->checked = NULL;
    if (b->base_heap)
        free((void *)b->base);
    free(b->extra);
    b->base = NULL;
    b->extra = NULL;
    b->base_heap = b->damaged = b->stale_places = false;
    b->nbase = b->nextra = b->cap_extra = b->live = 0;
}

const struct disk_rec *box_rec(struct box *b, size_t pos)
{
    if (pos >= b->nbase)
        return &b->extra[pos - b->nbase];
    if (b->checked && !bit_get(b->checked, pos / CHUNK))
        check_chunk(b, pos / CHUNK);
    const struct disk_rec *changed = over_find(b, pos);
    return changed ? changed : &b->base[pos];
}

struct disk_rec *box_edit(struct box *b, size_t pos)
{
    const struct disk_rec *rec = box_rec(b, pos);
    if (pos >= b->nbase || b->base_heap || rec != &b->base[pos])
        return (struct disk_rec *)rec;
    return over_add(b, pos);
}

bool box_is_base(const struct box *b, const struct disk_rec *rec)
{
    return b->base && rec >= b->base && rec < b->base + b->nbase;
}

size_t box_find(struct box *b, uint32_t uid)
{
    size_t low = 0, high = box_count(b);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (box_rec(b, mid)->uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct disk_rec *box_find_rec(struct box *b, uint32_t uid)
{
    size_t pos = box_find(b, uid);
    const struct disk_rec *rec = pos < box_count(b) ? box_rec(b, pos) : NULL;
    return rec && rec->uid == uid && !(rec->bits & REC_GONE) ? rec : NULL;
}

struct disk_rec *box_push(struct box *b, const struct disk_rec *rec)
{
    if (b->nextra == b->cap_extra) {
        b->cap_extra = b->cap_extra ? b->cap_extra * 2 : 16;
        b->extra = xrealloc(b->extra, b->cap_extra, sizeof(*b->extra));
    }
    struct disk_rec *slot = &b->extra[b->nextra++];
    *slot = *rec;
    box_tally(b, slot, 1);
    return slot;
}

static int ascending(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

size_t box_marked(struct box *b, uint16_t bits, uint32_t **out)
{
    size_t n = 0, direct = b->base_heap ? b->nbase : 0;
    uint32_t *list = xrealloc(NULL, direct + b->over.n + b->nextra, sizeof(*list));
    for (size_t pos = 0; pos < direct; pos++)
        if ((b->base[pos].bits & bits) == bits)
            list[n++] = (uint32_t)pos;
    for (size_t i = 0; i < b->over.n; i++)
        if ((over_at(&b->over, i)->bits & bits) == bits)
            list[n++] = b->over.pos[i];
    if (b->over.n)
        qsort(list, n, sizeof(*list), ascending);
    for (size_t i = 0; i < b->nextra; i++)
        if ((b->extra[i].bits & bits) == bits)
            list[n++] = (uint32_t)(b->nbase + i);
    *out = list;
    return n;
}

void box_tally(struct box *b, const struct disk_rec *rec, int sign)
{
    uint32_t one = (uint32_t)sign;
    if (rec->bits & REC_GONE)
        return;
    b->live += (size_t)(ptrdiff_t)sign;
    b->head.unseen += rec->flags & STORE_SEEN ? 0 : one;
    b->head.deleted += rec->flags & STORE_DELETED ? one : 0;
    b->head.unsized += rec->bits & REC_SIZED ? 0 : one;
    b->head.misnamed += rec_misnamed(rec) ? one : 0;
    if (rec->bits & REC_SIZED)
        b->head.bytes += (uint64_t)((int64_t)rec->size * sign);
    if (sign > 0 && !(rec->flags & STORE_SEEN))
        b->head.first_unseen = MIN(b->head.first_unseen, rec->uid);
}

/* --- names ------------------------------------------------------------------------------------ */

struct slice box_name_at(const struct box *b, uint32_t at)
{
    struct slice from = at < b->nold_names
                            ? slice_from(b->old_names + at, b->nold_names - at)
                            : slice_from_index(buf_slice(&b->names), at - b->nold_names);
    struct reader r = reader_of(from);
    size_t n = get_u8(&r);
    uint16_t check = get_u16(&r);
    struct slice name = get_bytes(&r, n);
    return !r.bad && check == (uint16_t)crc32c(0, name) ? name : (struct slice){0};
}

int box_put_name(struct buf *out, struct slice name)
{
    buf_u8(out, (uint8_t)name.n);
    buf_u16(out, (uint16_t)crc32c(0, name));
    return buf_put(out, name);
}

uint32_t box_name(struct box *b, struct slice name)
{
    if (name.n == 0)
        return 0;
    /* Offset 0 means "no name". */
    if (b->nold_names + buf_len(&b->names) == 0)
        buf_u8(&b->names, 0);
    uint64_t at = b->nold_names + buf_len(&b->names);
    if (at > UINT32_MAX - 300 || box_put_name(&b->names, name))
        return 0;
    return (uint32_t)at;
}

/* --- tombstones --------------------------------------------------------------------------------
 */

size_t box_tombs(const struct box *b)
{
    return b->nold_tombs + b->ntombs;
}

const struct disk_tomb *box_tomb(const struct box *b, size_t i)
{
    return i < b->nold_tombs ? &b->old_tombs[i] : &b->tombs[i - b->nold_tombs];
}

void box_add_tomb(struct box *b, const struct disk_rec *rec, uint32_t time)
{
    if (b->ntombs == b->cap_tombs) {
        b->cap_tombs = b->cap_tombs ? b->cap_tombs * 2 : 16;
        b->tombs = xrealloc(b->tombs, b->cap_tombs, sizeof(*b->tombs));
    }
    struct disk_tomb *t = &b->tombs[b->ntombs++];
    *t = (struct disk_tomb){.modseq = rec->modseq, .uid = rec->uid, .time = time};
    memcpy(t->guid, rec->guid, sizeof(t->guid));
}

void box_lose(struct box *b, struct disk_rec *rec, uint32_t time)
{
    size_t kept = 0;
    box_add_tomb(b, rec, time);
    memset(b->tombs[b->ntombs - 1].guid, 0, STORE_GUID);
    rec->bits |= REC_GONE;
    for (size_t i = 0; i < b->ndeliveries; i++)
        if (b->deliveries[i].uid != rec->uid)
            b->deliveries[kept++] = b->deliveries[i];
    b->ndeliveries = kept;
    deliveries_moved(b);
}

bool box_has_tomb(const struct box *b, const unsigned char guid[STORE_GUID])
{
    for (size_t i = 0; i < box_tombs(b); i++)
        if (memcmp(box_tomb(b, i)->guid, guid, STORE_GUID) == 0)
            return true;
    return false;
}
