#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "qmgr/qmgr.h"
#include "qmgr/roster.h"

/* So many messages are in memory that others have to wait. */
enum { FULL_PAUSE_MS = 200 };

static const int64_t far_future = INT64_C(365) * 86400 * 1000;

struct message *queue_find(struct qmgr *q, uint64_t qid)
{
    return map_get_id(&q->messages, qid);
}

int queue_add(struct qmgr *q, struct message *m)
{
    if (m->qid == 0 || queue_find(q, m->qid))
        return ERR_EXISTS;
    map_set_id(&q->messages, m->qid, m);
    m->serial = ++q->serial;
    m->format = q->spool ? spool_format(q->spool) : 0; /* at start: recover.c */
    log_set_id(&m->log, q->log, "qid", m->qid);
    list_append(&q->all, &m->all);
    q->loaded += m->content != NULL;
    return OK;
}

void queue_remove(struct qmgr *q, struct message *m)
{
    map_remove_id(&q->messages, m->qid);
    heap_remove(&q->due, &m->due);
    list_remove(&m->all);
    list_remove(&m->fresh);
    list_remove(&m->young);
    queue_unload(q, m);
    message_free(m);
}

static void arm_due_timer(struct qmgr *q)
{
    struct heap_node *first = heap_min(&q->due);
    timer_stop(&q->due_timer);
    if (!first || q->draining)
        return;
    int64_t wait = first->key - loop_now(q->loop);
    timer_start(&q->due_timer, MAX(wait, (int64_t)0));
}

void queue_wake_in(struct qmgr *q, struct message *m, int64_t ms)
{
    heap_set(&q->due, &m->due, loop_now(q->loop) + MIN(MAX(ms, (int64_t)0), far_future));
    if (heap_min(&q->due) == &m->due)
        arm_due_timer(q);
}

/* The longest anything waits for its next attempt. A time beyond it was written before somebody
 * set the clock back. */
int64_t queue_longest_wait(const struct qmgr *q)
{
    int64_t most = settings_longest_retry(&q->set);
    return most + most / 4;
}

void queue_wake_at(struct qmgr *q, struct message *m, int64_t wall)
{
    queue_wake_in(q, m, MIN(wall - loop_wall(q->loop), queue_longest_wait(q)));
}

int64_t queue_expires(const struct qmgr *q, const struct message *m, const struct rcpt *r)
{
    const struct envelope *e = &m->content->envelope;
    const struct retry *retry = settings_retry(&q->set, r->to.transport);
    /* RFC 4865 §4.1: the time it was held for counts for nothing. */
    return MAX(e->received, e->hold_until) +
           (e->sender.n ? retry->lifetime : retry->bounce_lifetime);
}

struct sched_order queue_order(const struct message *m)
{
    const struct envelope *e = &m->content->envelope;
    int64_t priority = MIN(MAX(e->priority, (int64_t)PRIORITY_MIN), (int64_t)PRIORITY_MAX);
    return (struct sched_order){
        .priority = (int)priority, .bulk = e->bulk, .report = e->sender.n == 0};
}

/* --- the disk's answers ---------------------------------------------------------------------- */

static void log_failure(struct message *m, const char *what, const struct spool_job *job)
{
    log_event(&m->log, spool_failed, .what = slice_of(what), .reason = slice_of(job->error.text));
}

static void finished(struct spool_job *job, void *arg)
{
    struct qmgr *q = arg;
    struct message *m = queue_find(q, job->qid);
    m->moving = false;
    if (job->code == OK) {
        queue_remove(q, m);
    } else {
        log_failure(m, "a finished message stays in the spool until it can be removed", job);
        queue_wake_in(q, m, DISK_RETRY_MS);
    }
    spool_job_free(job);
}

static int forget_record(struct spool_job *job)
{
    logrec_begin(&job->record, LOGREC_FORGET, job->qid);
    return logrec_finish(&job->record);
}

