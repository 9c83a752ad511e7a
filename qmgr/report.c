#include <stdlib.h>
#include <unistd.h>

#include "qmgr/qmgr.h"

enum { REPORT_RECIPIENTS_BYTES = 24576, REPORT_HEADER_BYTES = 32768 };

/* The bounce agent's own reports to the postmaster carry this listener: when even they fail,
 * there is nobody left to tell. */
static const char double_bounce[] = "double-bounce";

struct report {
    struct qmgr *q;
    struct message *m;
    enum report_kind kind;
    const struct rcpt *first; /* of those it tells about; while it is made */
    uint32_t *indexes;
    size_t n;
};

static const char *const kind_names[] = {
    [REPORT_FAILURE] = "failure", [REPORT_DELAY] = "delay", [REPORT_SUCCESS] = "success"};

static struct slice sender_of(const struct message *m, const struct rcpt *r)
{
    return recipient_sender(&m->content->envelope, &r->to);
}

static void log_report(struct message *m, const char *kind, const struct rcpt *first, size_t n,
    uint64_t qid, struct slice reason)
{
    char id[ID_TEXT] = "";
    if (qid)
        id_print(qid, id);
    log_event(&m->log, msg_bounce, .kind = slice_of(kind), .sender = sender_of(m, first),
        .nrcpt = (uint32_t)n, .report = slice_of(id), .reason = reason);
}

/* Why nobody is told about this failure; NULL: somebody is. RFC 3461 §4.1, §6.2 (c). */
static const char *silent(const struct message *m, const struct rcpt *r)
{
    const struct envelope *e = &m->content->envelope;
    if (e->sender.n == 0 && slice_is(e->listener, double_bounce))
        return "the report to the postmaster failed";
    if (r->to.notify & NOTIFY_NEVER)
        return "NOTIFY=NEVER";
    if (r->to.notify && !(r->to.notify & NOTIFY_FAILURE))
        return "NOTIFY without FAILURE";
    return NULL;
}

static void resolve_silent(struct qmgr *q, struct message *m)
{
    for (size_t i = 0; i < m->content->count; i++) {
        struct rcpt *r = &m->content->rcpts[i];
        const char *why = r->st.state == RCPT_FAILED ? silent(m, r) : NULL;
        if (!why)
            continue;
        log_report(m, "none", r, 1, 0, slice_of(why));
        queue_rcpt_done(q, m, r, false);
    }
}

static bool wants(
    const struct qmgr *q, const struct message *m, const struct rcpt *r, enum report_kind kind)
{
    const struct envelope *e = &m->content->envelope;
    int64_t warning = settings_retry(&q->set, r->to.transport)->delay_warning;
    switch (kind) {
    case REPORT_FAILURE:
        return r->st.state == RCPT_FAILED;
    case REPORT_SUCCESS:
        return r->st.state == RCPT_DELIVERED;
    case REPORT_DELAY:
        return r->st.state == RCPT_WAITING && r->st.attempts > 0 && !m->warned && !m->held &&
               warning > 0 && e->sender.n > 0 && r->to.owner.n == 0 &&
               (r->to.notify == 0 || (r->to.notify & NOTIFY_DELAY)) &&
               loop_wall(q->loop) >= MAX(e->received, e->hold_until) + warning;
    }
    return false;
}

/* One report each for the sender and for the owners of lists. */
static bool belongs(const struct report *rep, const struct rcpt *r)
{
    return wants(rep->q, rep->m, r, rep->kind) &&
           (!rep->first || slice_eq(sender_of(rep->m, r), sender_of(rep->m, rep->first)));
}

/* Chooses whom the report goes to, and says how many recipients are his. */
static size_t choose(struct report *rep)
{
    size_t n = 0;
    for (size_t i = 0; i < rep->m->content->count; i++) {
        const struct rcpt *r = &rep->m->content->rcpts[i];
        if (!belongs(rep, r))
            continue;
        rep->first = rep->first ? rep->first : r;
        n++;
    }
    return n;
}

