/* A report's way to the bounce agent: recipients in pieces, each when the last one was taken, then
 * the message's header and, where it is to be returned, the message. */
#include <stdlib.h>
#include <string.h>

#include "qmgr/report.h"

enum {
    REPORT_RECIPIENTS_BYTES = 24576,
    REPORT_HEADER_BYTES = 32768,
    REPORT_AHEAD_MAX = 12 * 1024 * 1024, /* some 100 000 recipients */
    REPORT_DETAILED = 1000,              /* recipients whose reasons are told */
    READ_AT_ONCE = 500
};

static void collect(void *arg);

/* --- one recipient --------------------------------------------------------------------------- */

static void take_first(struct report *rep, const struct rcpt *r)
{
    struct buf space;
    buf_init(&space, ENVELOPE_BYTES);
    buf_init(&rep->envelope, ENVELOPE_BYTES);
    buf_put(&rep->envelope, message_envelope(rep->m, &r->to, &space));
    snprintf(rep->sender, sizeof(rep->sender), "%.*s",
        SLICE_FMT(recipient_sender(&rep->m->content->envelope, &r->to)));
    buf_clear(&space);
}

static struct report_recipient describe(const struct report *rep, const struct rcpt *r)
{
    bool detailed = rep->n < REPORT_DETAILED;
    struct slice none = SLICE_LIT("");
    return (struct report_recipient){.address = r->to.address,
        .original = detailed ? r->to.original : none,
        .orcpt = r->to.orcpt,
        .status = r->st.status,
        .dsn = r->st.dsn,
        .text = detailed ? r->st.text : none,
        .mta = detailed ? r->st.mta : none,
        .last_attempt = detailed ? r->st.last : 0};
}

/* False: the piece is full. */
static bool pack(struct report *rep, const struct rcpt *r)
{
    struct report_recipient rr = describe(rep, r);
    size_t before = buf_len(&rep->packed);
    if (rep->ahead > REPORT_AHEAD_MAX) {
        rep->left_out++;
    } else if (record_put(&rep->packed, &report_recipient_record, &rr) != OK) {
        rep->packed.failed = false;
        buf_truncate(&rep->packed, before);
        if (before > 0)
            return false;
        rep->left_out++;
    }
    if (rep->n == 0)
        take_first(rep, r);
    if (rep->kind == REPORT_DELAY)
        rep->until = MAX(rep->until, queue_expires(rep->q, rep->m, r));
    if (rep->places)
        rep->places[rep->n] = (uint32_t)(r - rep->source->rcpts);
    if (rep->places && r->st.index < 64)
        rep->indexes |= UINT64_C(1) << r->st.index;
    rep->expanded += r->st.status == EXPANDED;
    rep->n++;
    return true;
}

/* --- to the agent ---------------------------------------------------------------------------- */

static void on_reported(struct ipc_in *in, void *arg)
{
    const struct deliver_reported *done = in ? in->msg : NULL;
    if (done)
        report_over(arg, done->code == OK ? OK : ERR_TEMP, done->qid, done->text);
    else
        report_over(arg, ERR_TEMP, 0, SLICE_LIT("the bounce agent did not answer"));
}

static void send_request(struct report *rep)
{
    struct qmgr *q = rep->q;
    struct message *m = rep->m;
    struct buf header;
    buf_init(&header, REPORT_HEADER_BYTES);
    size_t n = (size_t)MIN(m->size, (uint64_t)REPORT_HEADER_BYTES);
    if (message_read_body(m, q->disk, 0, n, &header) != OK)
        buf_reset(&header); /* a report without the header is better than none */
    struct deliver_report msg = {.kind = rep->kind,
        .envelope = buf_slice(&rep->envelope),
        .recipients = buf_slice(&rep->packed),
        .size = m->size,
        .will_retry_until = rep->until,
        .header = buf_slice(&header),
        .left_out = rep->left_out,
        .ahead = (uint32_t)rep->ahead,
        .serial = rep->serial,
        .group = rep->group,
        .indexes = m->parked ? 0 : rep->indexes};
    int fd = -1;
    if (m->size > n && rep->kind == REPORT_FAILURE && m->content->envelope.ret != RET_HDRS)
        fd = message_open_body(m, q->disk);
    daemon_call(q->daemon, CONV_DELIVER, ROLE_BOUNCE, deliver_report_type, m->qid, &msg,
        fd < 0 ? -1 : fd, on_reported, rep);
    if (fd >= 0)
        fd_close(&fd);
    buf_clear(&header);
}

static void on_taken(struct ipc_in *in, void *arg)
{
    if (in)
        collect(arg);
    else
        report_over(arg, ERR_TEMP, 0, SLICE_LIT("the bounce agent did not answer"));
}

static void send_ahead(struct report *rep)
{
    struct deliver_report_more more = {
        .qid = rep->m->qid, .ahead = (uint32_t)rep->ahead, .recipients = buf_slice(&rep->packed)};
    rep->ahead += buf_len(&rep->packed);
    daemon_call(rep->q->daemon, CONV_DELIVER, ROLE_BOUNCE, deliver_report_more_type, rep->m->qid,
        &more, -1, on_taken, rep);
    buf_reset(&rep->packed);
}

/* --- all recipients -------------------------------------------------------------------------- */

/* The next part of the file. ERR_NOT_FOUND: that was all. */
static int read_on(struct report *rep)
{
    struct message *m = rep->m;
    struct error err;
    struct roster_choice choice = report_choice(rep);
    content_free(rep->portion);
    rep->source = rep->portion =
        roster_peek(m, &choice, &rep->from, READ_AT_ONCE, rep->q->disk, &err);
    rep->at = 0;
    if (!rep->portion) {
        report_over(rep, err.code, 0, slice_of(err.text));
        return err.code;
    }
    return rep->portion->count > 0 ? OK : ERR_NOT_FOUND;
}

static void finish(struct report *rep)
{
    if (rep->n > 0)
        send_request(rep);
    else
        report_over(rep, OK, 0, SLICE_LIT("")); /* nobody wants to hear of it after all */
}

/* Packs what there is in memory, then reads on; other work comes in between. */
static void collect(void *arg)
{
    struct report *rep = arg;
    for (; rep->source && rep->at < rep->source->count; rep->at++) {
        const struct rcpt *r = &rep->source->rcpts[rep->at];
        if (report_belongs(rep, r) && !pack(rep, r)) {
            send_ahead(rep);
            return;
        }
    }
    if (!rep->m->content->roster) {
        finish(rep);
        return;
    }
    int rc = read_on(rep);
    if (rc == OK)
        loop_defer(rep->q->loop, collect, rep);
    else if (rc == ERR_NOT_FOUND)
        finish(rep);
}

void report_send(struct report *rep)
{
    buf_init(&rep->packed, REPORT_RECIPIENTS_BYTES);
    rep->source = rep->m->content->roster ? NULL : rep->m->content;
    collect(rep);
}
