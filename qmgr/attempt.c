#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libmail/nexthop.h"
#include "qmgr/qmgr.h"

enum {
    RECIPIENTS_BYTES = 11264,
    INLINE_BODY = 49152,
    /* An agent that lives may still lose one delivery out of sight. */
    ATTEMPT_MS = 7200000, /* longer than the patience of RFC 5321 §4.5.3.2 adds up to */
    SLOW_LINE_BYTES_MS = 1
};

/* One deliver_start under way. */
struct attempt {
    struct list link; /* of q->under_way */
    struct qmgr *q;
    struct message *m;
    struct sched_ticket ticket;
    struct peer *peer;                        /* valid while the channel is up */
    uint32_t indexes[DELIVER_RECIPIENTS_MAX]; /* places in the content */
    bool answered[DELIVER_RECIPIENTS_MAX];
    size_t n;
    uint64_t bytes; /* to be written by an agent for mailboxes */
    uint32_t call;
    struct timer overdue;
    bool local, site_failed;
    bool put_back;       /* the MX host has no place: to be queued again */
    const char *trouble; /* why it could not be begun */
    char reason[256];
};

int attempt_agent(struct slice transport)
{
    static const enum role agents[] = {ROLE_VIRTUAL, ROLE_LOCAL, ROLE_PIPE, ROLE_REMOTE};
    for (size_t i = 0; i < ARRAY_LEN(agents); i++)
        if (slice_is(transport, role_info(agents[i])->program))
            return (int)agents[i];
    return slice_is(transport, TRANSPORT_DRAIN) ? (int)ROLE_REMOTE : -1;
}

void attempt_log(struct qmgr *q, struct message *m, const struct rcpt *r, const char *result)
{
    bool same = slice_eq(r->to.address, r->to.original);
    int64_t now = loop_wall(q->loop);
    log_event(&m->log, dlv_done, .to = r->to.address,
        .orig_to = same ? SLICE_LIT("") : r->to.original, .via = r->to.transport,
        .result = slice_of(result), .dsn = r->st.dsn, .mx = r->st.mta, .reply = r->st.text,
        .delay_ms = now - m->content->envelope.received, .try = r->st.attempts,
        .next = r->st.next > now ? (r->st.next - now + 999) / 1000 : 0);
}

void attempt_deferred(struct qmgr *q, struct message *m, struct rcpt *r, int64_t wait_ms)
{
    int64_t now = loop_wall(q->loop);
    int64_t expires = queue_expires(q, m, r);
    r->st.last = now;
    if (wait_ms == 0) {
        r->st.attempts++;
        const struct retry *retry = settings_retry(&q->set, r->to.transport);
        wait_ms = schedule_retry_ms(retry->from, retry->to, r->st.attempts, id_new());
    }
    if (now >= expires) {
        char text[512];
        snprintf(text, sizeof(text), "%.*s", SLICE_FMT(r->st.text));
        char mta[256];
        snprintf(mta, sizeof(mta), "%.*s", SLICE_FMT(r->st.mta));
        rcpt_note(r, DELIVER_EXPIRED, SLICE_LIT("4.4.7"), slice_of(text), slice_of(mta));
        queue_rcpt_failed(q, m, r);
        return;
    }
    queue_rcpt_defer(q, m, r, MIN(wait_ms, expires - now));
    attempt_log(q, m, r, "deferred");
}

static void no_longer_busy(struct message *m, struct rcpt *r)
{
    if (r->busy) {
        r->busy = false;
        m->busy--;
    }
}

