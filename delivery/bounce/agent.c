#include "delivery/bounce/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "delivery/bounce/events.h"
#include "delivery/bounce/report.h"
#include "libmail/header.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"
#include "libmail/report_texts.h"

enum {
    REPORT_MAX = 32 * 1024 * 1024,     /* text and status of one report */
    RECIPIENTS_MAX = 16 * 1024 * 1024, /* packed, of one report */
    COPY_CHUNK = 64 * 1024,
    AHEAD_MAX = 4 /* reports of which pieces come in */
};

struct agent {
    struct daemon *daemon;
    char hostname[256], admin[321]; /* admin: or the address for double bounces */
    bool own_words;                 /* the administrator has a table of them */
    uint64_t return_size, return_full_size;
    unsigned jobs;
};

struct job {
    struct list link; /* in peer->data while the asking qmgr lives */
    struct agent *agent;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    struct report report;
    struct arena arena;    /* copies of what the request pointed to */
    struct buf about;      /* its recipients, packed */
    int fd;                /* the whole message, or -1 */
    struct buf recipients; /* where the report goes, packed */
    struct buf text;
    bool to_admin;
    int file; /* lent by qmgr, or -1 */
    uint64_t size;
    struct log log;
};

/* Recipients that have come ahead of their request. */
struct ahead {
    uint64_t qid, used; /* used: a number that grows */
    struct buf packed;
};

struct jobs {
    struct list list;
    struct ahead ahead[AHEAD_MAX];
    uint64_t uses;
};

int bounce_configure(struct daemon *d, struct error *err)
{
    struct agent *a = NEW(struct agent);
    a->daemon = d;
    d->data = a;
    const struct conf_block *root = conf_root(d->conf);
    if (!slice_to_cstr(conf_string(root, "hostname"), a->hostname, sizeof(a->hostname)))
        return error_set(err, ERR_LIMIT, "hostname is too long");
    const struct conf_block *report = conf_one(d->conf, "report");
    a->own_words = conf_isset(root, "report-texts");
    a->return_size = (uint64_t)conf_int(report, "return-size");
    a->return_full_size = (uint64_t)conf_int(report, "return-full-size");
    struct slice admin = conf_string(report, "double-bounce");
    if (admin.n == 0)
        admin = conf_string(root, "admin");
    int n = admin.n ? snprintf(a->admin, sizeof(a->admin), "%.*s", SLICE_FMT(admin))
                    : snprintf(a->admin, sizeof(a->admin), "postmaster@%s", a->hostname);
    if (n < 0 || (size_t)n >= sizeof(a->admin))
        return error_set(err, ERR_LIMIT, "admin is too long");
    return OK;
}

static void job_over(struct job *job, int code, const char *text, uint64_t qid)
{
    struct deliver_reported reply = {.code = code, .text = slice_of(text), .qid = qid};
    struct agent *agent = job->agent;
    if (job->peer && job->peer->ipc)
        ipc_reply(job->peer->ipc, job->id, job->report.qid, deliver_reported_type, &reply, -1);
    if (code != OK)
        log_event(&job->log, report_failed, .to = job->report.to,
            .about = job->report.envelope.message_id, .reason = slice_of(text));
    list_remove(&job->link);
    arena_reset(&job->arena);
    buf_clear(&job->about);
    buf_clear(&job->recipients);
    buf_clear(&job->text);
    fd_close(&job->fd);
    fd_close(&job->file);
    free(job);
    if (--agent->jobs == 0 && agent->daemon->draining)
        daemon_exit(agent->daemon);
}

/* --- queueing -------------------------------------------------------------------------------- */

static void on_injected(struct ipc_in *in, void *arg)
{
    struct job *job = arg;
    const struct inject_result *r = in ? in->msg : NULL;
    static const char *const kinds[] = {"failure", "delay", "success"};
    if (!r || r->code != 250) {
        job_over(job, ERR_TEMP, "the queue did not take the report", 0);
        return;
    }
    log_event(&job->log, report_sent, .to = job->report.to,
        .about = job->report.envelope.message_id, .kind = slice_of(kinds[job->report.kind]),
        .size = job->size);
    job_over(job, OK, "", job->report.report_qid);
}