/* The message is over. */
static void finish(struct qmgr *q, struct message *m)
{
    struct spool_job *job = spool_job_new(m->parked ? SPOOL_REMOVE : SPOOL_FORGET, m->qid);
    job->size = m->size;
    job->lazy = true;
    job->done = finished;
    job->arg = q;
    if (!m->parked) {
        job->generation = m->generation;
        snprintf(job->big, sizeof(job->big), "%s", m->big);
        if (forget_record(job) != OK)
            return;
    }
    if (!m->deleted)
        log_event(&m->log, msg_done,
            .result = m->bounced == 0 ? SLICE_LIT("delivered")
                      : m->delivered  ? SLICE_LIT("partial")
                                      : SLICE_LIT("failed"),
            .delivered = m->delivered, .bounced = m->bounced,
            .life_ms = loop_wall(q->loop) - m->content->envelope.received);
    m->moving = true;
    committer_submit(q->committer, job);
}

/* Nothing to do before it is due again: the content goes. */
static void rest(struct qmgr *q, struct message *m)
{
    queue_unload(q, m);
    if (m->held)
        heap_remove(&q->due, &m->due);
    else
        queue_wake_at(q, m, m->flush ? 0 : m->due_wall);
}

static void parked(struct spool_job *job, void *arg)
{
    struct qmgr *q = arg;
    struct message *m = queue_find(q, job->qid);
    m->moving = false;
    if (job->code == OK) {
        message_parked(m, job, (uint32_t)job->offset);
    } else {
        log_failure(m, "a message cannot be parked yet and stays in the log", job);
        q->park_after = loop_now(q->loop) + DISK_RETRY_MS;
    }
    spool_job_free(job);
    if (!m->parked && m->busy == 0)
        queue_wake_in(q, m, DISK_RETRY_MS);
    else
        queue_settle(q, m);
}

static bool can_park(const struct message *m)
{
    return !m->parked && !m->moving && !m->committing && m->content;
}

static void park(struct qmgr *q, struct message *m, bool lazy, const char *why)
{
    if (large_count(q, m->content->count) && !m->busy && !m->reporting) {
        large_park(q, m, NULL);
        return;
    }
    struct spool_job *job = spool_job_new(SPOOL_PARK, m->qid);
    job->size = m->size;
    job->body = m->content->body.p ? m->content->body : (struct slice){"", 0};
    snprintf(job->big, sizeof(job->big), "%s", m->big);
    job->generation = m->generation;
    job->due = m->held ? 0 : MAX(m->due_wall, (int64_t)1);
    job->lazy = lazy;
    job->offset = m->changes; /* what the file will know */
    job->done = parked;
    job->arg = q;
    if (message_put_parked(m, &job->text) != OK || forget_record(job) != OK) {
        log_event(&m->log, spool_failed,
            .what = SLICE_LIT("a message cannot be parked and stays in the log"),
            .reason = SLICE_LIT("its envelope is too large"));
        spool_job_free(job);
        queue_wake_in(q, m, DISK_RETRY_MS);
        return;
    }
    log_event(&m->log, msg_park, .why = slice_of(why), .next = m->due_wall);
    m->moving = true;
    committer_submit(q->committer, job);
}

void queue_park(struct qmgr *q, struct message *m, const char *why)
{
    if (can_park(m))
        park(q, m, true, why);
}

static void updated(struct spool_job *job, void *arg)
{
    struct qmgr *q = arg;
    struct message *m = queue_find(q, job->qid);
    m->updates--;
    if (job->code != OK) {
        log_failure(m, "a parked message cannot be updated, it is tried again", job);
        /* Later updates lie behind a gap: begin again where this one should be. */
        m->parked_end = MIN(m->parked_end, job->offset);
        m->saved = m->changes - 1;
        message_update_failed(m);
        if (m->busy == 0)
            queue_wake_in(q, m, DISK_RETRY_MS);
        queue_expand_next(q, m);
    } else if (m->updates == 0) {
        queue_settle(q, m);
    }
    spool_job_free(job);
}