/* What the agent said about one recipient. */
static void take_outcome(struct attempt *a, size_t i, const struct outcome *o)
{
    struct qmgr *q = a->q;
    struct message *m = a->m;
    struct rcpt *r = &m->content->rcpts[a->indexes[i]];
    rcpt_note(r, o->status, o->dsn, o->text, o->mta);
    r->st.last = loop_wall(q->loop);
    m->agent_failures = 0;
    if (o->site) {
        a->site_failed = true;
        snprintf(a->reason, sizeof(a->reason), "%.*s", SLICE_FMT(slice_first(o->text, 255)));
    }
    switch (o->status) {
    case DELIVERED:
    case RELAYED_NO_DSN:
        r->st.attempts++;
        if (o->targets.n)
            forward_keep(q, m, a->indexes[i], o);
        if (a->local) {
            sync_add(q, a->peer, m, a->indexes[i]); /* stays busy until it is durable */
            return;
        }
        queue_delivered(q, m, r);
        break;
    case FAILED:
        if (slice_is(r->to.transport, TRANSPORT_DRAIN)) {
            attempt_deferred(q, m, r, 0); /* the node's mistake is not the sender's */
            break;
        }
        r->st.attempts++;
        queue_rcpt_failed(q, m, r);
        break;
    default:
        attempt_deferred(q, m, r, 0);
        break;
    }
    no_longer_busy(m, r);
}

static void take_outcomes(struct attempt *a, struct slice packed)
{
    struct reader reader = reader_of(packed);
    while (reader.rest.n > 0) {
        struct outcome o;
        if (record_get(&reader, &outcome_record, &o) != OK || o.index >= a->n ||
            a->answered[o.index]) {
            log_event(&a->m->log, agent_trouble,
                .agent = destination_transport(a->ticket.destination),
                .reason = SLICE_LIT("an outcome that is malformed or was not asked for"));
            return;
        }
        a->answered[o.index] = true;
        take_outcome(a, o.index, &o);
    }
}

/* Whoever got no outcome waits; nothing was wrong with the destination. */
static void defer_unanswered(struct attempt *a, struct slice why)
{
    int64_t wait = (int64_t)AGENT_AWAY_MS << MIN(a->m->agent_failures, 8u);
    for (size_t i = 0; i < a->n; i++) {
        struct rcpt *r = &a->m->content->rcpts[a->indexes[i]];
        if (a->answered[i])
            continue;
        rcpt_note(r, DEFERRED, SLICE_LIT("4.3.0"), why, SLICE_LIT(""));
        attempt_deferred(a->q, a->m, r, wait);
        no_longer_busy(a->m, r);
    }
}

