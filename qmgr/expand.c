/*
 * Recipients that turn out to stand for others: the agent says whom, and they become recipients of
 * this message, durably and in one step with the old one being done. The agent itself sends nothing
 * on, so that whatever crashes, each of them gets the message once (docs/spool.md).
 *
 * One expansion of a message is written at a time, and nothing else of it meanwhile: `moving` is
 * set. Others wait in a list.
 */
#include <stdlib.h>

#include "qmgr/qmgr.h"

struct expansion {
    struct list link; /* message->expansions, while it waits */
    struct qmgr *q;
    struct message *m; /* the recipient is busy, so it stays */
    uint32_t index;
    struct buf packed;
    size_t known;     /* recipients before */
    uint32_t changes; /* what the disk will know */
};

static void expansion_free(struct expansion *x)
{
    buf_clear(&x->packed);
    free(x);
}

/* The recipient is not under way any more; the message goes on. */
static void over(struct expansion *x)
{
    struct qmgr *q = x->q;
    struct message *m = x->m;
    m->content->rcpts[x->index].busy = false;
    m->busy--;
    expansion_free(x);
    queue_expand_next(q, m);
    if (!m->moving)
        queue_deliver(q, m);
}

static void fail(struct expansion *x, const char *why)
{
    struct rcpt *r = &x->m->content->rcpts[x->index];
    rcpt_note(r, FAILED, SLICE_LIT("5.4.6"), slice_of(why), SLICE_LIT(""));
    r->st.attempts++;
    queue_rcpt_failed(x->q, x->m, r);
    over(x);
}

static void undo(struct expansion *x)
{
    struct content *c = x->m->content;
    struct rcpt *r = &c->rcpts[x->index];
    message_cut_recipients(x->m, x->known);
    r->st.state = RCPT_WAITING;
    rcpt_note(r, DEFERRED, SLICE_LIT("4.3.0"),
        SLICE_LIT("the disk refused to note whom it is forwarded to"), SLICE_LIT(""));
    attempt_deferred(x->q, x->m, r, DISK_RETRY_MS);
}

static void written(struct spool_job *job, void *arg)
{
    struct expansion *x = arg;
    struct message *m = x->m;
    m->moving = false;
    if (job->code != OK) {
        log_event(&m->log, spool_failed,
            .what = SLICE_LIT("a forwarding cannot be noted, it is tried again"),
            .reason = slice_of(job->error.text));
        undo(x);
        message_update_failed(m);
    } else if (job->op == SPOOL_PARK) {
        message_parked(m, job, x->changes);
    } else if (m->parked) {
        m->saved = x->changes;
        m->parked_end = job->offset + buf_len(&job->text);
    }
    spool_job_free(job);
    over(x);
}

static int fill_update(struct expansion *x, struct spool_job *job)
{
    struct message *m = x->m;
    job->offset = m->parked_end;
    job->due = m->held ? 0 : MAX(m->due_wall, (int64_t)1);
    return message_put_growth(m, x->known, &job->text);
}

/* The log of format 1 cannot say it: the message gets a file now. */
static int fill_park(struct expansion *x, struct spool_job *job)
{
    struct message *m = x->m;
    job->body = m->content->body.p ? m->content->body : (struct slice){"", 0};
    snprintf(job->big, sizeof(job->big), "%s", m->big);
    job->generation = m->generation;
    job->due = m->held ? 0 : MAX(m->due_wall, (int64_t)1);
    logrec_begin(&job->record, LOGREC_FORGET, m->qid);
    int rc = logrec_finish(&job->record);
    return rc == OK ? message_put_parked(m, &job->text) : rc;
}

static int fill_record(struct expansion *x, struct spool_job *job)
{
    struct buf done;
    buf_init(&done, 4);
    buf_u32(&done, x->index);
    struct logrec_expand e = {
        .first = (uint32_t)x->known, .done = buf_slice(&done), .recipients = buf_slice(&x->packed)};
    int rc = logrec_put_expand(&job->record, x->m->qid, &e);
    buf_clear(&done);
    return rc == OK && buf_len(&job->record) > spool_record_max(x->q->spool) ? ERR_LIMIT : rc;
}

static void begin(struct expansion *x)
{
    struct message *m = x->m;
    struct content *c = m->content;
    x->known = c->count;
    if (message_add_recipients(m, buf_slice(&x->packed)) != OK) {
        fail(x, "the delivery agent named malformed recipients");
        return;
    }
    if (c->total > x->q->set.max_recipients) {
        message_cut_recipients(m, x->known);
        fail(x, "it is forwarded to too many recipients, or in a loop");
        return;
    }
    c->rcpts[x->index].st.state = RCPT_DONE;
    x->changes = ++m->changes;
    enum spool_op in_log = spool_format(x->q->spool) > 1 ? SPOOL_EXPAND : SPOOL_PARK;
    struct spool_job *job = spool_job_new(m->parked ? SPOOL_UPDATE : in_log, m->qid);
    job->size = m->size;
    job->done = written;
    job->arg = x;
    m->moving = true;
    int rc = m->parked                ? fill_update(x, job)
             : in_log == SPOOL_EXPAND ? fill_record(x, job)
                                      : fill_park(x, job);
    if (rc == OK) {
        committer_submit(x->q->committer, job);
        return;
    }
    spool_job_free(job);
    m->moving = false;
    message_cut_recipients(m, x->known);
    message_update_failed(m);
    fail(x, "its recipients are too many");
}

void queue_expand_next(struct qmgr *q, struct message *m)
{
    (void)q;
    if (m->moving || m->updates || m->committing || list_empty(&m->expansions))
        return;
    struct expansion *x = LIST_ENTRY(m->expansions.next, struct expansion, link);
    list_remove(&x->link);
    begin(x);
}

void queue_expand(struct qmgr *q, struct message *m, uint32_t index, struct slice recipients)
{
    struct expansion *x = NEW(struct expansion);
    *x = (struct expansion){.q = q, .m = m, .index = index};
    buf_init(&x->packed, recipients.n);
    buf_put(&x->packed, recipients);
    list_append(&m->expansions, &x->link);
    queue_expand_next(q, m);
}

void message_drop_expansions(struct message *m)
{
    LIST_EACH(it, &m->expansions)
    {
        list_remove(it);
        expansion_free(LIST_ENTRY(it, struct expansion, link));
    }
}