static void inject(struct job *job)
{
    struct agent *a = job->agent;
    struct buf envelope;
    struct envelope e = {.sender = SLICE_LIT(""),
        .envid = SLICE_LIT(""),
        .body = report_is_8bit(&job->report) ? BODY_8BITMIME : BODY_7BIT,
        .smtputf8 = job->report.utf8,
        .utf8_header = job->report.utf8,
        .received = job->report.now,
        .client = SLICE_LIT(""),
        .client_name = SLICE_LIT(""),
        .helo = slice_of(a->hostname),
        .login = SLICE_LIT(""),
        /* qmgr drops a report to the postmaster that cannot be delivered either. */
        .listener = job->to_admin ? SLICE_LIT("double-bounce") : SLICE_LIT("bounce"),
        .message_id = SLICE_LIT(""),
        .about = job->report.qid,
        .about_serial = job->report.serial,
        .about_kind = job->report.kind,
        .about_group = job->report.group,
        .about_indexes = job->report.indexes};
    buf_init(&envelope, 4096);
    struct inject_accept msg = {.txn = job->report.report_qid,
        .recipients = buf_slice(&job->recipients),
        .size = job->size,
        .body = job->file >= 0 ? SLICE_LIT("") : buf_slice(&job->text),
        .qid = job->report.report_qid};
    fd_close(&job->file);
    if (record_put(&envelope, &envelope_record, &e) != OK) {
        job_over(job, ERR_LIMIT, "the envelope of the report is too large", 0);
    } else {
        msg.envelope = buf_slice(&envelope);
        daemon_call(a->daemon, CONV_INJECT, ROLE_QMGR, inject_accept_type, job->report.report_qid,
            &msg, -1, on_injected, job);
    }
    buf_clear(&envelope);
}

static int write_all(int fd, struct slice s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_IO;
        s = slice_from_index(s, (size_t)n);
    }
    return OK;
}

/* The rest of a message too large for the request, from qmgr's descriptor to the lent file. */
static int copy_message(struct job *job)
{
    char *chunk = xcalloc(1, COPY_CHUNK);
    uint64_t done = 0;
    int rc = OK;
    while (rc == OK && done < job->report.size) {
        size_t want = (size_t)MIN(job->report.size - done, (uint64_t)COPY_CHUNK);
        ssize_t n = pread(job->fd, chunk, want, (off_t)done);
        rc = n > 0 ? write_all(job->file, slice_from(chunk, (size_t)n)) : ERR_IO;
        done += n > 0 ? (uint64_t)n : 0;
    }
    free(chunk);
    return rc;
}

static int fill_file(struct job *job)
{
    char boundary[REPORT_BOUNDARY];
    struct buf tail;
    buf_init(&tail, 256);
    buf_reset(&job->text);
    int rc = report_head(&job->report, &job->text, boundary);
    if (rc == OK)
        rc = report_tail(boundary, &tail);
    if (rc == OK)
        rc = write_all(job->file, buf_slice(&job->text));
    if (rc == OK)
        rc = job->report.whole && job->fd >= 0
                 ? copy_message(job)
                 : write_all(job->file, report_returned(&job->report));
    if (rc == OK)
        rc = write_all(job->file, buf_slice(&tail));
    off_t size = rc == OK ? lseek(job->file, 0, SEEK_END) : -1;
    job->size = size > 0 ? (uint64_t)size : 0;
    buf_clear(&tail);
    return size > 0 ? OK : ERR_IO;
}

static void on_file(struct ipc_in *in, void *arg)
{
    struct job *job = arg;
    const struct inject_file *r = in ? in->msg : NULL;
    if (!r || r->code != 250 || in->fd < 0) {
        job_over(job, ERR_TEMP, "the queue lends no file for the report", 0);
        return;
    }
    job->file = in->fd;
    in->fd = -1;
    if (fill_file(job) == OK)
        inject(job);
    else
        job_over(job, ERR_TEMP, "the report could not be written", 0);
}

/* Small reports are built in memory, large ones in a file of qmgr's. */
static void build(struct job *job)
{
    char boundary[REPORT_BOUNDARY];
    struct report *r = &job->report;
    report_choose_form(r);
    buf_reset(&job->text);
    int rc = report_head(r, &job->text, boundary);
    if (rc == OK && (!r->whole || job->fd < 0)) {
        buf_put(&job->text, report_returned(r));
        rc = report_tail(boundary, &job->text);
    }
    job->size = buf_len(&job->text);
    if (rc != OK) {
        job_over(job, rc, "the report is too large", 0);
    } else if (job->size > INJECT_INLINE_BODY || (r->whole && job->fd >= 0)) {
        struct inject_open open = {.txn = r->report_qid};
        daemon_call(job->agent->daemon, CONV_INJECT, ROLE_QMGR, inject_open_type, r->qid, &open, -1,
            on_file, job);
    } else {
        inject(job);
    }
}

/* --- in which words -----------------------------------------------------------------------------
 */

