#include "qmgr/spool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/log.h"
#include "qmgr/spool_private.h"

enum { RECORD_BUF_MAX = 64 * 1024 * 1024, TEXT_MAX = 256 * 1024 * 1024 };

struct spool_job *spool_job_new(enum spool_op op, uint64_t qid)
{
    struct spool_job *job = NEW(struct spool_job);
    list_init(&job->link);
    job->op = op;
    job->qid = qid;
    buf_init(&job->record, RECORD_BUF_MAX);
    buf_init(&job->text, TEXT_MAX);
    return job;
}

void spool_job_free(struct spool_job *job)
{
    if (!job)
        return;
    buf_clear(&job->record);
    buf_clear(&job->text);
    free(job);
}

unsigned spool_format(const struct spool *spool)
{
    return spool->log.format;
}

size_t spool_record_max(const struct spool *spool)
{
    return MIN(spool->log.segment_size / 2, RECORD_BUF_MAX - LOGREC_ALIGN);
}

void spool_big_path(const char *name, char out[SPOOL_BIG_PATH])
{
    snprintf(out, SPOOL_BIG_PATH, "big/%s", name);
}

int spool_big_create(struct disk *disk, char name[LOGREC_BIG_NAME])
{
    char path[SPOOL_BIG_PATH];
    id_print(id_new(), name);
    spool_big_path(name, path);
    return disk->ops->open(disk, path, DISK_CREATE);
}

bool spool_unmarked(const struct spool *spool)
{
    const struct spool_log *log = &spool->log;
    return log->fd >= 0 && log->format > 1 && log->marked < log->committed;
}

void spool_mark(struct spool *spool)
{
    if (spool_unmarked(spool))
        spool_log_mark(&spool->log);
}

void spool_figures(const struct spool *spool, struct spool_figures *out)
{
    *out = spool->log.figures;
    out->segments = spool->log.nused + spool->log.nspare;
    out->free_segments = spool->log.nspare;
    /* The last spare one is not for new mail. */
    uint64_t size = spool->log.segment_size;
    out->room = spool->log.nspare > 1 ? (spool->log.nspare - 1) * size : 0;
    if (spool->log.fd >= 0)
        out->room += size - spool->log.offset;
    out->whole = (out->segments - 1) * size;
    out->oldest = spool->log.nused ? spool->log.used[0].generation : 0;
}

int spool_job_failed(struct spool_job *job, int rc, const char *what, const char *path)
{
    return job->code = disk_error(&job->error, rc, "cannot %s %s", what, path);
}

/* Something an earlier failure left to be done for this message. done: chores of this kind have
 * run already, so that only those that failed again count. */
static bool has_chore(const struct list *chores, uint64_t qid, enum spool_op op, bool done)
{
    for (const struct list *it = chores->next; it != chores; it = it->next) {
        const struct spool_job *job = CONTAINER_OF(it, struct spool_job, link);
        if (job->qid == qid && job->op == op && !(done && job->code == OK))
            return true;
    }
    return false;
}

static void must_wait(struct spool_job *job)
{
    /* No other failure has this code: nothing was begun. */
    job->code = error_set(
        &job->error, ERR_TEMP, "what an earlier failure of the disk left has to be undone first");
}

/* One directory's sync for all jobs of these kinds that went well so far. */
static void sync_names(struct disk *disk, const char *dir, unsigned ops, bool big_only,
    struct spool_job **jobs, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        any |= jobs[i]->code == OK && (ops >> jobs[i]->op & 1) && (!big_only || jobs[i]->big[0]);
    int rc = any ? disk->ops->sync_dir(disk, dir) : 0;
    for (size_t i = 0; i < n && rc < 0; i++)
        if (jobs[i]->code == OK && (ops >> jobs[i]->op & 1) && (!big_only || jobs[i]->big[0]))
            spool_job_failed(jobs[i], rc, "sync the directory of the spool", dir);
}

/* Jobs that say in the log what became of a message in it. */
enum { LOG_ONLY = 1u << SPOOL_FORGET | 1u << SPOOL_DONE | 1u << SPOOL_EXPAND };

/* What has to be durable before the log may speak of it. */
static void before_log(
    struct spool *spool, const struct list *chores, struct spool_job **jobs, size_t n)
{
    struct disk *disk = spool->disk;
    for (size_t i = 0; i < n; i++) {
        if (jobs[i]->op == SPOOL_PARK && has_chore(chores, jobs[i]->qid, SPOOL_REMOVE, false))
            must_wait(jobs[i]); /* its file may still have its name, and be the one to write to */
        else if (jobs[i]->op == SPOOL_REMOVE &&
                 has_chore(chores, jobs[i]->qid, SPOOL_FORGET, false))
            must_wait(jobs[i]); /* the log would bring the message back */
    }
    spool_files_run(spool, jobs, n);
    sync_names(disk, "big", 1u << SPOOL_ACCEPT, true, jobs, n);
    sync_names(disk, "parked", 1u << SPOOL_PARK | 1u << SPOOL_REMOVE, false, jobs, n);
    for (size_t i = 0; i < n; i++)
        if ((1u << jobs[i]->op & LOG_ONLY) && has_chore(chores, jobs[i]->qid, SPOOL_REMOVE, true))
            must_wait(jobs[i]); /* the file would bring back what was before */
}

static void add_chore(struct spool *spool, struct spool_job *chore)
{
    list_append(&spool->chores, &chore->link);
}

