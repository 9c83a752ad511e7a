#include "delivery/remote/job.h"

#include <sys/types.h>
#include <unistd.h>

#include "delivery/remote/events.h"
#include "delivery/remote/session.h"

enum { OUTCOMES_MAX = 60000 };

/* --- the answer ---------------------------------------------------------------------------- */

static void free_job(struct job *job)
{
    struct remote *remote = job->remote;
    list_remove(&job->link);
    remote->active--;
    route_cancel(job->route);
    buf_clear(&job->envelope_bytes);
    buf_clear(&job->recipient_bytes);
    buf_clear(&job->prefix);
    buf_clear(&job->body);
    fd_close(&job->fd);
    free(job);
    if (remote->daemon->draining && !remote->active)
        daemon_exit(remote->daemon);
}

static void answer(struct job *job)
{
    struct buf packed;
    buf_init(&packed, OUTCOMES_MAX);
    for (size_t i = 0; i < job->count; i++) {
        const struct job_recipient *r = &job->recipients[i];
        struct outcome o = {.index = (uint32_t)i,
            .status = r->status,
            .dsn = slice_of(r->dsn),
            .text = slice_of(r->text),
            .mta = slice_first(slice_of(r->mta), 255),
            .site = r->site};
        /* Left out for want of room counts as deferred; 50 outcomes always fit. */
        if (record_put(&packed, &outcome_record, &o) != OK)
            break;
    }
    struct deliver_done done = {.outcomes = buf_slice(&packed)};
    ipc_reply(job->peer->ipc, job->id, job->trace, deliver_done_type, &done, -1);
    buf_clear(&packed);
    free_job(job);
}

void job_outcome(struct job *job, size_t i, enum deliver_status status, const char *dsn,
    const char *mta, const char *text)
{
    struct job_recipient *r = &job->recipients[i];
    if (r->done)
        return;
    r->done = true;
    r->status = status;
    snprintf(r->dsn, sizeof(r->dsn), "%s", dsn);
    snprintf(r->mta, sizeof(r->mta), "%s", mta);
    snprintf(r->text, sizeof(r->text), "%s", text);
}

/* All recipients without an outcome get this one. */
static void settle_all(struct job *job, enum deliver_status status, const char *dsn,
    const char *mta, const char *text, bool site)
{
    for (size_t i = 0; i < job->count; i++) {
        if (job->recipients[i].done)
            continue;
        job_outcome(job, i, status, dsn, mta, text);
        job->recipients[i].site = site;
    }
    answer(job);
}

void job_finished(struct job *job)
{
    job->session = NULL;
    settle_all(job, DEFERRED, "4.4.2", "", "the conversation ended early", false);
}

/* --- hosts --------------------------------------------------------------------------------- */

static void open_session(struct job *job, bool without_tls)
{
    job->session = session_open(job, &job->found.targets[job->target], without_tls);
}

static void on_grant(struct ipc_in *in, void *arg)
{
    struct job *job = arg;
    const struct deliver_grant *grant = in ? in->msg : NULL;
    job->asked = 0;
    if (grant && grant->granted) {
        if (!session_reuse_host(job, &job->found.targets[job->target]))
            open_session(job, false);
        return;
    }
    settle_all(job, DEFERRED, "4.4.5", job->found.targets[job->target].host,
        "the host has all the connections it may have", false);
}

/* qmgr counts how many connections an MX host has, whatever domains they are for. */
static void ask_for_host(struct job *job)
{
    struct deliver_host ask = {
        .request = job->id, .host = slice_of(job->found.targets[job->target].host)};
    ask.host = slice_first(ask.host, 255);
    job->asked = ipc_call(job->peer->ipc, deliver_host_type, job->trace, &ask, -1, on_grant, job);
}

static bool same_host(const struct job *job, size_t a, size_t b)
{
    return strcmp(job->found.targets[a].host, job->found.targets[b].host) == 0;
}

static void try_host(struct job *job, bool without_tls)
{
    size_t t = job->target;
    if (t == job->found.count)
        settle_all(job, DEFERRED, job->trouble_dsn, job->trouble_mta, job->trouble, true);
    else if (job->hop.mx && !without_tls && (t == 0 || !same_host(job, t, t - 1)))
        ask_for_host(job);
    else
        open_session(job, without_tls);
}

static void on_route(const struct route_result *found, void *arg)
{
    struct job *job = arg;
    job->route = NULL;
    job->found = *found;
    if (found->status == ROUTE_FOUND) {
        try_host(job, false);
        return;
    }
    log_event(&job->log, dlv_route, .nexthop = slice_of(job->nexthop), .dsn = slice_of(found->dsn),
        .reason = slice_of(found->text));
    enum deliver_status status = found->status == ROUTE_FAILED ? FAILED : DEFERRED;
    settle_all(job, status, found->dsn, "", found->text, status == DEFERRED);
}

static void find_hosts(struct job *job)
{
    job->route = route_find(job->remote, &job->hop, job->trace, on_route, job);
}

