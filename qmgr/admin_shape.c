/* queue_shape: how the queue is shared among domains. */
#include <stdlib.h>

#include "qmgr/admin.h"

enum { PAGE_BYTES = 60000, PAGE_MESSAGES = 400 };

/* The domains of one message, in the order in which they come. */
struct shares {
    struct map index; /* domain, lower case -> place + 1 */
    struct queue_share *rows;
    size_t n;
};

static struct slice domain_of(struct slice address)
{
    ptrdiff_t at = slice_rchr(address, '@');
    return slice_first(at < 0 ? address : slice_from_index(address, (size_t)at + 1), 255);
}

static void add(struct shares *s, struct slice domain, uint32_t recipients)
{
    char lower[256];
    for (size_t i = 0; i < domain.n; i++)
        lower[i] =
            (char)(domain.p[i] >= 'A' && domain.p[i] <= 'Z' ? domain.p[i] + 32 : domain.p[i]);
    struct slice key = {lower, domain.n};
    size_t place = (size_t)(uintptr_t)map_get(&s->index, key);
    if (place == 0) {
        if (s->n % 64 == 0)
            s->rows = xrealloc(s->rows, s->n + 64, sizeof(*s->rows));
        s->rows[s->n] = (struct queue_share){.domain = domain};
        place = ++s->n;
        map_set(&s->index, key, (void *)(uintptr_t)place);
    }
    s->rows[place - 1].recipients += recipients;
}

static void gather(struct shares *s, const struct content *c, bool by_sender)
{
    uint32_t open = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct rcpt *r = &c->rcpts[i];
        if (r->st.state == RCPT_DONE)
            continue;
        open++;
        if (!by_sender)
            add(s, domain_of(r->to.address), 1);
    }
    if (by_sender || s->n == 0)
        add(s, by_sender ? domain_of(c->envelope.sender) : SLICE_LIT(""), open);
}

/* Appends rows of the message from *from on. False: the page is full, *from is the next one. */
static bool put_message(
    struct qmgr *q, struct message *m, bool by_sender, uint32_t *from, struct buf *page)
{
    struct peek p;
    struct error err = {.text = ""};
    struct shares s = {.n = 0};
    bool fits = true;
    map_init(&s.index);
    bool readable = peek_begin(q, m, &p, &err);
    if (readable)
        gather(&s, p.m->content, by_sender);
    else
        add(&s, SLICE_LIT(""), 0);
    bool damaged = !readable && (m->damaged || err.code == ERR_CORRUPT);
    for (; fits && *from < s.n; *from += fits) {
        struct queue_share *row = &s.rows[*from];
        size_t before = buf_len(page);
        row->state = damaged ? SLICE_LIT("damaged") : slice_of(admin_state(m));
        row->received = readable ? p.m->content->envelope.received : 0;
        row->first = *from == 0;
        row->size = row->first ? m->size : 0;
        fits = record_put(page, &queue_share_record, row) == OK;
        if (!fits) {
            page->failed = false;
            buf_truncate(page, before);
        }
    }
    peek_end(&p);
    map_clear(&s.index);
    free(s.rows);
    return fits;
}

void admin_shape(struct peer *peer, struct ipc_in *in)
{
    const struct queue_shape *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct queue_shares reply = {.next = msg->after, .from = msg->from};
    struct buf page;
    unsigned n = 0;
    buf_init(&page, PAGE_BYTES);
    LIST_EACH(it, &q->all)
    {
        struct message *m = LIST_ENTRY(it, struct message, all);
        if (m->serial <= msg->after || m->deleted)
            continue;
        if (n++ == PAGE_MESSAGES || !put_message(q, m, msg->by_sender, &reply.from, &page)) {
            reply.more = true;
            break;
        }
        reply.next = m->serial;
        reply.from = 0;
    }
    reply.shares = buf_slice(&page);
    ipc_reply(peer->ipc, in->id, 0, queue_shares_type, &reply, -1);
    buf_clear(&page);
}