struct spool_job *spool_forget_job(uint64_t qid)
{
    struct spool_job *job = spool_job_new(SPOOL_FORGET, qid);
    logrec_begin(&job->record, LOGREC_FORGET, qid);
    int rc = logrec_finish(&job->record);
    assert(rc == OK);
    (void)rc;
    return job;
}

/* An expansion that failed may have reached the disk, and what it says must never count: the next
 * one of this message has the same `first` and replaces it, or this does. */
static struct spool_job *undo_expansion(const struct spool_job *failed)
{
    struct spool_job *job = spool_job_new(SPOOL_EXPAND, failed->qid);
    struct reader r = reader_of(slice_from_index(buf_slice(&failed->record), LOGREC_HEADER));
    struct logrec_expand none = {
        .first = get_u32(&r), .done = SLICE_LIT(""), .recipients = SLICE_LIT("")};
    int rc = logrec_put_expand(&job->record, failed->qid, &none);
    assert(rc == OK);
    (void)rc;
    return job;
}

/* A park that went wrong. With its file in place the message is parked, whatever the log says:
 * the log has to learn it before the file may go. Otherwise the file must go before the log may
 * forget the message. */
static void repair_park(struct spool *spool, struct spool_job *job)
{
    struct spool_job *chore;
    if (job->filed) {
        chore = spool_forget_job(job->qid);
        chore->generation = job->generation;
        snprintf(chore->big, sizeof(chore->big), "%s", job->big);
        job->code = OK;
    } else {
        chore = spool_job_new(SPOOL_REMOVE, job->qid);
        chore->size = job->size;
    }
    add_chore(spool, chore);
}

/* The first nchores of the jobs are chores. */
static void after_log(struct spool *spool, struct spool_job **jobs, size_t nchores, size_t n)
{
    struct disk *disk = spool->disk;
    for (size_t i = 0; i < n; i++) {
        struct spool_job *job = jobs[i];
        if (job->op == SPOOL_ACCEPT && job->half_written) {
            /* It may have reached the disk, and must not come back to life. */
            add_chore(spool, spool_forget_job(job->qid));
        } else if (job->op == SPOOL_EXPAND && job->code != OK && i >= nchores) {
            add_chore(spool, undo_expansion(job));
        } else if (job->op == SPOOL_PARK && job->code != OK && job->code != ERR_TEMP) {
            repair_park(spool, job);
        } else if (job->code == OK && (job->op == SPOOL_FORGET || job->op == SPOOL_PARK)) {
            spool_log_release(&spool->log, job->generation);
            if (job->big[0]) {
                char path[SPOOL_BIG_PATH];
                spool_big_path(job->big, path);
                disk->ops->unlink(disk, path);
            }
        }
    }
}

/* An expansion that was to be undone has been replaced by another. */
static void drop_chores(struct list *chores, uint64_t qid, enum spool_op op)
{
    LIST_EACH(it, chores)
    {
        struct spool_job *chore = LIST_ENTRY(it, struct spool_job, link);
        if (chore->qid == qid && chore->op == op)
            chore->code = OK;
    }
}

/* Chores that went well are over; the others are tried again with the next batch. */
static void put_back(struct spool *spool, struct list *chores)
{
    LIST_EACH(it, chores)
    {
        struct spool_job *job = LIST_ENTRY(it, struct spool_job, link);
        list_remove(it);
        if (job->code == OK)
            spool_job_free(job);
        else
            add_chore(spool, job);
    }
}

static size_t list_length(const struct list *l)
{
    size_t n = 0;
    for (const struct list *it = l->next; it != l; it = it->next)
        n++;
    return n;
}

static void take_jobs(struct list *from, struct spool_job **jobs, size_t *n)
{
    LIST_EACH(it, from)
    {
        struct spool_job *job = LIST_ENTRY(it, struct spool_job, link);
        job->code = OK;
        job->half_written = job->filed = false;
        jobs[(*n)++] = job;
    }
}

void spool_run(struct spool *spool, struct list *batch)
{
    struct list chores;
    list_init(&chores);
    LIST_EACH(it, &spool->chores)
    {
        list_remove(it);
        list_append(&chores, it);
    }
    size_t max = list_length(batch) + list_length(&chores) + 1, n = 0, nlogged = 0;
    struct spool_job **jobs = xcalloc(max, sizeof(*jobs));
    struct spool_job **logged = xcalloc(max, sizeof(*logged));
    take_jobs(&chores, jobs, &n);
    size_t nchores = n;
    take_jobs(batch, jobs, &n);
    spool->log.figures.full = false;
    spool->log.figures.batches++;
    before_log(spool, &chores, jobs, n);
    for (size_t i = 0; i < n; i++)
        if (jobs[i]->code == OK && buf_len(&jobs[i]->record) > 0) {
            jobs[i]->filed = true;
            logged[nlogged++] = jobs[i];
        }
    spool_log_write(&spool->log, logged, nlogged);
    for (size_t i = nchores; i < n; i++)
        if (jobs[i]->op == SPOOL_EXPAND)
            drop_chores(&chores, jobs[i]->qid, SPOOL_EXPAND);
    after_log(spool, jobs, nchores, n);
    put_back(spool, &chores);
    free(jobs);
    free(logged);
}

void spool_close(struct spool *spool)
{
    if (!spool)
        return;
    LIST_EACH(it, &spool->chores)
    {
        list_remove(it);
        spool_job_free(LIST_ENTRY(it, struct spool_job, link));
    }
    map_clear(&spool->unsettled);
    spool_log_close(&spool->log);
    free(spool);
}
