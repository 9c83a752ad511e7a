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
    out->oldest = spool->log.nused ? spool->log.used[0].generation : 0;
}

/* The error names what could not be done with which file, and why. */
static int job_failed(struct spool_job *job, int rc, const char *what, const char *path)
{
    return job->code = disk_error(&job->error, rc, "cannot %s %s", what, path);
}

/* A large body: nobody can change it any more, it is complete, and it is on the disk. */
static void settle_big(struct disk *disk, unsigned format, struct spool_job *job)
{
    uint32_t crc = 0;
    char path[SPOOL_BIG_PATH];
    struct disk_stat st;
    spool_big_path(job->big, path);
    int fd = disk->ops->open(disk, path, DISK_READ);
    if (fd < 0) {
        job_failed(job, fd, "open the message body", path);
        return;
    }
    int rc = disk->ops->no_writer(disk, fd);
    if (rc < 0)
        job_failed(job, rc, "prove that nobody writes to the message body", path);
    if (rc == 0 && (rc = disk->ops->stat(disk, path, &st)) < 0)
        job_failed(job, rc, "look at the message body", path);
    if (rc == 0 && st.size != (int64_t)job->size)
        rc = job->code = error_set(&job->error, ERR_IO,
            "the message body %s of %" PRIu64 " bytes has %" PRId64, path, job->size, st.size);
    if (rc == 0 && (rc = disk->ops->sync(disk, fd)) < 0)
        job_failed(job, rc, "sync the message body", path);
    if (rc == 0 && format > 1 && (rc = body_crc(disk, fd, job->size, &crc)) < 0)
        job_failed(job, rc, "read the message body", path);
    if (rc == 0 && format > 1)
        logrec_set_crc(&job->record, crc);
    disk->ops->close(disk, fd);
}

/* Where the parked file is made before it gets its name. */
static void new_path(const struct spool_job *job, char out[SPOOL_PATH])
{
    char id[ID_TEXT];
    id_print(job->qid, id);
    snprintf(out, SPOOL_PATH, "parked/new.%s", id);
}

/* Writes body (when in memory) and text, and syncs them. */
static int fill_parked(struct disk *disk, int fd, struct spool_job *job)
{
    struct slice text = buf_slice(&job->text);
    struct iovec iov[2] = {{(char *)job->body.p, job->body.n}, {(char *)text.p, text.n}};
    int rc;
    if (job->big[0])
        rc = disk->ops->write(disk, fd, iov + 1, 1, (int64_t)job->size);
    else
        rc = disk->ops->write(disk, fd, iov, 2, 0);
    if (rc == 0)
        rc = disk->ops->truncate(disk, fd, (int64_t)(job->size + text.n));
    if (rc == 0)
        rc = disk->ops->set_mtime(disk, fd, job->due);
    return rc == 0 ? disk->ops->sync(disk, fd) : rc;
}

/* Gives one message its file; the name is durable only after the directory's sync. A large body
 * is linked, not moved: its old name must live until FORGET is durable. */
static void park(struct disk *disk, struct spool_job *job)
{
    char from[SPOOL_PATH], to[PARKED_NAME];
    parked_path(job->qid, job->size, to);
    if (job->big[0])
        spool_big_path(job->big, from);
    else
        new_path(job, from);
    if (!job->big[0])
        disk->ops->unlink(disk, from);
    int fd = disk->ops->open(disk, from, job->big[0] ? DISK_WRITE : DISK_CREATE);
    int rc = fd < 0 ? fd : fill_parked(disk, fd, job);
    if (fd >= 0)
        disk->ops->close(disk, fd);
    if (rc == 0)
        rc = job->big[0] ? disk->ops->link(disk, from, to) : disk->ops->rename(disk, from, to);
    if (rc == -EEXIST && job->big[0])
        rc = 0; /* linked by an attempt whose later step failed */
    if (rc < 0) {
        job_failed(job, rc, "write the parked message", to);
        if (fd >= 0 && !job->big[0])
            disk->ops->unlink(disk, from);
    }
}

/* What a failed update left behind the last sound block must be gone, durably, before a new one is
 * written over it: of two blocks that have a sector in common, a crash could piece together the
 * older one again. */
static int clear_tail(struct spool *spool, struct spool_job *job, const char *path, int fd)
{
    struct disk *disk = spool->disk;
    struct disk_stat st;
    int rc = disk->ops->stat(disk, path, &st);
    if (rc < 0 || (st.size <= (int64_t)job->offset && !map_get_id(&spool->unsettled, job->qid)))
        return rc;
    map_set_id(&spool->unsettled, job->qid, spool);
    rc = disk->ops->truncate(disk, fd, (int64_t)job->offset);
    return rc == 0 ? disk->ops->sync(disk, fd) : rc;
}

static void update(struct spool *spool, struct spool_job *job)
{
    struct disk *disk = spool->disk;
    char path[PARKED_NAME];
    parked_path(job->qid, job->size, path);
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    if (fd < 0) {
        job_failed(job, fd, "open the parked message", path);
        return;
    }
    struct slice text = buf_slice(&job->text);
    struct iovec iov = {(char *)text.p, text.n};
    int rc = clear_tail(spool, job, path, fd);
    if (rc == 0)
        rc = disk->ops->write(disk, fd, &iov, 1, (int64_t)job->offset);
    if (rc == 0)
        rc = disk->ops->set_mtime(disk, fd, job->due);
    if (rc == 0)
        rc = disk->ops->sync(disk, fd);
    if (rc < 0)
        job_failed(job, rc, "write to the parked message", path);
    if (rc < 0)
        map_set_id(&spool->unsettled, job->qid, spool);
    else
        map_remove_id(&spool->unsettled, job->qid);
    disk->ops->close(disk, fd);
}

static void remove_parked(struct spool *spool, struct spool_job *job)
{
    struct disk *disk = spool->disk;
    char path[PARKED_NAME];
    map_remove_id(&spool->unsettled, job->qid);
    parked_path(job->qid, job->size, path);
    int rc = disk->ops->unlink(disk, path);
    if (rc < 0 && rc != -ENOENT)
        job_failed(job, rc, "remove the parked message", path);
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
            job_failed(jobs[i], rc, "sync the directory of the spool", dir);
}

/* Jobs that say in the log what became of a message in it. */
enum { LOG_ONLY = 1u << SPOOL_FORGET | 1u << SPOOL_DONE | 1u << SPOOL_EXPAND };

/* What has to be durable before the log may speak of it. */
static void before_log(
    struct spool *spool, const struct list *chores, struct spool_job **jobs, size_t n)
{
    struct disk *disk = spool->disk;
    for (size_t i = 0; i < n; i++) {
        if (jobs[i]->op == SPOOL_ACCEPT && jobs[i]->big[0])
            settle_big(disk, spool->log.format, jobs[i]);
        else if (jobs[i]->op == SPOOL_PARK && has_chore(chores, jobs[i]->qid, SPOOL_REMOVE, false))
            must_wait(jobs[i]); /* its file may still have its name, and be the one to write to */
        else if (jobs[i]->op == SPOOL_PARK)
            park(disk, jobs[i]);
        else if (jobs[i]->op == SPOOL_UPDATE)
            update(spool, jobs[i]);
        else if (jobs[i]->op == SPOOL_REMOVE &&
                 has_chore(chores, jobs[i]->qid, SPOOL_FORGET, false))
            must_wait(jobs[i]); /* the log would bring the message back */
        else if (jobs[i]->op == SPOOL_REMOVE)
            remove_parked(spool, jobs[i]);
    }
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
