#include <stdlib.h>
#include <unistd.h>

#include "libmail/proto/queue.h"
#include "qmgr/qmgr.h"

enum { PAGE_BYTES = 60000, PAGE_MESSAGES = 400, DETAIL_BYTES = 50000 };

/* A message with content for looking at: the one in the queue, or a copy read from its file.
 * peek_end after use. */
struct peek {
    struct message *m, *copy;
};

static bool peek_begin(struct qmgr *q, struct message *m, struct peek *p, struct error *err)
{
    *p = (struct peek){.m = m};
    if (m->content)
        return true;
    if (m->committing)
        return false;
    p->copy = p->m = message_new(m->qid, m->size);
    p->copy->parked = true;
    return message_load_parked(p->copy, q->disk, err) == OK;
}

static void peek_end(struct peek *p)
{
    message_free(p->copy);
}

static const char *state_name(const struct message *m)
{
    if (m->held)
        return "held";
    if (m->busy || m->reporting || m->committing || m->content)
        return "active";
    return "deferred";
}

static int put_entry(struct qmgr *q, struct message *m, struct buf *page)
{
    struct queue_entry e = {.qid = m->qid,
        .size = m->size,
        .sender = SLICE_LIT(""),
        .recipient = SLICE_LIT(""),
        .reason = SLICE_LIT(""),
        .state = slice_of(state_name(m))};
    struct peek p;
    struct error err = {.text = ""};
    if (peek_begin(q, m, &p, &err)) {
        message_describe(m, p.m->content, &e);
    } else {
        e.state = m->damaged ? SLICE_LIT("damaged") : e.state;
        e.reason = slice_of(err.text);
    }
    size_t before = buf_len(page);
    int rc = record_put(page, &queue_entry_record, &e);
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
    struct buf page;
    unsigned n = 0;
    buf_init(&page, PAGE_BYTES);
    LIST_EACH(it, &q->all)
    {
        struct message *m = LIST_ENTRY(it, struct message, all);
        if (m->serial <= msg->after || m->deleted)
            continue;
        if (n++ == PAGE_MESSAGES || put_entry(q, m, &page) != OK) {
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
            .transport = r->to.transport,
            .nexthop = r->to.nexthop,
            .state = rcpt_state_name(r),
            .attempts = r->st.attempts,
            .next = r->st.next,
            .reason = r->st.text};
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

static struct message *find_visible(struct qmgr *q, uint64_t qid)
{
    struct message *m = queue_find(q, qid);
    return m && !m->deleted ? m : NULL;
}

static void on_show(struct peer *peer, struct ipc_in *in)
{
    const struct queue_show *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct message *m = find_visible(q, msg->qid);
    struct queue_details reply = {.code = ERR_NOT_FOUND,
        .envelope = SLICE_LIT(""),
        .state = SLICE_LIT(""),
        .recipients = SLICE_LIT("")};
    struct buf recipients;
    struct peek p = {0};
    struct error err;
    buf_init(&recipients, DETAIL_BYTES);
    if (m && peek_begin(q, m, &p, &err)) {
        reply = (struct queue_details){.code = OK,
            .envelope = p.m->content->envelope_raw,
            .size = m->size,
            .state = slice_of(state_name(m)),
            .next = msg->from};
        put_recipients(p.m->content, &reply.next, &recipients);
        reply.recipients = buf_slice(&recipients);
    } else if (m) {
        reply.code = ERR_CORRUPT;
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_details_type, &reply, -1);
    buf_clear(&recipients);
    peek_end(&p);
}

static void on_body(struct peer *peer, struct ipc_in *in)
{
    const struct queue_body *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct message *m = find_visible(q, msg->qid);
    struct queue_content reply = {.code = ERR_NOT_FOUND};
    int fd = m && !m->committing ? message_open_body(m, q->disk) : -1;
    if (fd >= 0) {
        reply.code = OK;
        reply.size = m->size;
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_content_type, &reply, fd < 0 ? -1 : fd);
    if (fd >= 0)
        fd_close(&fd);
}

/* --- acting ---------------------------------------------------------------------------------- */

static bool idle(const struct message *m)
{
    return !m->busy && !m->moving && !m->reporting && !m->updates;
}

/* Only moves the due time: a message is read when it comes up, or goes on when what is under way
 * with it is over. */
static bool flush_one(struct qmgr *q, struct message *m)
{
    if (m->held || m->deleted || m->committing || m->busy)
        return false;
    m->flush = true;
    m->report_after = 0;
    if (idle(m))
        queue_wake_in(q, m, 0);
    return true;
}

static bool delete_one(struct qmgr *q, struct message *m)
{
    if (m->deleted || m->committing)
        return false;
    m->deleted = true;
    queue_unschedule(q, m);
    if (idle(m))
        queue_settle(q, m);
    return true;
}

static bool hold_one(struct qmgr *q, struct message *m)
{
    struct error err;
    if (m->held || m->committing || queue_load(q, m, &err) != OK)
        return false;
    m->held = true;
    m->changes++;
    queue_unschedule(q, m);
    if (idle(m))
        queue_settle(q, m);
    return true;
}

static bool release_one(struct qmgr *q, struct message *m)
{
    struct error err;
    if (!m->held || m->damaged || m->committing || queue_load(q, m, &err) != OK)
        return false;
    m->held = false;
    m->changes++;
    for (size_t i = 0; i < m->content->count; i++)
        m->content->rcpts[i].st.next = 0;
    if (idle(m))
        queue_wake_in(q, m, 0);
    return true;
}

static void log_flush(const struct log *log, int64_t uid, uint64_t n)
{
    log_event(log, queue_flush, .by_uid = uid, .count = n, .sender = SLICE_LIT(""));
}

static void log_delete(const struct log *log, int64_t uid, uint64_t n)
{
    log_event(log, queue_delete, .by_uid = uid, .count = n, .sender = SLICE_LIT(""));
}

static void log_hold(const struct log *log, int64_t uid, uint64_t n)
{
    log_event(log, queue_hold, .by_uid = uid, .count = n, .sender = SLICE_LIT(""));
}

static void log_release(const struct log *log, int64_t uid, uint64_t n)
{
    log_event(log, queue_release, .by_uid = uid, .count = n, .sender = SLICE_LIT(""));
}

static const struct verb {
    const char *name;
    bool (*act)(struct qmgr *, struct message *);
    void (*log)(const struct log *, int64_t uid, uint64_t n);
} verbs[] = {
    {"flush", flush_one, log_flush},
    {"delete", delete_one, log_delete},
    {"hold", hold_one, log_hold},
    {"release", release_one, log_release},
};

static const struct verb *find_verb(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (slice_is(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

static uint64_t act_all(struct qmgr *q, const struct verb *verb)
{
    uint64_t n = 0;
    LIST_EACH(it, &q->all)
    n += verb->act(q, LIST_ENTRY(it, struct message, all));
    return n;
}

static void on_act(struct peer *peer, struct ipc_in *in)
{
    const struct queue_act *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    const struct verb *verb = find_verb(msg->verb);
    struct message *m = msg->qid ? find_visible(q, msg->qid) : NULL;
    struct queue_acted reply = {.code = OK, .text = SLICE_LIT("")};
    if (!verb) {
        reply.code = ERR_UNSUPPORTED;
        reply.text = SLICE_LIT("unknown verb");
    } else if (msg->qid && !m) {
        reply.code = ERR_NOT_FOUND;
        reply.text = SLICE_LIT("no such message in the queue");
    } else {
        struct log log = m ? m->log : *q->log;
        if (verb->act == flush_one)
            schedule_revive(q->schedule);
        reply.count = m ? verb->act(q, m) : act_all(q, verb);
        verb->log(&log, peer->uid, reply.count);
        if (m && reply.count == 0)
            reply.text = SLICE_LIT("nothing to do: see its state");
    }
    ipc_reply(peer->ipc, in->id, msg->qid, queue_acted_type, &reply, -1);
}

void admin_message(struct peer *peer, struct ipc_in *in)
{
    static void (*const handlers[])(struct peer *, struct ipc_in *) = {
        [queue_list_type] = on_list,
        [queue_show_type] = on_show,
        [queue_act_type] = on_act,
        [queue_body_type] = on_body,
    };
    if (in->type < ARRAY_LEN(handlers) && handlers[in->type])
        handlers[in->type](peer, in);
}