static void on_reported(struct ipc_in *in, void *arg)
{
    struct report *rep = arg;
    struct qmgr *q = rep->q;
    struct message *m = rep->m;
    const struct deliver_reported *done = in ? in->msg : NULL;
    const struct rcpt *first = &m->content->rcpts[rep->indexes[0]];
    m->reporting = false;
    if (done && done->code == OK) {
        log_report(m, kind_names[rep->kind], first, rep->n, done->qid, SLICE_LIT(""));
        for (size_t i = 0; i < rep->n && rep->kind != REPORT_DELAY; i++)
            queue_rcpt_done(q, m, &m->content->rcpts[rep->indexes[i]], rep->kind == REPORT_SUCCESS);
        m->warned |= rep->kind == REPORT_DELAY;
        m->changes++;
        queue_note_done(q, m, rep->indexes, rep->kind == REPORT_DELAY ? 0 : rep->n);
    } else {
        log_report(m, kind_names[rep->kind], first, rep->n, 0,
            done ? done->text : SLICE_LIT("the bounce agent did not answer"));
        m->report_after = loop_wall(q->loop) + REPORT_RETRY_MS;
    }
    free(rep->indexes);
    free(rep);
    queue_settle(q, m);
}

/* Sends what is packed ahead of the report. False: the agent is not there. */
static bool send_ahead(struct report *rep, struct buf *packed)
{
    struct peer *agent = daemon_peer(rep->q->daemon, CONV_DELIVER, ROLE_BOUNCE);
    struct deliver_report_more more = {.qid = rep->m->qid, .recipients = buf_slice(packed)};
    bool sent =
        agent && ipc_send(agent->ipc, deliver_report_more_type, rep->m->qid, &more, -1) == OK;
    buf_reset(packed);
    return sent;
}

static void pack(struct report *rep, struct buf *out, struct deliver_report *msg)
{
    for (size_t i = 0; i < rep->m->content->count; i++) {
        const struct rcpt *r = &rep->m->content->rcpts[i];
        if (!belongs(rep, r))
            continue;
        if (rep->kind == REPORT_DELAY)
            msg->will_retry_until = MAX(msg->will_retry_until, queue_expires(rep->q, rep->m, r));
        struct report_recipient rr = {.address = r->to.address,
            .original = r->to.original,
            .orcpt = r->to.orcpt,
            .status = r->st.status,
            .dsn = r->st.dsn,
            .text = r->st.text,
            .mta = r->st.mta,
            .last_attempt = r->st.last};
        size_t before = buf_len(out);
        int rc = record_put(out, &report_recipient_record, &rr);
        if (rc != OK) {
            out->failed = false;
            buf_truncate(out, before);
            if (send_ahead(rep, out))
                rc = record_put(out, &report_recipient_record, &rr);
        }
        msg->left_out += rc != OK;
        rep->indexes[rep->n++] = (uint32_t)i;
    }
}

static void send_report(struct report *rep)
{
    struct qmgr *q = rep->q;
    struct message *m = rep->m;
    struct buf recipients, header, envelope;
    buf_init(&recipients, REPORT_RECIPIENTS_BYTES);
    buf_init(&header, REPORT_HEADER_BYTES);
    buf_init(&envelope, ENVELOPE_BYTES);
    struct deliver_report msg = {.kind = rep->kind,
        .envelope = message_envelope(m, &rep->first->to, &envelope),
        .size = m->size};
    pack(rep, &recipients, &msg);
    msg.recipients = buf_slice(&recipients);
    size_t n = (size_t)MIN(m->size, (uint64_t)REPORT_HEADER_BYTES);
    int fd = -1;
    if (message_read_body(m, q->disk, 0, n, &header) != OK)
        buf_reset(&header); /* a report without the header is better than none */
    msg.header = buf_slice(&header);
    if (m->size > n && rep->kind == REPORT_FAILURE && m->content->envelope.ret != RET_HDRS)
        fd = message_open_body(m, q->disk);
    m->reporting = true;
    daemon_call(q->daemon, CONV_DELIVER, ROLE_BOUNCE, deliver_report_type, m->qid, &msg,
        fd < 0 ? -1 : fd, on_reported, rep);
    if (fd >= 0)
        fd_close(&fd);
    buf_clear(&envelope);
    buf_clear(&recipients);
    buf_clear(&header);
}

bool report_begin(struct qmgr *q, struct message *m)
{
    static const enum report_kind kinds[] = {REPORT_FAILURE, REPORT_SUCCESS, REPORT_DELAY};
    resolve_silent(q, m);
    if (q->draining || loop_wall(q->loop) < m->report_after)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct report found = {.q = q, .m = m, .kind = kinds[i]};
        size_t n = choose(&found);
        if (n == 0)
            continue;
        struct report *rep = NEW(struct report);
        *rep = found;
        rep->indexes = xcalloc(n, sizeof(*rep->indexes));
        send_report(rep);
        return true;
    }
    return false;
}
