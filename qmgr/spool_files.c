/*
 * The files beside the log: parked messages, and large bodies. Those of one batch are written
 * together and synced then, so that the disk works on all of them at once: a sync for each as it is
 * written takes five times as long.
 */
#include <errno.h>
#include <inttypes.h>

#include "libutil/log.h"
#include "qmgr/spool_private.h"

enum { TOGETHER = 64 }; /* files that are open at a time */

/* Files that are complete, and not durable yet. */
struct group {
    struct spool *spool;
    struct {
        struct spool_job *job;
        int fd;
    } files[TOGETHER];
    size_t n;
};

/* --- large bodies ---------------------------------------------------------------------------- */

/* Nobody can change it any more, and it is complete. */
static int begin_big(struct disk *disk, struct spool_job *job)
{
    char path[SPOOL_BIG_PATH];
    struct disk_stat st;
    spool_big_path(job->big, path);
    int fd = disk->ops->open(disk, path, DISK_READ);
    if (fd < 0) {
        spool_job_failed(job, fd, "open the message body", path);
        return fd;
    }
    int rc = disk->ops->no_writer(disk, fd);
    if (rc < 0)
        spool_job_failed(job, rc, "prove that nobody writes to the message body", path);
    if (rc == 0 && (rc = disk->ops->stat(disk, path, &st)) < 0)
        spool_job_failed(job, rc, "look at the message body", path);
    if (rc == 0 && st.size != (int64_t)job->size)
        job->code = error_set(&job->error, ERR_IO,
            "the message body %s of %" PRIu64 " bytes has %" PRId64, path, job->size, st.size);
    return fd;
}

static void end_big(struct spool *spool, struct spool_job *job, int fd)
{
    struct disk *disk = spool->disk;
    uint32_t crc = 0;
    char path[SPOOL_BIG_PATH];
    spool_big_path(job->big, path);
    int rc = disk->ops->sync(disk, fd);
    if (rc < 0)
        spool_job_failed(job, rc, "sync the message body", path);
    if (rc == 0 && spool->log.format > 1 && (rc = body_crc(disk, fd, job->size, &crc)) < 0)
        spool_job_failed(job, rc, "read the message body", path);
    if (rc == 0 && spool->log.format > 1)
        logrec_set_crc(&job->record, crc);
}

/* --- parked messages ------------------------------------------------------------------------- */

/* Where the parked file is made before it gets its name. */
static void path_before(const struct spool_job *job, char out[SPOOL_PATH])
{
    char id[ID_TEXT];
    id_print(job->qid, id);
    if (job->big[0])
        spool_big_path(job->big, out);
    else
        snprintf(out, SPOOL_PATH, "parked/new.%s", id);
}

/* Writes body (when in memory) and text. */
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
    return rc == 0 ? disk->ops->set_mtime(disk, fd, job->due) : rc;
}

static void park_failed(struct disk *disk, struct spool_job *job, int rc)
{
    char from[SPOOL_PATH], to[PARKED_NAME];
    path_before(job, from);
    parked_path(job->qid, job->size, to);
    spool_job_failed(job, rc, "write the parked message", to);
    if (!job->big[0])
        disk->ops->unlink(disk, from);
}

static int begin_park(struct disk *disk, struct spool_job *job)
{
    char from[SPOOL_PATH];
    path_before(job, from);
    if (!job->big[0])
        disk->ops->unlink(disk, from);
    int fd = disk->ops->open(disk, from, job->big[0] ? DISK_WRITE : DISK_CREATE);
    int rc = fd < 0 ? fd : fill_parked(disk, fd, job);
    if (rc < 0)
        park_failed(disk, job, rc);
    return fd;
}

/* The message gets its file; the name is durable only after the directory's sync. A large body is
 * linked, not moved: its old name must live until FORGET is durable. */
static void end_park(struct disk *disk, struct spool_job *job, int fd)
{
    char from[SPOOL_PATH], to[PARKED_NAME];
    path_before(job, from);
    parked_path(job->qid, job->size, to);
    int rc = disk->ops->sync(disk, fd);
    if (rc == 0)
        rc = job->big[0] ? disk->ops->link(disk, from, to) : disk->ops->rename(disk, from, to);
    if (rc == -EEXIST && job->big[0])
        rc = 0; /* linked by an attempt whose later step failed */
    if (rc < 0)
        park_failed(disk, job, rc);
}