/* One of the administrator's texts, or ours where his cannot be used. */
static struct slice take_words(struct job *job, enum report_text part, struct slice value)
{
    struct slice ours = report_text_default(job->report.kind, part);
    struct buf key, text;
    struct error err;
    if (value.n == 0)
        return ours;
    buf_init(&key, 64);
    (void)report_text_key(job->report.kind, part, SLICE_LIT(""), &key);
    int rc = report_text_check(buf_slice(&key), value, &err);
    if (rc == OK) {
        buf_init(&text, value.n);
        report_text_expand(value, &text);
        ours = arena_dup(&job->arena, buf_slice(&text));
        buf_clear(&text);
    } else {
        log_event(&job->log, report_words, .key = buf_slice(&key), .reason = slice_of(err.text));
    }
    buf_clear(&key);
    return ours;
}

static void on_words(struct ipc_in *in, void *arg)
{
    struct job *job = arg;
    const struct route_worded *words = in ? in->msg : NULL;
    if (words) {
        job->report.subject = take_words(job, REPORT_TEXT_SUBJECT, words->subject);
        job->report.text = take_words(job, REPORT_TEXT_TEXT, words->text);
    }
    build(job);
}

/* The sender's language is that of his message (RFC 3282). */
static void choose_words(struct job *job)
{
    struct header_field field;
    struct slice header = job->report.original;
    struct slice languages = SLICE_LIT("");
    if (!job->agent->own_words) {
        build(job);
        return;
    }
    if (header_find(header, "Accept-Language", &field) ||
        header_find(header, "Content-Language", &field))
        languages = field.body;
    struct route_words msg = {.kind = job->report.kind, .languages = slice_first(languages, 255)};
    daemon_call(job->agent->daemon, CONV_ROUTE, ROLE_LOOKUPD, route_words_type, job->report.qid,
        &msg, -1, on_words, job);
}

/* --- where to -------------------------------------------------------------------------------- */

static void route(struct job *job);

static void on_routed(struct ipc_in *in, void *arg)
{
    struct job *job = arg;
    const struct route_verdict *v = in ? in->msg : NULL;
    if (!v || v->code < 200 || (v->code >= 400 && v->code < 500)) {
        job_over(job, ERR_TEMP, "the sender's address cannot be looked up now", 0);
    } else if (v->code >= 500 && !job->to_admin) {
        job->to_admin = job->report.postmaster = true;
        route(job);
    } else if (v->code >= 500 || v->recipients.n > INJECT_RECIPIENTS) {
        log_event(&job->log, report_dropped, .to = job->report.to,
            .about = job->report.envelope.message_id, .reason = v->text);
        job_over(job, OK, "", 0);
    } else if (buf_put(&job->recipients, v->recipients) != OK || v->recipients.n == 0) {
        job_over(job, ERR_TEMP, "the sender's address leads nowhere", 0);
    } else {
        choose_words(job);
    }
}

static void route(struct job *job)
{
    job->report.to = job->to_admin ? slice_of(job->agent->admin) : job->report.envelope.sender;
    struct route_check msg = {.address = job->report.to,
        .sender = SLICE_LIT(""),
        .login = SLICE_LIT(""),
        .client = SLICE_LIT(""),
        .may_relay = true};
    daemon_call(job->agent->daemon, CONV_ROUTE, ROLE_LOOKUPD, route_check_type, job->report.qid,
        &msg, -1, on_routed, job);
}

/* --- requests -------------------------------------------------------------------------------- */

static struct jobs *jobs_of(struct peer *peer)
{
    if (!peer->data) {
        struct jobs *jobs = NEW(struct jobs);
        list_init(&jobs->list);
        for (size_t i = 0; i < AHEAD_MAX; i++)
            buf_init(&jobs->ahead[i].packed, RECIPIENTS_MAX);
        peer->data = jobs;
    }
    return peer->data;
}

/* Where the pieces of this report are, or a place for them: the one that nothing came for longest.
 * The report that it belonged to will find its pieces missing and be asked for again. */
static struct ahead *ahead_of(struct jobs *jobs, uint64_t qid)
{
    struct ahead *oldest = &jobs->ahead[0];
    for (size_t i = 0; i < AHEAD_MAX; i++) {
        struct ahead *a = &jobs->ahead[i];
        if (a->qid == qid)
            return a;
        oldest = a->used < oldest->used ? a : oldest;
    }
    buf_reset(&oldest->packed);
    oldest->qid = qid;
    return oldest;
}

/* Those of the request, and before them those that came ahead. */
static int take_recipients(struct job *job, const struct deliver_report *msg)
{
    if (msg->ahead > 0) {
        struct ahead *a = ahead_of(job->peer->data, job->report.qid);
        job->about = a->packed;
        *a = (struct ahead){.used = 0};
        buf_init(&a->packed, RECIPIENTS_MAX);
    }
    if (buf_len(&job->about) != msg->ahead)
        return ERR_TEMP; /* this process is younger than the first piece */
    int rc = buf_put(&job->about, msg->recipients);
    job->report.recipients = buf_slice(&job->about);
    return rc;
}

