/*
 * Messages with so many recipients that reading their file, or putting it together, would keep the
 * loop from serving others: that is done beside it (qmgr/beside.h), with a copy that nobody else
 * sees. Meanwhile the message has no content and nothing is begun with it.
 */
#include <stdlib.h>
#include <string.h>

#include "qmgr/qmgr.h"
#include "qmgr/roster.h"

enum {
    LARGE_FILE = 512 * 1024, /* behind the body, bytes: some milliseconds */
    LARGE_COUNT = 2000       /* recipients; the same */
};

struct large {
    struct beside_job job;
    struct qmgr *q;
    struct disk *disk;
    uint64_t qid;
    struct message *copy; /* NULL: the message is being loaded already, and this waits for that */
    struct roster_choice choice;
    size_t portion;
    int64_t now;            /* wall */
    struct buf record;      /* to be parked: where the content comes from, unless it is there */
    struct spool_job *park; /* its text is what is being put together */
    struct error error;
    int code;
    void (*over)(void *arg, bool ran);
    void *arg;
};

static struct message *copy_of(const struct message *m)
{
    struct message *copy = message_new(m->qid, m->size);
    copy->parked = m->parked;
    copy->held = m->held;
    copy->warned = m->warned;
    copy->delivered = m->delivered;
    copy->bounced = m->bounced;
    copy->reports = m->reports;
    copy->format = m->format;
    memcpy(&copy->told, &m->told, sizeof(m->told));
    memcpy(copy->crc, m->crc, sizeof(m->crc));
    memcpy(copy->big, m->big, sizeof(m->big));
    return copy;
}

static struct large *large_new(struct qmgr *q, const struct message *m)
{
    struct large *l = NEW(struct large);
    l->q = q;
    l->disk = q->disk;
    l->qid = m->qid;
    l->portion = q->set.portion;
    l->now = loop_wall(q->loop);
    return l;
}

static void large_free(struct large *l)
{
    message_free(l->copy);
    buf_clear(&l->record);
    if (l->park)
        spool_job_free(l->park);
    free(l);
}

/* --- loading --------------------------------------------------------------------------------- */

bool large_file(const struct qmgr *q, const struct message *m)
{
    char path[PARKED_NAME];
    struct disk_stat st;
    if (!q->beside || !m->parked || m->content || q->resumed == m->qid)
        return false;
    parked_path(m->qid, m->size, path);
    return q->disk->ops->stat(q->disk, path, &st) == 0 && st.size > (int64_t)m->size + LARGE_FILE;
}

static void read_file(struct beside_job *job)
{
    struct large *l = CONTAINER_OF(job, struct large, job);
    if (!l->copy)
        return;
    l->code = portion_read(l->copy, &l->choice, l->portion, l->disk, &l->error);
    if (l->code == OK)
        l->code = message_check_body(l->copy, l->disk, &l->error);
}

static void take_over(struct large *l, struct message *m)
{
    m->moving = m->loading = false;
    l->q->active -= l->portion;
    if (l->code != OK) {
        l->error.code = l->code;
        queue_load_failed(l->q, m, &l->error);
        return;
    }
    message_adopt(m, l->copy);
    portion_loaded(l->q, m);
}

static void file_read(struct beside_job *job, bool ran)
{
    struct large *l = CONTAINER_OF(job, struct large, job);
    struct qmgr *q = l->q;
    struct message *m = ran ? queue_find(q, l->qid) : NULL;
    if (m && l->copy)
        take_over(l, m);
    if (l->over) {
        q->resumed = l->qid;
        l->over(l->arg, ran);
        q->resumed = 0;
        m = ran ? queue_find(q, l->qid) : NULL;
    }
    if (m && m->content && !l->over)
        queue_deliver(q, m);
    else if (m)
        queue_settle(q, m);
    large_free(l);
}

void large_load(struct qmgr *q, struct message *m, void (*over)(void *arg, bool ran), void *arg)
{
    struct large *l = large_new(q, m);
    l->job = (struct beside_job){.work = read_file, .done = file_read};
    l->over = over;
    l->arg = arg;
    if (!m->moving) {
        l->copy = copy_of(m);
        l->choice = portion_choice(q, m);
        m->moving = m->loading = true;
        q->active += l->portion; /* which it may become */
        heap_remove(&q->due, &m->due);
    }
    beside_run(q->beside, &l->job);
}