void queue_update(struct qmgr *q, struct message *m)
{
    struct spool_job *job = spool_job_new(SPOOL_UPDATE, m->qid);
    job->size = m->size;
    job->offset = m->parked_end;
    job->due = m->held ? 0 : MAX(m->due_wall, (int64_t)1);
    job->lazy = true;
    job->done = updated;
    job->arg = q;
    if (message_put_update(m, &job->text) != OK) {
        spool_job_free(job);
        return;
    }
    if (m->content->roster)
        roster_follow(m, buf_slice(&job->text), job->offset);
    m->parked_end += buf_len(&job->text);
    m->saved = m->changes;
    m->updates++;
    committer_submit(q->committer, job);
}

static void noted(struct spool_job *job, void *arg)
{
    (void)arg; /* a failure only means that a crash may repeat this delivery */
    spool_job_free(job);
}

void queue_note_done(struct qmgr *q, struct message *m, const uint32_t *indexes, size_t n)
{
    if (n == 0 || (m->parked && (m->updates || m->moving)))
        return; /* a later one says it */
    if (message_open_count(m) == 0)
        return; /* the message is about to be forgotten as a whole */
    if (m->parked) {
        queue_update(q, m);
        return;
    }
    struct spool_job *job = spool_job_new(SPOOL_DONE, m->qid);
    job->lazy = true;
    job->done = noted;
    logrec_begin(&job->record, LOGREC_DONE, m->qid);
    for (size_t i = 0; i < n; i++)
        buf_u32(&job->record, indexes[i]);
    if (logrec_finish(&job->record) != OK)
        spool_job_free(job);
    else
        committer_submit(q->committer, job);
}

/* --- recipients ------------------------------------------------------------------------------ */

static void changed(struct message *m)
{
    m->changes++;
}

void queue_rcpt_done(struct qmgr *q, struct message *m, struct rcpt *r, bool delivered)
{
    (void)q;
    r->st.state = RCPT_DONE;
    if (delivered)
        m->delivered += r->st.status != EXPANDED; /* at an alias nobody has received it */
    else
        m->bounced++;
    changed(m);
}

void queue_rcpt_failed(struct qmgr *q, struct message *m, struct rcpt *r)
{
    r->st.state = RCPT_FAILED;
    changed(m);
    if (m->failed_since == 0)
        m->failed_since = loop_wall(q->loop);
    report_watch(q, m);
    attempt_log(q, m, r, "bounced");
}

void queue_delivered(struct qmgr *q, struct message *m, struct rcpt *r)
{
    attempt_log(q, m, r, "delivered");
    /* RFC 3461 §5.2.2: we answer for local mailboxes and for relays that do not know DSN. */
    bool ours = schedule_is_local(r->to.transport) || slice_is(r->to.transport, "pipe") ||
                r->st.status == RELAYED_NO_DSN;
    if (ours && (r->to.notify & NOTIFY_SUCCESS) && m->content->envelope.sender.n > 0) {
        r->st.state = RCPT_DELIVERED;
        changed(m);
    } else {
        queue_rcpt_done(q, m, r, true);
    }
}

void queue_rcpt_defer(struct qmgr *q, struct message *m, struct rcpt *r, int64_t wait_ms)
{
    r->st.state = RCPT_WAITING;
    r->st.next = loop_wall(q->loop) + wait_ms;
    changed(m);
}

/* --- after attempts -------------------------------------------------------------------------- */

/* When the message is to be looked at again, by its recipients' times. */
static int64_t next_due(const struct message *m)
{
    int64_t due = INT64_MAX;
    for (size_t i = 0; i < m->content->count; i++) {
        const struct parked_state *st = &m->content->rcpts[i].st;
        if (st->state == RCPT_WAITING)
            due = MIN(due, st->next);
        else if (st->state != RCPT_DONE)
            due = MIN(due, m->report_after);
    }
    const struct roster_choice failed = {.what = ROSTER_FAILED};
    const struct roster_choice delivered = {.what = ROSTER_DELIVERED};
    const struct roster *r = m->content->roster;
    if (r)
        due = MIN(due, roster_next(r));
    if (r && (roster_has(r, &failed) || roster_has(r, &delivered)))
        due = MIN(due, m->report_after);
    return due;
}

