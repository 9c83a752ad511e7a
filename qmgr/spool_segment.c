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
    seg->version = rec->version;
    seg->start = at;
    seg->copy = at > 0;
}

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
    /* A turn that was cut off leaves only the head of an old use damaged. */
    seg->rotten = at > (rec.version > 1 ? LOGREC_FIRST_AT : LOGREC_HEADER + 8);
}

static void take_mark(struct found_segment *seg, struct slice all)
{
    struct logrec rec;
    if (logrec_decode(slice_from_index(all, LOGREC_MARK_AT), &rec) == OK &&
        rec.type == LOGREC_MARK && rec.qid == seg->generation)
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
    return head ? LOGREC_FIRST_AT : at + rec->total;
}

uint64_t segment_last(struct slice all, const struct found_segment *seg)
{
    struct logrec rec;
    uint64_t last = 0;
    size_t at = seg->start;
    while (logrec_decode(slice_from_index(all, at), &rec) == OK &&
           (last == 0 || rec.sequence == last + 1)) {
        last = rec.sequence;
        at = segment_behind(&rec, at);
    }
    return last;
}

void segment_look(struct found_segment *seg, struct slice all)
{
    struct logrec rec;
    if (logrec_decode(all, &rec) == OK && rec.type == LOGREC_SEGMENT)
        take_head(seg, &rec, 0);
    else if (logrec_decode(slice_from_index(all, LOGREC_COPY_AT), &rec) == OK &&
             rec.type == LOGREC_SEGMENT && rec.version > 1)
        take_head(seg, &rec, LOGREC_COPY_AT);
    else
        take_first(seg, all);
    take_mark(seg, all);
}