/* Recipients of this attempt that are finished now. */
static void note_finished(struct attempt *a)
{
    uint32_t done[DELIVER_RECIPIENTS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        if (a->m->content->rcpts[a->indexes[i]].st.state == RCPT_DONE)
            done[n++] = a->indexes[i];
    queue_note_done(a->q, a->m, done, n);
}

/* No attempt was made: the recipients wait for the host that is now known. */
static void put_back(struct attempt *a)
{
    struct message *m = a->m;
    if (m->held || m->deleted || a->q->draining) {
        for (size_t i = 0; i < a->n; i++)
            no_longer_busy(m, &m->content->rcpts[a->indexes[i]]);
        return;
    }
    const struct recipient *to = &m->content->rcpts[a->indexes[0]].to;
    struct sched_order order = queue_order(m);
    schedule_add(a->q->schedule, to->transport, to->nexthop, m, &m->jobs, a->indexes, a->n, &order);
}

void attempt_host(struct peer *peer, const struct ipc_in *in)
{
    const struct deliver_host *ask = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct deliver_grant reply = {.granted = true};
    LIST_EACH(it, &q->under_way)
    {
        struct attempt *a = LIST_ENTRY(it, struct attempt, link);
        if (a->peer != peer || a->call != ask->request)
            continue;
        reply.granted = schedule_enter_host(q->schedule, &a->ticket, ask->host);
        a->put_back = !reply.granted;
        break;
    }
    ipc_reply(peer->ipc, in->id, in->trace, deliver_grant_type, &reply, -1);
}

static void attempt_over(struct attempt *a)
{
    struct qmgr *q = a->q;
    struct message *m = a->m;
    q->attempts--;
    schedule_finished(q->schedule, &a->ticket,
        a->put_back      ? SCHED_UNTRIED
        : a->site_failed ? SCHED_SITE_FAILED
                         : SCHED_WORKED,
        slice_of(a->reason));
    list_remove(&a->link);
    if (a->put_back)
        put_back(a);
    else
        note_finished(a);
    free(a);
    queue_settle(q, m);
}

static void on_deliver_done(struct ipc_in *in, void *arg)
{
    struct attempt *a = arg;
    timer_stop(&a->overdue);
    if (in) {
        const struct deliver_done *done = in->msg;
        agent_heard(a->peer);
        agent_of(a->peer)->bytes -= a->bytes;
        if (!a->put_back) {
            take_outcomes(a, done->outcomes);
            defer_unanswered(a, SLICE_LIT("the delivery agent said nothing about this recipient"));
        }
    } else {
        a->put_back = false;
        a->m->agent_failures++;
        log_event(&a->m->log, agent_trouble, .agent = destination_transport(a->ticket.destination),
            .reason = SLICE_LIT("the agent ended or did not answer in time"));
        defer_unanswered(a, SLICE_LIT("the delivery agent was interrupted"));
    }
    attempt_over(a);
}

static void attempt_overdue(void *arg)
{
    struct attempt *a = arg;
    ipc_cancel(a->peer->ipc, a->call);
    agent_of(a->peer)->bytes -= a->bytes;
    on_deliver_done(NULL, a);
}

static void attempt_not_begun(void *arg)
{
    struct attempt *a = arg;
    a->m->agent_failures++;
    log_event(&a->m->log, spool_failed, .what = SLICE_LIT("cannot hand a message to an agent"),
        .reason = slice_of(a->trouble));
    defer_unanswered(a, slice_of(a->trouble));
    attempt_over(a);
}

/* The recipient's index in the message, by its place in the content. */
static uint32_t index_of(const struct attempt *a, uint32_t place)
{
    return a->m->content->rcpts[place].st.index;
}

/* As many recipients as fit. Local ones are numbered in a row: recipient i of a request has
 * delivery id qid + its index in the message. */
static int pack_recipients(struct attempt *a, const uint32_t *indexes, size_t n, struct buf *out)
{
    for (size_t i = 0; i < MIN(n, (size_t)DELIVER_RECIPIENTS_MAX); i++) {
        size_t before = buf_len(out);
        if (a->local && i > 0 && index_of(a, indexes[i]) != index_of(a, indexes[i - 1]) + 1)
            break;
        const struct recipient *to = &a->m->content->rcpts[indexes[i]].to;
        const struct recipient *first = &a->m->content->rcpts[indexes[0]].to;
        /* The agent says to all of them the same of where the message was (Delivered-To), and of
         * whom it is. */
        if (!slice_eq(to->via, first->via) || !slice_eq(to->owner, first->owner))
            break;
        if (record_put(out, &recipient_record, to) != OK) {
            out->failed = false;
            buf_truncate(out, before);
            break;
        }
        a->indexes[a->n++] = indexes[i];
    }
    return a->n > 0 ? OK : ERR_LIMIT;
}

static int take_body(struct attempt *a, struct buf *body, struct deliver_start *start, int *fd)
{
    struct message *m = a->m;
    if (m->size > INLINE_BODY) {
        *fd = message_open_body(m, a->q->disk);
        a->trouble = "the message body cannot be opened";
        return *fd < 0 ? ERR_IO : OK;
    }
    if (m->content->body.p) {
        start->body = m->content->body;
        return OK;
    }
    a->trouble = "the message body cannot be read";
    int rc = message_read_body(m, a->q->disk, 0, m->size, body);
    start->body = buf_slice(body);
    return rc;
}

static void send_start(struct attempt *a, const uint32_t *indexes, size_t n)
{
    char space[RECIPIENTS_BYTES] __attribute__((uninitialized));
    struct buf recipients, body, envelope;
    int fd = -1;
    buf_over(&recipients, space, sizeof(space));
    buf_init(&body, INLINE_BODY);
    buf_init(&envelope, ENVELOPE_BYTES);
    const struct recipient *first = &a->m->content->rcpts[indexes[0]].to;
    struct deliver_start start = {
        .envelope = message_envelope(a->m, first, &envelope), .size = a->m->size};
    start.body = SLICE_LIT("");
    a->trouble = "a recipient is too long";
    int rc = pack_recipients(a, indexes, n, &recipients);
    if (rc != OK) {
        a->indexes[0] = indexes[0];
        a->n = 1;
    } else {
        rc = take_body(a, &body, &start, &fd);
    }
    start.recipients = buf_slice(&recipients);
    start.delivery = a->m->qid + index_of(a, a->indexes[0]);
    start.attempt = a->m->content->rcpts[a->indexes[0]].st.attempts + 1;
    if (rc == OK) {
        a->bytes = a->m->size * a->n;
        agent_of(a->peer)->bytes += a->bytes;
        timer_init(&a->overdue, a->q->loop, attempt_overdue, a);
        timer_start(&a->overdue, ATTEMPT_MS + (int64_t)(a->m->size / SLOW_LINE_BYTES_MS));
        a->call =
            ipc_call(a->peer->ipc, deliver_start_type, a->m->qid, &start, fd, on_deliver_done, a);
    } else {
        loop_defer(a->q->loop, attempt_not_begun, a);
    }
    fd_close(&fd);
    buf_clear(&envelope);
    buf_clear(&body);
}

/* A mailbox's deliveries go to one agent process as long as it lives: two would wait for each
 * other's lock, with all other mail behind them. */
static struct peer *choose_agent(struct qmgr *q, const struct recipient *first, int role)
{
    struct slice place, folder;
    if (q->draining || role < 0)
        return NULL;
    if (!schedule_is_local(first->transport))
        return daemon_peer(q->daemon, CONV_DELIVER, role);
    nexthop_split(first->nexthop, &place, &folder);
    return daemon_peer_for(q->daemon, CONV_DELIVER, role, place);
}

static size_t start_attempt(struct sched_job *job, const struct sched_ticket *ticket,
    const uint32_t *recipients, size_t n, void *arg)
{
    struct qmgr *q = arg;
    struct slice transport = destination_transport(ticket->destination);
    int role = attempt_agent(transport);
    const struct message *m = job->message;
    const struct recipient *first = &m->content->rcpts[recipients[0]].to;
    struct peer *peer = choose_agent(q, first, role);
    if (!peer)
        return 0;
    struct attempt *a = NEW(struct attempt);
    a->q = q;
    list_append(&q->under_way, &a->link);
    a->m = job->message;
    a->ticket = *ticket;
    a->peer = peer;
    a->local = schedule_is_local(transport);
    q->attempts++;
    send_start(a, recipients, n);
    return a->n;
}

static void refuse_attempt(struct sched_job *job, const uint32_t *recipients, size_t n,
    int64_t wait_ms, struct slice reason, void *arg)
{
    struct qmgr *q = arg;
    struct message *m = job->message;
    for (size_t i = 0; i < n; i++) {
        struct rcpt *r = &m->content->rcpts[recipients[i]];
        int64_t wait = wait_ms + (int64_t)(id_new() % (uint64_t)(wait_ms / 4 + 1));
        if (m->parked && loop_wall(q->loop) < queue_expires(q, m, r)) {
            /* Nothing was tried and nothing is new: neither the disk nor the log need to know. */
            r->st.next = loop_wall(q->loop) + wait;
        } else {
            rcpt_note(r, DEFERRED, SLICE_LIT("4.4.1"), reason, SLICE_LIT(""));
            attempt_deferred(q, m, r, wait);
        }
        no_longer_busy(m, r);
    }
    queue_settle(q, m);
}

const struct schedule_ops attempt_ops = {
    .start = start_attempt,
    .refuse = refuse_attempt,
    .limits_of = settings_destination,
    .host_limits = settings_host,
    .transport_of = settings_transport,
};