static void on_more(struct peer *peer, const struct ipc_in *in)
{
    static const struct deliver_report_taken taken;
    const struct deliver_report_more *msg = in->msg;
    struct jobs *jobs = jobs_of(peer);
    struct ahead *a = ahead_of(jobs, msg->qid);
    a->used = ++jobs->uses;
    if (msg->ahead == 0)
        buf_reset(&a->packed);
    if (buf_len(&a->packed) == msg->ahead)
        (void)!buf_put(&a->packed, msg->recipients); /* what is missing shows at the request */
    ipc_reply(peer->ipc, in->id, in->trace, deliver_report_taken_type, &taken, -1);
}

static int take_request(struct job *job, const struct deliver_report *msg)
{
    struct report *r = &job->report;
    const struct agent *a = job->agent;
    struct reader reader = reader_of(arena_dup(&job->arena, msg->envelope));
    if (record_get(&reader, &envelope_record, &r->envelope) != OK || msg->kind > REPORT_SUCCESS)
        return ERR_SYNTAX;
    r->kind = (enum report_kind)msg->kind;
    r->subject = report_text_default(r->kind, REPORT_TEXT_SUBJECT);
    r->text = report_text_default(r->kind, REPORT_TEXT_TEXT);
    r->original = arena_dup(&job->arena, msg->header);
    int rc = r->original.p ? take_recipients(job, msg) : ERR_LIMIT;
    if (rc != OK)
        return rc;
    r->serial = msg->serial;
    r->group = msg->group;
    r->indexes = msg->indexes;
    r->left_out = msg->left_out;
    r->will_retry_until = msg->will_retry_until;
    r->size = msg->size;
    bool complete = r->original.n == r->size;
    r->whole = r->kind == REPORT_FAILURE && r->envelope.ret != RET_HDRS &&
               r->size <= (r->envelope.ret == RET_FULL ? a->return_full_size : a->return_size) &&
               (complete || job->fd >= 0);
    if (complete || !r->whole)
        fd_close(&job->fd);
    r->postmaster = job->to_admin = r->envelope.sender.n == 0;
    return OK;
}

void bounce_message(struct peer *peer, struct ipc_in *in)
{
    struct agent *a = peer->daemon->data;
    if (deliver_pong(peer->ipc, in))
        return;
    if (in->type == deliver_report_more_type) {
        on_more(peer, in);
        return;
    }
    if (in->type != deliver_report_type) {
        if (in->type == deliver_start_type)
            ipc_reply(peer->ipc, in->id, in->trace, deliver_done_type,
                &(struct deliver_done){.outcomes = SLICE_LIT("")}, -1);
        else
            ipc_reply(peer->ipc, in->id, in->trace, deliver_synced_type,
                &(struct deliver_synced){.code = OK, .text = SLICE_LIT("")}, -1);
        return;
    }
    struct jobs *jobs = jobs_of(peer);
    struct job *job = NEW(struct job);
    job->agent = a;
    job->peer = peer;
    job->id = in->id;
    job->fd = in->fd;
    job->file = -1;
    in->fd = -1;
    arena_init(&job->arena, 1024 * 1024);
    buf_init(&job->about, RECIPIENTS_MAX);
    buf_init(&job->recipients, INJECT_RECIPIENTS);
    buf_init(&job->text, REPORT_MAX);
    list_append(&jobs->list, &job->link);
    a->jobs++;
    job->report.qid = in->trace;
    job->report.report_qid = id_new();
    job->report.hostname = slice_of(a->hostname);
    job->report.now = loop_wall(a->daemon->loop);
    log_set_id(&job->log, &a->daemon->log, "qid", job->report.report_qid);
    int rc = take_request(job, in->msg);
    if (rc != OK)
        job_over(job, rc, rc == ERR_TEMP ? "parts of the request are missing" : "malformed", 0);
    else
        route(job);
}

void bounce_peer_down(struct peer *peer)
{
    struct jobs *jobs = peer->data;
    if (!jobs)
        return;
    LIST_EACH(it, &jobs->list)
    {
        LIST_ENTRY(it, struct job, link)->peer = NULL;
        list_remove(it);
    }
    for (size_t i = 0; i < AHEAD_MAX; i++)
        buf_clear(&jobs->ahead[i].packed);
    free(jobs);
    peer->data = NULL;
}

void bounce_drain(struct daemon *d)
{
    struct agent *a = d->data;
    if (a->jobs == 0)
        daemon_exit(d);
}

unsigned bounce_sessions(struct daemon *d)
{
    return ((struct agent *)d->data)->jobs;
}
