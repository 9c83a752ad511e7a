/* queue_shape: how the queue is shared among domains. */
#include <stdlib.h>

#include "qmgr/admin.h"

enum { PAGE_BYTES = 60000 };

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

/* What is asked for, and the answer that is being made. */
struct shape_page {
    struct qmgr *q;
    const struct peer *peer;
    bool by_sender;
    uint32_t from; /* row of the message that is next */
    struct buf rows;
    uint64_t read;
};

/* Appends rows of the message from page->from on. ERR_LIMIT: the page is full, `from` is the next
 * one. ERR_AGAIN: see peek_begin. */
static int put_message(struct shape_page *page, struct message *m)
{
    struct peek p;
    struct error err = {.text = ""};
    struct shares s = {.n = 0};
    bool fits = true;
    map_init(&s.index);
    bool readable = peek_begin(page->q, m, page->from > 0 ? page->peer : NULL, &p, &err);
    page->read += p.read;
    if (readable)
        gather(&s, p.m->content, page->by_sender);
    else if (err.code == ERR_AGAIN || m->moving) /* moving: its file is being removed */
        fits = err.code != ERR_AGAIN;
    else
        add(&s, SLICE_LIT(""), 0);
    bool damaged = !readable && (m->damaged || err.code == ERR_CORRUPT);
    for (; fits && page->from < s.n; page->from += fits) {
        struct queue_share *row = &s.rows[page->from];
        size_t before = buf_len(&page->rows);
        row->state = damaged ? SLICE_LIT("damaged") : slice_of(admin_state(m));
        row->received = readable ? p.m->content->envelope.received : 0;
        row->first = page->from == 0;
        row->size = row->first ? m->size : 0;
        fits = record_put(&page->rows, &queue_share_record, row) == OK;
        if (!fits) {
            page->rows.failed = false;
            buf_truncate(&page->rows, before);
        }
    }
    peek_end(&p);
    map_clear(&s.index);
    free(s.rows);
    return fits ? OK : err.code == ERR_AGAIN ? ERR_AGAIN : ERR_LIMIT;
}

void admin_shape(struct peer *peer, struct ipc_in *in)
{
    const struct queue_shape *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct queue_shares reply = {.next = msg->after};
    struct shape_page page = {.q = q, .peer = peer, .by_sender = msg->by_sender, .from = msg->from};
    unsigned n = 0;
    buf_init(&page.rows, PAGE_BYTES);
    LIST_EACH(it, &q->all)
    {
        struct message *m = LIST_ENTRY(it, struct message, all);
        if (m->serial <= msg->after || m->deleted)
            continue;
        bool full = n++ == PAGE_MESSAGES || page.read > PAGE_READ;
        int rc = full ? ERR_LIMIT : put_message(&page, m);
        if (rc == ERR_AGAIN && n == 1) {
            admin_wait(peer, in, m);
            buf_clear(&page.rows);
            return;
        }
        if (rc != OK) { /* also before a very large message: with it a page begins */
            reply.more = true;
            break;
        }
        reply.next = m->serial;
        page.from = 0;
    }
    reply.from = page.from;
    reply.shares = buf_slice(&page.rows);
    ipc_reply(peer->ipc, in->id, 0, queue_shares_type, &reply, -1);
    buf_clear(&page.rows);
}