/* --- parking --------------------------------------------------------------------------------- */

bool large_count(const struct qmgr *q, size_t recipients)
{
    return q->beside && recipients > MAX(q->set.portion, (size_t)LARGE_COUNT);
}

static void put_together(struct beside_job *job)
{
    struct large *l = CONTAINER_OF(job, struct large, job);
    struct message *copy = l->copy;
    if (!copy->content)
        l->code = message_load_record(copy, &l->record, &l->error);
    if (l->code != OK)
        return;
    queue_postpone(copy, l->now);
    copy->due_wall = l->now;
    l->code = message_put_parked(copy, &l->park->text);
    if (l->code != OK)
        error_set(&l->error, l->code, "its envelope is too large");
}

/* It stays in the log, in memory, until the disk can take it. */
static void not_parked(struct large *l, struct message *m, const struct error *why)
{
    struct qmgr *q = l->q;
    log_event(&m->log, spool_failed,
        .what = SLICE_LIT("a message cannot be parked yet and stays in the log"),
        .reason = slice_of(why->text));
    message_adopt(m, l->copy);
    q->loaded++;
    q->park_after = loop_now(q->loop) + DISK_RETRY_MS;
    queue_wake_in(q, m, DISK_RETRY_MS);
}

static void parked(struct spool_job *job, void *arg)
{
    struct large *l = arg;
    struct qmgr *q = l->q;
    struct message *m = queue_find(q, l->qid);
    m->committing = false;
    if (job->code == OK) {
        message_parked(m, job, m->changes);
        if (!m->held)
            queue_wake_in(q, m, 0);
    } else {
        not_parked(l, m, &job->error);
    }
    spool_job_free(job);
    large_free(l);
}

static void park(struct large *l, struct message *m)
{
    struct spool_job *job = l->park;
    l->park = NULL;
    job->size = m->size;
    job->body = l->copy->content->body.p ? l->copy->content->body : (struct slice){"", 0};
    snprintf(job->big, sizeof(job->big), "%s", m->big);
    job->generation = m->generation;
    job->due = m->held ? 0 : MAX(m->due_wall, (int64_t)1);
    job->done = parked;
    job->arg = l;
    log_event(&m->log, msg_park, .why = SLICE_LIT("so many recipients are delivered in portions"),
        .next = m->due_wall);
    committer_submit(l->q->committer, job);
}

static void text_done(struct beside_job *job, bool ran)
{
    struct large *l = CONTAINER_OF(job, struct large, job);
    struct message *m = ran ? queue_find(l->q, l->qid) : NULL;
    if (!m) { /* it is in the log */
        large_free(l);
        return;
    }
    m->held = l->copy->held;
    m->due_wall = l->now;
    memcpy(m->crc, l->copy->crc, sizeof(m->crc));
    memcpy(m->big, l->copy->big, sizeof(m->big));
    if (l->code == OK) {
        park(l, m);
        return;
    }
    m->committing = false;
    l->error.code = l->code;
    if (l->copy->content)
        not_parked(l, m, &l->error);
    else
        queue_load_failed(l->q, m, &l->error);
    large_free(l);
}

void large_park(struct qmgr *q, struct message *m, struct buf *record)
{
    struct large *l = large_new(q, m);
    l->job = (struct beside_job){.work = put_together, .done = text_done};
    l->copy = copy_of(m);
    l->park = spool_job_new(SPOOL_PARK, m->qid);
    logrec_begin(&l->park->record, LOGREC_FORGET, m->qid);
    l->code = logrec_finish(&l->park->record);
    if (record) {
        l->record = *record;
        buf_init(record, record->max);
    } else {
        l->copy->content = m->content;
        m->content = NULL;
        q->loaded--;
    }
    m->committing = true;
    heap_remove(&q->due, &m->due);
    beside_run(q->beside, &l->job);
}
