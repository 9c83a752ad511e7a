#include "qmgr/history.h"

#include <stdlib.h>

#include "libmail/text.h"

enum { LINE_ARENA = 65536 };

struct history {
    int64_t *last; /* of each recipient, in the block before */
    size_t count, limit;
    history_fn *fn;
    void *arg;
};

static void take_state(struct history *h, struct slice fields)
{
    struct parked_state st;
    struct arena arena;
    arena_init(&arena, LINE_ARENA);
    if (text_get(fields, &parked_state_record, &st, &arena) == OK && st.index < h->limit) {
        if (st.index >= h->count) {
            h->last = xrealloc(h->last, st.index + 1, sizeof(*h->last));
            while (h->count <= st.index)
                h->last[h->count++] = 0;
        }
        if (st.last != h->last[st.index])
            h->fn(&st, h->arg);
        h->last[st.index] = st.last;
    }
    arena_reset(&arena);
}

static void take_trailer(struct history *h, struct slice trailer)
{
    struct slice block;
    while (parked_next_block(&trailer, &block))
        while (block.n > 0) {
            struct slice line = slice_cut(&block, '\n');
            if (slice_is(slice_cut(&line, ' '), "state"))
                take_state(h, line);
        }
}

static void take_young(struct history *h, const struct content *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->rcpts[i].st.last != 0)
            h->fn(&c->rcpts[i].st, h->arg);
}

int history_each(
    struct message *m, size_t most, struct disk *disk, history_fn *fn, void *arg, struct error *err)
{
    struct history h = {.limit = m->content ? m->content->count : 0, .fn = fn, .arg = arg};
    struct buf trailer;
    int rc = OK;
    buf_init(&trailer, most);
    if (m->parked)
        rc = message_read_trailer(m, most == HISTORY_MOST, disk, &trailer, err);
    else if (m->content)
        take_young(&h, m->content);
    take_trailer(&h, buf_slice(&trailer));
    free(h.last);
    buf_clear(&trailer);
    return rc;
}
