/*
 * Forwarded mail goes into the queue again: lookupd says where each address of a .forward leads,
 * then qmgr takes a copy with a Delivered-To field of the recipient on top, by which the next
 * turn of a loop is known. The sender stays. The body passes through unread.
 *
 * An address that nobody has does not spoil the others: it becomes a recipient that this agent
 * returns to the sender, as behind an alias. What is temporary defers the whole delivery, which
 * finds its mailboxes served the next time. Only a crash between qmgr's answer here and its note
 * that the recipient is done makes a second copy.
 */
#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "delivery/local/events.h"
#include "delivery/local/parts.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"

struct resend {
    struct task *task;
    struct local_result result;
    struct buf addresses;  /* not yet routed; buf_lv each */
    struct buf recipients; /* packed */
    struct buf head;       /* Delivered-To, and the body where it is small */
    struct slice asked;    /* in addresses */
    unsigned count;
    uint64_t qid;
    int file; /* lent by qmgr, or -1 */
    uint64_t size;
};

static void over(struct resend *s, const char *trouble)
{
    struct task *t = s->task;
    struct local_result r = s->result;
    if (trouble) {
        r.status = DEFERRED;
        snprintf(r.dsn, sizeof(r.dsn), "4.3.0");
        snprintf(r.rule, sizeof(r.rule), "forward");
        snprintf(r.text, sizeof(r.text), "%s", trouble);
    }
    fd_close(&s->file);
    buf_clear(&s->addresses);
    buf_clear(&s->recipients);
    buf_clear(&s->head);
    free(s);
    local_conclude(t, &r);
}

/* --- into the queue -------------------------------------------------------------------------- */

static void on_injected(struct ipc_in *in, void *arg)
{
    struct resend *s = arg;
    struct task *t = s->task;
    const struct inject_result *m = in ? in->msg : NULL;
    char id[ID_TEXT];
    struct log log;
    if (!m || m->code != 250) {
        over(s, "the queue did not take the forwarded mail");
        return;
    }
    id_print(s->qid, id);
    log_set_id(&log, &t->local->daemon->log, "qid", t->job->trace);
    log_event(&log, local_forward, .to = slice_of(t->address), .account = slice_of(t->account.name),
        .as = slice_of(id), .nrcpt = s->count);
    if (!s->result.stored)
        snprintf(s->result.text, sizeof(s->result.text), "forwarded as %s", id);
    over(s, NULL);
}

static void inject(struct resend *s)
{
    struct job *j = s->task->job;
    struct daemon *d = s->task->local->daemon;
    struct reader r = reader_of(slice_from(j->envelope, j->envelope_len));
    struct envelope e;
    struct buf envelope;
    buf_init(&envelope, 4096);
    int rc = record_get(&r, &envelope_record, &e);
    /* The rest stays as it was: a report's listener keeps it from being reported again. */
    e.received = loop_wall(d->loop);
    e.login = SLICE_LIT("");
    if (rc || record_put(&envelope, &envelope_record, &e)) {
        over(s, "the envelope cannot be used for forwarding");
    } else {
        struct inject_accept m = {.txn = s->qid,
            .envelope = buf_slice(&envelope),
            .recipients = buf_slice(&s->recipients),
            .size = s->size,
            .body = s->file >= 0 ? SLICE_LIT("") : buf_slice(&s->head),
            .qid = s->qid};
        fd_close(&s->file);
        daemon_call(d, CONV_INJECT, ROLE_QMGR, inject_accept_type, s->qid, &m, -1, on_injected, s);
    }
    buf_clear(&envelope);
}

static int write_all(int fd, struct slice s)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_IO;
        s = slice_from_index(s, (size_t)n);
    }
    return OK;
}

static int fill_file(struct resend *s)
{
    struct job *j = s->task->job;
    off_t at = 0;
    int rc = write_all(s->file, buf_slice(&s->head));
    if (!rc && j->body_len)
        return write_all(s->file, slice_from(j->body, j->body_len));
    while (!rc && (uint64_t)at < j->size) {
        ssize_t n = sendfile(s->file, j->fd, &at, (size_t)(j->size - (uint64_t)at));
        if (n == 0 || (n < 0 && errno != EINTR))
            rc = ERR_IO;
    }
    return rc;
}

static void on_file(struct ipc_in *in, void *arg)
{
    struct resend *s = arg;
    const struct inject_file *m = in ? in->msg : NULL;
    if (!m || m->code != 250 || in->fd < 0) {
        over(s, "the queue lends no file for the forwarded mail");
        return;
    }
    s->file = in->fd;
    in->fd = -1;
    if (fill_file(s))
        over(s, "the forwarded mail could not be written");
    else
        inject(s);
}