void queue_settle(struct qmgr *q, struct message *m)
{
    queue_expand_next(q, m);
    if (m->busy || m->moving || m->reporting || m->committing || m->updates)
        return;
    if (m->deleted) {
        finish(q, m);
        return;
    }
    if (!m->content)
        return;
    if (m->giving_up)
        portion_give_up(q, m);
    report_silent(q, m);
    if (m->content->roster && portion_next(q, m))
        return;
    if (report_begin(q, m))
        return;
    if (message_open_count(m) == 0) {
        finish(q, m);
        return;
    }
    int64_t due = m->flush ? 0 : next_due(m);
    if (!m->held && due <= loop_wall(q->loop) && !q->draining) {
        queue_deliver(q, m);
        return;
    }
    m->due_wall = due; /* alone no reason to write: after a crash it is tried earlier */
    if (!m->parked)
        queue_park(q, m, m->held ? "held" : "deferred");
    else if (m->saved != m->changes)
        queue_update(q, m);
    else
        rest(q, m);
}

void queue_due(void *arg)
{
    struct qmgr *q = arg;
    struct heap_node *node;
    for (unsigned n = 0; (node = heap_min(&q->due)) != NULL && n < 200; n++) {
        if (node->key > loop_now(q->loop) || q->draining)
            break;
        struct message *m = CONTAINER_OF(node, struct message, due);
        struct error err;
        if (!m->content && (q->loaded >= q->set.max_loaded || q->active >= q->set.max_active)) {
            queue_wake_in(q, m, FULL_PAUSE_MS);
            continue;
        }
        heap_remove(&q->due, node);
        if (m->busy && report_overdue(q, m))
            queue_unschedule(q, m); /* after the report they go on */
        if (m->busy || m->moving || m->reporting || m->committing || m->updates)
            continue;
        if (m->deleted || report_overdue(q, m))
            queue_settle(q, m);
        else if (large_file(q, m))
            large_load(q, m, NULL, NULL);
        else if (queue_load(q, m, &err) != OK || message_check_body(m, q->disk, &err) != OK)
            queue_load_failed(q, m, &err);
        else
            queue_deliver(q, m);
    }
    arm_due_timer(q);
}

/* The messages in the oldest segment get files of their own, which frees it: some of them each time,
 * or (at_once) all of them, before anything else is accepted. */
static void relieve(struct qmgr *q, uint64_t oldest, bool at_once)
{
    if (loop_now(q->loop) < q->park_after)
        return;
    size_t n = 0;
    LIST_EACH(it, &q->young)
    {
        struct message *m = LIST_ENTRY(it, struct message, young);
        if (m->generation > oldest || (n == COMMITTER_FILES && !at_once))
            break;
        if (!can_park(m))
            continue;
        m->due_wall = MAX(m->due_wall, loop_wall(q->loop));
        park(q, m, !at_once, "the log is full");
        n++;
    }
}

bool queue_crowded(const struct qmgr *q)
{
    const struct spool_figures *f = committer_figures(q->committer);
    return f->room < f->whole / 2;
}

/* While there is room, messages leave the log when they are done. With half of it gone, they are not
 * kept waiting for the company of others in a sync; with five eighths gone, some have to leave. */
void queue_on_batch(void *arg)
{
    struct qmgr *q = arg;
    const struct spool_figures *f = committer_figures(q->committer);
    if (queue_crowded(q))
        sync_hurry(q);
    if (f->room < f->whole / 8 * 3)
        relieve(q, f->oldest, f->room < f->whole / 4);
    q->pressed = q->pressed && f->full;
    inject_on_batch(q);
}