static void update_failed(struct spool *spool, struct spool_job *job, int rc, const char *what)
{
    char path[PARKED_NAME];
    parked_path(job->qid, job->size, path);
    spool_job_failed(job, rc, what, path);
    map_set_id(&spool->unsettled, job->qid, spool);
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

static int begin_update(struct spool *spool, struct spool_job *job)
{
    struct disk *disk = spool->disk;
    char path[PARKED_NAME];
    parked_path(job->qid, job->size, path);
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    if (fd < 0) {
        spool_job_failed(job, fd, "open the parked message", path);
        return fd;
    }
    struct slice text = buf_slice(&job->text);
    struct iovec iov = {(char *)text.p, text.n};
    int rc = clear_tail(spool, job, path, fd);
    if (rc == 0)
        rc = disk->ops->write(disk, fd, &iov, 1, (int64_t)job->offset);
    if (rc == 0)
        rc = disk->ops->set_mtime(disk, fd, job->due);
    if (rc < 0)
        update_failed(spool, job, rc, "write to the parked message");
    return fd;
}

static void end_update(struct spool *spool, struct spool_job *job, int fd)
{
    int rc = spool->disk->ops->sync(spool->disk, fd);
    if (rc < 0)
        update_failed(spool, job, rc, "write to the parked message");
    else
        map_remove_id(&spool->unsettled, job->qid);
}

static void remove_parked(struct spool *spool, struct spool_job *job)
{
    struct disk *disk = spool->disk;
    char path[PARKED_NAME];
    map_remove_id(&spool->unsettled, job->qid);
    parked_path(job->qid, job->size, path);
    int rc = disk->ops->unlink(disk, path);
    if (rc < 0 && rc != -ENOENT)
        spool_job_failed(job, rc, "remove the parked message", path);
}

/* --- together -------------------------------------------------------------------------------- */

static int begin(struct spool *spool, struct spool_job *job)
{
    return job->op == SPOOL_PARK     ? begin_park(spool->disk, job)
           : job->op == SPOOL_UPDATE ? begin_update(spool, job)
                                     : begin_big(spool->disk, job);
}

static void end_group(struct group *g)
{
    struct disk *disk = g->spool->disk;
    for (size_t i = 0; i < g->n; i++) {
        struct spool_job *job = g->files[i].job;
        if (job->code == OK && job->op == SPOOL_PARK)
            end_park(disk, job, g->files[i].fd);
        else if (job->code == OK && job->op == SPOOL_UPDATE)
            end_update(g->spool, job, g->files[i].fd);
        else if (job->code == OK)
            end_big(g->spool, job, g->files[i].fd);
        disk->ops->close(disk, g->files[i].fd);
    }
    g->n = 0;
}

static bool has(const struct group *g, uint64_t qid)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->files[i].job->qid == qid)
            return true;
    return false;
}

static void add(struct group *g, struct spool_job *job)
{
    struct disk *disk = g->spool->disk;
    if (g->n == TOGETHER)
        end_group(g);
    int fd = begin(g->spool, job);
    if ((fd == -EMFILE || fd == -ENFILE) && g->n > 0) {
        end_group(g);
        job->code = OK;
        fd = begin(g->spool, job);
    }
    if (fd < 0)
        return;
    if (job->code == OK)
        disk->ops->begin_sync(disk, fd);
    g->files[g->n].job = job;
    g->files[g->n++].fd = fd;
}

void spool_files_run(struct spool *spool, struct spool_job **jobs, size_t n)
{
    struct group g = {.spool = spool};
    for (size_t i = 0; i < n; i++) {
        struct spool_job *job = jobs[i];
        bool file = job->op == SPOOL_PARK || job->op == SPOOL_UPDATE ||
                    (job->op == SPOOL_ACCEPT && job->big[0]);
        if (job->code != OK || !(file || job->op == SPOOL_REMOVE))
            continue;
        if (has(&g, job->qid)) /* one after the other */
            end_group(&g);
        if (file)
            add(&g, job);
        else
            remove_parked(spool, job);
    }
    end_group(&g);
}
