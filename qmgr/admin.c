#include <stdlib.h>
#include <unistd.h>

#include "libmail/proto/queue.h"
#include "qmgr/admin.h"
#include "qmgr/filter.h"

enum { PAGE_BYTES = 60000, DETAIL_BYTES = 50000 };

const char *admin_state(const struct message *m)
{
    if (m->damaged)
        return "damaged";
    if (m->held)
        return "held";
    if (m->busy || m->reporting || m->committing || m->content)
        return "active";
    return "deferred";
}

/* Appends the message when it fits. ERR_LIMIT: the page is full. ERR_AGAIN: see peek_begin. */
static int put_entry(struct qmgr *q, struct message *m, const struct queue_filter *filter,
    struct buf *page, uint64_t *read)
{
    struct queue_entry e = {.qid = m->qid,
        .size = m->size,
        .sender = SLICE_LIT(""),
        .recipient = SLICE_LIT(""),
        .reason = SLICE_LIT("")};
    struct peek p;
    struct error err = {.text = ""};
    bool readable = peek_begin(q, m, NULL, &p, &err);
    if (!readable && (err.code == ERR_AGAIN || m->moving)) { /* moving: its file is being removed */
        peek_end(&p);
        return err.code == ERR_AGAIN ? ERR_AGAIN : OK;
    }
    *read += p.read;
    e.state = slice_of(admin_state(m));
    if (readable) {
        message_describe(m, p.m->content, &e);
    } else {
        e.state = m->damaged || err.code == ERR_CORRUPT ? SLICE_LIT("damaged") : e.state;
        e.reason = slice_of(err.text);
    }
    const struct content *seen = readable ? p.m->content : NULL;
    size_t before = buf_len(page);
    int rc = OK;
    if (filter_fits(filter, seen, e.state, loop_wall(q->loop)))
        rc = record_put(page, &queue_entry_record, &e);
    if (rc != OK) {
        page->failed = false;
        buf_truncate(page, before);
    }
    peek_end(&p);
    return rc;
}

static void on_list(struct peer *peer, struct ipc_in *in)
{
    const struct queue_list *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct queue_page reply = {.next = msg->after};
    struct queue_filter filter;
    struct buf page;
    unsigned n = 0;
    uint64_t read = 0;
    buf_init(&page, PAGE_BYTES);
    bool good = filter_read(msg->filter, &filter) == OK;
    LIST_EACH(it, &q->all)
    {
        struct message *m = LIST_ENTRY(it, struct message, all);
        if (!good || m->serial <= msg->after || m->deleted)
            continue;
        bool full = n++ == PAGE_MESSAGES || read > PAGE_READ;
        int rc = full ? ERR_LIMIT : put_entry(q, m, &filter, &page, &read);
        if (rc == ERR_AGAIN && n == 1) {
            admin_wait(peer, in, m);
            buf_clear(&page);
            return;
        }
        if (rc != OK) { /* also before a very large message: with it a page begins */
            reply.more = true;
            break;
        }
        reply.next = m->serial;
    }
    reply.entries = buf_slice(&page);
    ipc_reply(peer->ipc, in->id, 0, queue_page_type, &reply, -1);
    buf_clear(&page);
}

static struct slice rcpt_state_name(const struct rcpt *r)
{
    switch (r->st.state) {
    case RCPT_WAITING:
        return r->busy ? SLICE_LIT("active") : SLICE_LIT("waiting");
    case RCPT_FAILED:
        return SLICE_LIT("failed");
    case RCPT_DELIVERED:
        return SLICE_LIT("delivered");
    default:
        return SLICE_LIT("done");
    }
}

/* Recipients from *from on, as many as fit; *from becomes the next one, or 0 when complete. */
static void put_recipients(const struct content *c, uint32_t *from, struct buf *out)
{
    for (size_t i = *from; i < c->count; i++) {
        const struct rcpt *r = &c->rcpts[i];
        struct queue_recipient qr = {.address = r->to.address,
            .original = r->to.original,
            .orcpt = r->to.orcpt,
            .notify = r->to.notify,
            .transport = r->to.transport,
            .nexthop = r->to.nexthop,
            .state = rcpt_state_name(r),
            .attempts = r->st.attempts,
            .next = r->st.next,
            .reason = r->st.text,
            .owner = r->to.owner};
        size_t before = buf_len(out);
        if (record_put(out, &queue_recipient_record, &qr) != OK) {
            out->failed = false;
            buf_truncate(out, before);
            *from = (uint32_t)i;
            return;
        }
    }
    *from = 0;
}

struct message *admin_find(struct qmgr *q, uint64_t qid)
{
    struct message *m = queue_find(q, qid);
    return m && !m->deleted ? m : NULL;
}

static void on_show(struct peer *peer, struct ipc_in *in)
{
    const struct queue_show *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct message *m = admin_find(q, msg->qid);
    struct queue_details reply = {.code = ERR_NOT_FOUND,
        .envelope = SLICE_LIT(""),
        .state = SLICE_LIT(""),
        .recipients = SLICE_LIT("")};
    struct buf recipients;
    struct error err = {.text = ""};
    struct message *seen = m ? admin_look(peer, m, msg->from == 0, &err) : NULL;
    if (err.code == ERR_AGAIN) {
        admin_wait(peer, in, m);
        return;
    }
    buf_init(&recipients, DETAIL_BYTES);
    if (seen) {
        reply = (struct queue_details){.code = OK,
            .envelope = seen->content->envelope_raw,
            .size = m->size,
            .state = slice_of(admin_state(m)),
            .next = msg->from};
        put_recipients(seen->content, &reply.next, &recipients);
        reply.recipients = buf_slice(&recipients);
    } else if (m) {
        reply.code = m->moving ? ERR_NOT_FOUND : ERR_CORRUPT; /* its file is being removed */
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_details_type, &reply, -1);
    buf_clear(&recipients);
}

static void on_body(struct peer *peer, struct ipc_in *in)
{
    const struct queue_body *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct message *m = admin_find(q, msg->qid);
    struct queue_content reply = {.code = ERR_NOT_FOUND};
    int fd = m && !m->committing ? message_open_body(m, q->disk) : -1;
    if (fd >= 0) {
        reply.code = OK;
        reply.size = m->size;
        if (q->committer)
            admin_log(q, &m->log, peer->uid, SLICE_LIT("read"), SLICE_LIT(""), "done", 1);
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_content_type, &reply, fd < 0 ? -1 : fd);
    if (fd >= 0)
        fd_close(&fd);
}

void admin_message(struct peer *peer, struct ipc_in *in)
{
    static void (*const handlers[])(struct peer *, struct ipc_in *) = {
        [queue_list_type] = on_list,
        [queue_show_type] = on_show,
        [queue_act_type] = admin_act,
        [queue_body_type] = on_body,
        [queue_history_type] = admin_history,
        [queue_shape_type] = admin_shape,
    };
    if (in->type < ARRAY_LEN(handlers) && handlers[in->type])
        handlers[in->type](peer, in);
}
