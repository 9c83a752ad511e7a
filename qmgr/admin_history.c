#include "qmgr/admin.h"
#include "qmgr/history.h"

enum { PAGE_BYTES = 50000 };

/* A page of attempts, from number `from` on. */
struct page {
    const struct content *content;
    struct buf out;
    uint32_t from, n, next;
};

static const char *result_name(const struct parked_state *st)
{
    switch (st->state) {
    case RCPT_WAITING:
        return "deferred";
    case RCPT_FAILED:
        return "bounced";
    case RCPT_DELIVERED:
        return "delivered";
    default:
        return st->status == DELIVERED || st->status == RELAYED_NO_DSN ? "delivered" : "done";
    }
}

static void add(const struct parked_state *st, void *arg)
{
    struct page *p = arg;
    uint32_t number = p->n++;
    if (number < p->from || p->next)
        return;
    const struct content *c = p->content;
    struct queue_attempt a = {
        .address = c && st->index < c->count ? c->rcpts[st->index].to.address : SLICE_LIT(""),
        .at = st->last,
        .attempts = st->attempts,
        .result = slice_of(result_name(st)),
        .dsn = st->dsn,
        .mta = st->mta,
        .text = st->text};
    size_t before = buf_len(&p->out);
    if (record_put(&p->out, &queue_attempt_record, &a) != OK) {
        p->out.failed = false;
        buf_truncate(&p->out, before);
        p->next = number;
    }
}

void admin_history(struct peer *peer, struct ipc_in *in)
{
    const struct queue_history *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct message *m = admin_find(q, msg->qid);
    struct queue_past reply = {.code = ERR_NOT_FOUND, .attempts = SLICE_LIT("")};
    struct page page = {.from = msg->from};
    struct peek peek = {0};
    struct error err;
    buf_init(&page.out, PAGE_BYTES);
    if (m && peek_begin(q, m, &peek, &err)) {
        page.content = peek.m->content;
        reply.code = history_each(peek.m, q->disk, add, &page, &err);
        reply.attempts = buf_slice(&page.out);
        reply.next = page.next;
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_past_type, &reply, -1);
    buf_clear(&page.out);
    peek_end(&peek);
}
