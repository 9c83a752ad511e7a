#include "qmgr/spool_segment.h"

#include <string.h>

static uint64_t sequence_at(struct slice s)
{
    struct reader r = reader_of(slice_from_index(s, 8));
    return get_u64(&r);
}

bool segment_find(struct slice all, size_t from, uint64_t above, struct logrec *rec, size_t *at)
{
    static const char magic[4] = "1VQR";
    for (size_t i = from; i + LOGREC_HEADER <= all.n; i += LOGREC_ALIGN) {
        if (memcmp(all.p + i, magic, sizeof(magic)) != 0)
            continue;
        struct slice s = slice_from_index(all, i);
        if (sequence_at(s) <= above)
            continue;
        if (logrec_decode(s, rec) == OK) {
            *at = i;
            return true;
        }
    }
    return false;
}

static void take_head(struct found_segment *seg, const struct logrec *rec, size_t at)
{
    struct reader r = reader_of(rec->payload);
    seg->generation = rec->sequence;
    seg->before = get_u64(&r);
    seg->size = rec->version > 1 && r.rest.n >= 8 ? get_u64(&r) : 0;
    seg->version = rec->version;
    seg->start = at;
    seg->copy = at > 0;
}

enum {
    COPY_AT = SECTOR_COPY * SECTOR_ROOM,
    MARK_AT = SECTOR_MARK * SECTOR_ROOM,
    FIRST_AT = SECTOR_FIRST * SECTOR_ROOM
};

/* Neither SEGMENT record can be read: the first record that can. */
static void take_first(struct found_segment *seg, struct slice all)
{
    struct logrec rec = {.type = LOGREC_MARK};
    size_t at = 0;
    while (segment_find(all, at, 0, &rec, &at) && rec.type == LOGREC_MARK)
        at += rec.total;
    if (at + LOGREC_HEADER > all.n || logrec_decode(slice_from_index(all, at), &rec) != OK)
        return;
    seg->generation = rec.sequence;
    seg->before = rec.committed;
    seg->version = rec.version;
    seg->start = at;
    /* A turn that was cut off leaves only the head of an old use damaged: the first sector, in
     * which format 1 had records, too. */
    bool turned = rec.version == 1 && slice_starts(all, "1VQR\2");
    seg->rotten = !turned && at > (rec.version > 1 ? FIRST_AT : LOGREC_HEADER + 8);
}

static void take_mark(struct found_segment *seg, struct slice all)
{
    struct logrec rec;
    if (logrec_decode(slice_from_index(all, MARK_AT), &rec) == OK && rec.type == LOGREC_MARK &&
        rec.qid == seg->generation)
        seg->mark = rec.committed;
}

uint64_t segment_committed(struct slice all, size_t from, uint64_t above)
{
    struct logrec rec;
    uint64_t most = 0;
    size_t at = from;
    while (segment_find(all, at, above, &rec, &at)) {
        most = MAX(most, rec.committed);
        at += rec.total;
    }
    return most;
}

size_t segment_behind(const struct logrec *rec, size_t at)
{
    bool head = rec->type == LOGREC_SEGMENT && rec->version > 1;
    return head ? FIRST_AT : at + rec->total;
}

static bool follows(struct slice all, uint64_t good, size_t at, struct logrec *rec)
{
    return logrec_decode(slice_from_index(all, at), rec) == OK && rec->sequence == good + 1;
}

bool segment_next(struct slice all, const struct found_segment *seg, uint64_t good, size_t *at,
    struct logrec *rec)
{
    if (follows(all, good, *at, rec))
        return true;
    size_t next = sectors_next(*at);
    if (seg->version < 2 || !follows(all, good, next, rec))
        return false;
    *at = next;
    return true;
}

uint64_t segment_last(struct slice all, const struct found_segment *seg)
{
    struct logrec rec;
    size_t at = seg->start;
    uint64_t last = seg->generation - 1;
    while (segment_next(all, seg, last, &at, &rec)) {
        last = rec.sequence;
        at = segment_behind(&rec, at);
    }
    return last;
}

void segment_look(struct found_segment *seg, struct slice all)
{
    struct logrec head, copy;
    bool has_head = logrec_decode(all, &head) == OK && head.type == LOGREC_SEGMENT;
    bool has_copy = logrec_decode(slice_from_index(all, COPY_AT), &copy) == OK &&
                    copy.type == LOGREC_SEGMENT && copy.version > 1;
    /* The copy is written later: if it is the newer one, the head has been lost. */
    if (has_head && !(has_copy && copy.sequence > head.sequence))
        take_head(seg, &head, 0);
    else if (has_copy)
        take_head(seg, &copy, COPY_AT);
    else
        take_first(seg, all);
    take_mark(seg, all);
}
