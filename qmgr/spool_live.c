/* What the records of the log say about one message, put together at start. */
#include <stdlib.h>

#include "libmail/envelope.h"
#include "qmgr/spool_private.h"

struct expansion {
    uint32_t first;
    size_t count;
    struct buf done, recipients;
};

static size_t count_recipients(struct slice packed, const struct record *record)
{
    struct reader r = reader_of(packed);
    struct recipient to;
    size_t n = 0;
    while (r.rest.n > 0 && record_get(&r, record, &to) == OK)
        n++;
    return n;
}

struct live *live_new(
    uint64_t qid, uint64_t generation, struct slice record, unsigned format, struct slice to)
{
    struct live *l = NEW(struct live);
    l->qid = qid;
    l->generation = generation;
    buf_init(&l->record, record.n);
    buf_put(&l->record, record);
    l->accepted = count_recipients(to, format_recipient(format));
    return l;
}

static void drop_expansions(struct live *l, uint32_t first)
{
    while (l->nexpansions > 0 && l->expansions[l->nexpansions - 1].first >= first) {
        struct expansion *e = &l->expansions[--l->nexpansions];
        buf_clear(&e->done);
        buf_clear(&e->recipients);
    }
}

void live_free(struct live *l)
{
    if (!l)
        return;
    drop_expansions(l, 0);
    buf_clear(&l->record);
    free(l->expansions);
    free(l->done);
    free(l);
}

static void add_done(struct live *l, struct slice indexes)
{
    struct reader r = reader_of(indexes);
    l->done = xrealloc(l->done, l->ndone + indexes.n / 4, sizeof(*l->done));
    while (r.rest.n >= 4)
        l->done[l->ndone++] = get_u32(&r);
}

void live_done(struct live *l, struct slice payload)
{
    if (payload.n >= 4)
        add_done(l, payload);
}

static size_t total(const struct live *l)
{
    const struct expansion *last = l->nexpansions ? &l->expansions[l->nexpansions - 1] : NULL;
    return last ? last->first + last->count : l->accepted;
}

static struct expansion *append(struct live *l, size_t count)
{
    l->expansions = xrealloc(l->expansions, l->nexpansions + 1, sizeof(*l->expansions));
    struct expansion *e = &l->expansions[l->nexpansions];
    *e = (struct expansion){.first = (uint32_t)total(l), .count = count};
    l->nexpansions++;
    return e;
}

/* An expansion before this one is damaged. Later records go on from it, so its recipients keep
 * their numbers; whoever they took the place of is still there. */
static void fill_gap(struct live *l, uint32_t upto)
{
    static const struct recipient lost = {.address = {"lost", 4}, .transport = {"lost", 4}};
    struct expansion *e = append(l, upto - total(l));
    buf_init(&e->done, 4 * e->count);
    buf_init(&e->recipients, 4096 * e->count);
    for (size_t i = 0; i < e->count; i++) {
        buf_u32(&e->done, e->first + (uint32_t)i);
        if (record_put(&e->recipients, &recipient_record, &lost) != OK)
            return;
    }
}

int live_expand(struct live *l, struct slice payload)
{
    struct logrec_expand x;
    enum { GAP_MAX = 1000000 };
    if (logrec_get_expand(payload, &x) != OK || x.first < l->accepted)
        return ERR_CORRUPT;
    drop_expansions(l, x.first);
    if (x.first > total(l) + GAP_MAX)
        return ERR_CORRUPT;
    if (x.first > total(l))
        fill_gap(l, x.first);
    if (x.done.n == 0 && x.recipients.n == 0)
        return OK;
    struct expansion *e = append(l, count_recipients(x.recipients, &recipient_record));
    buf_init(&e->done, x.done.n);
    buf_init(&e->recipients, x.recipients.n);
    buf_put(&e->done, x.done);
    buf_put(&e->recipients, x.recipients);
    return OK;
}

void live_join(struct live *l, struct buf *added)
{
    buf_init(added, LOGREC_PAYLOAD_MAX);
    for (size_t i = 0; i < l->nexpansions; i++) {
        struct expansion *e = &l->expansions[i];
        add_done(l, buf_slice(&e->done));
        buf_put(added, buf_slice(&e->recipients));
    }
}