static void build(struct resend *s)
{
    struct job *j = s->task->job;
    buf_puts(&s->head, "Delivered-To: ");
    for (const char *p = s->task->address; *p; p++)
        buf_putc(&s->head, *p == '\r' || *p == '\n' ? ' ' : *p);
    buf_puts(&s->head, "\r\n");
    s->size = buf_len(&s->head) + j->size;
    if (s->size > INJECT_INLINE_BODY || j->body_len != j->size) {
        daemon_call(s->task->local->daemon, CONV_INJECT, ROLE_QMGR, inject_open_type, s->qid,
            &(struct inject_open){.txn = s->qid}, -1, on_file, s);
        return;
    }
    buf_put(&s->head, slice_from(j->body, j->body_len));
    inject(s);
}

/* --- where to -------------------------------------------------------------------------------- */

static bool is_there(const struct resend *s, struct slice address)
{
    struct recipient r;
    for (struct reader in = reader_of(buf_slice(&s->recipients)); in.rest.n;)
        if (record_get(&in, &recipient_record, &r))
            return false;
        else if (slice_ieq(r.address, address))
            return true;
    return false;
}

/* The original's DSN wishes go along, but for success, which is reported here (RFC 3461 §5.2.7). */
static void add(struct resend *s, struct recipient *r)
{
    const struct task *t = s->task;
    if (is_there(s, r->address))
        return;
    r->original = slice_of(t->original);
    r->orcpt = slice_of(t->orcpt);
    r->notify = t->notify & ~(uint32_t)NOTIFY_SUCCESS;
    if (t->notify && !r->notify)
        r->notify = NOTIFY_NEVER;
    (void)!record_put(&s->recipients, &recipient_record, r); /* its `failed` is looked at */
    s->count++;
}

static void add_lost(struct resend *s)
{
    char nowhere[ENVELOPE_ADDRESS_MAX + 2];
    /* No account has a name with an @ in it. */
    int n = snprintf(nowhere, sizeof(nowhere), "@%.*s", SLICE_FMT(s->asked));
    struct recipient r = {.address = s->asked,
        .transport = SLICE_LIT("local"),
        .nexthop = slice_first(slice_from(nowhere, (size_t)n), sizeof(nowhere) - 1)};
    add(s, &r);
}

static void route_next(struct resend *s);

static void on_routed(struct ipc_in *in, void *arg)
{
    struct resend *s = arg;
    const struct route_verdict *v = in ? in->msg : NULL;
    struct recipient r;
    if (!v || v->code < 200 || (v->code > 299 && v->code < 500)) {
        over(s, "an address of the .forward file cannot be looked up now");
        return;
    }
    if (v->code >= 500)
        add_lost(s);
    for (struct reader to = reader_of(v->recipients); v->code < 300 && to.rest.n;) {
        if (record_get(&to, &recipient_record, &r)) {
            over(s, "lookupd's answer cannot be used");
            return;
        }
        add(s, &r);
    }
    route_next(s);
}

static void route_next(struct resend *s)
{
    struct reader r = reader_of(buf_slice(&s->addresses));
    s->asked = get_lv(&r, ENVELOPE_ADDRESS_MAX);
    if (s->recipients.failed || s->count > FORWARD_ADDRESSES_MAX) {
        over(s, "the .forward file leads to too many recipients");
    } else if (r.bad && buf_len(&s->addresses)) {
        over(s, "the delivery process gave no addresses");
    } else if (r.bad) {
        build(s);
    } else {
        buf_consume(&s->addresses, 4 + s->asked.n);
        struct route_check m = {.address = s->asked,
            .sender = slice_of(s->task->job->sender),
            .login = SLICE_LIT(""),
            .client = SLICE_LIT(""),
            .may_relay = true};
        daemon_call(s->task->local->daemon, CONV_ROUTE, ROLE_LOOKUPD, route_check_type,
            s->task->job->trace, &m, -1, on_routed, s);
    }
}

void local_resend(struct task *t, const struct local_result *r, struct slice addresses)
{
    struct resend *s = NEW(struct resend);
    s->task = t;
    s->result = *r;
    s->file = -1;
    s->qid = id_new();
    buf_init(&s->addresses, FORWARD_BYTES_MAX);
    buf_init(&s->recipients, INJECT_RECIPIENTS);
    buf_init(&s->head, INJECT_INLINE_BODY);
    buf_put(&s->addresses, addresses);
    list_append(&t->local->resends, &t->link);
    t->local->nresends++;
    t->resending = true;
    route_next(s);
}