void job_host_failed(struct job *job, const struct target *t, const char *dsn, const char *text)
{
    log_event(&job->log, dlv_site, .mx = slice_of(t->host), .ip = slice_of(t->ip),
        .reason = slice_of(text));
    job->session = NULL;
    if (job->reused) {
        /* That connection had been idle; what was wrong with it says nothing about the host. */
        job->reused = false;
        if (job->found.count) /* it was taken over in place of a new one to this very host */
            open_session(job, false);
        else
            find_hosts(job);
        return;
    }
    snprintf(job->trouble_dsn, sizeof(job->trouble_dsn), "%s", dsn);
    snprintf(job->trouble_mta, sizeof(job->trouble_mta), "%s", t->host);
    snprintf(job->trouble, sizeof(job->trouble), "%s", text);
    job->target++;
    try_host(job, false);
}

void job_tls_failed(struct job *job, const struct target *t, const char *text)
{
    if (job->remote->settings.tls == TLS_REQUIRED) {
        job_host_failed(job, t, "4.7.5", text);
        return;
    }
    log_event(&job->log, dlv_plain, .mx = slice_of(t->host), .ip = slice_of(t->ip),
        .reason = slice_of(text));
    try_host(job, true);
}

/* --- the beginning and the body ------------------------------------------------------------ */

static bool copy(struct buf *into, struct slice bytes)
{
    buf_init(into, bytes.n);
    return buf_put(into, bytes) == OK;
}

/* Decodes our own copies; false when they are not what libmail/envelope.h says. */
static bool decode(struct job *job)
{
    struct reader r = reader_of(buf_slice(&job->envelope_bytes));
    if (record_get(&r, &envelope_record, &job->envelope) != OK)
        return false;
    r = reader_of(buf_slice(&job->recipient_bytes));
    while (r.rest.n) {
        if (job->count == DELIVER_RECIPIENTS_MAX ||
            record_get(&r, &recipient_record, &job->recipients[job->count].to) != OK)
            return false;
        job->count++;
    }
    return job->count > 0;
}

/* The hosts it comes to see where it was, the last place on top. All recipients of a job were
 * forwarded by the same. */
static void put_prefix(struct job *job)
{
    struct slice via = job->recipients[0].to.via;
    while (via.n) {
        ptrdiff_t at = slice_rchr(via, '\n');
        buf_puts(&job->prefix, "Delivered-To: ");
        buf_put(&job->prefix, slice_from_index(via, (size_t)(at + 1)));
        buf_puts(&job->prefix, "\r\n");
        via = slice_first(via, at < 0 ? 0 : (size_t)at);
    }
    job->size += buf_len(&job->prefix);
}

void job_start(struct peer *peer, struct ipc_in *in)
{
    const struct deliver_start *start = in->msg;
    struct remote *remote = peer->daemon->data;
    struct job *job = NEW(struct job);
    struct error err = {0};
    *job = (struct job){.remote = remote, .peer = peer, .id = in->id, .trace = in->trace};
    log_set_id(&job->log, &remote->daemon->log, "qid", in->trace);
    list_append(&remote->jobs, &job->link);
    remote->active++;
    job->fd = in->fd;
    in->fd = -1;
    job->size = start->size;
    buf_init(&job->prefix, 65536);
    bool fine = copy(&job->envelope_bytes, start->envelope) &&
                copy(&job->recipient_bytes, start->recipients) && copy(&job->body, start->body) &&
                decode(job);
    if (!fine || remote->daemon->draining) {
        settle_all(job, DEFERRED, "4.3.0", "",
            fine ? "the delivery agent is about to stop" : "malformed work", false);
        return;
    }
    put_prefix(job);
    struct slice nexthop = job->recipients[0].to.nexthop;
    if (!slice_to_cstr(nexthop, job->nexthop, sizeof(job->nexthop)) ||
        nexthop_parse(nexthop, remote->settings.port, &job->hop, &err) != OK) {
        settle_all(job, FAILED, "5.4.4", "", err.text, false);
        return;
    }
    if (!session_reuse(job))
        find_hosts(job);
}

void job_cancel(struct job *job)
{
    if (job->session)
        session_abandon(job->session);
    if (job->asked && job->peer->ipc)
        ipc_cancel(job->peer->ipc, job->asked);
    free_job(job);
}

ssize_t job_body(const struct job *job, uint64_t offset, char *into, size_t room)
{
    /* The file may go on behind the body: qmgr keeps its own records there. */
    if (offset >= job->size)
        return 0;
    room = (size_t)MIN((uint64_t)room, job->size - offset);
    struct slice prefix = buf_slice(&job->prefix);
    if (offset < prefix.n) {
        prefix = slice_first(slice_from_index(prefix, (size_t)offset), room);
        memcpy(into, prefix.p, prefix.n);
        return (ssize_t)prefix.n;
    }
    offset -= prefix.n;
    if (job->fd >= 0)
        return pread(job->fd, into, room, (off_t)offset);
    struct slice rest = slice_from_index(buf_slice(&job->body), (size_t)offset);
    size_t n = MIN(rest.n, room);
    memcpy(into, rest.p, n);
    return (ssize_t)n;
}
