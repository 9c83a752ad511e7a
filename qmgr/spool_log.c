#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "qmgr/spool_list.h"

void spool_log_path(unsigned number, char out[SPOOL_PATH])
{
    snprintf(out, SPOOL_PATH, "log/%05u", number);
}

/* The head of a segment that was never used: what has nothing but zeros is damaged then. Three
 * sectors, of which a turn that is cut off leaves two. */
static int put_stamps(struct spool_log *log, int fd)
{
    char head[SECTOR_FIRST][SECTOR];
    struct iovec iov = {head, sizeof(head)};
    for (uint32_t i = 0; i < SECTOR_FIRST; i++)
        sector_fill(head[i], SLICE_LIT(""), 0, i);
    return log->disk->ops->write(log->disk, fd, &iov, 1, 0);
}

int spool_log_stamp(struct spool_log *log, struct segment *seg, struct error *err)
{
    char path[SPOOL_PATH];
    spool_log_path(seg->number, path);
    int fd = log->disk->ops->open(log->disk, path, DISK_WRITE);
    int rc = fd < 0 ? fd : put_stamps(log, fd);
    if (rc == 0)
        rc = log->disk->ops->sync(log->disk, fd);
    if (fd >= 0)
        log->disk->ops->close(log->disk, fd);
    seg->blank = rc < 0;
    seg->stamped = rc == 0;
    return rc < 0 ? disk_error(err, rc, "cannot stamp %s, a segment of the spool log", path) : OK;
}

int spool_log_add(struct spool_log *log, struct error *err)
{
    struct disk *disk = log->disk;
    char path[SPOOL_PATH], fresh[SPOOL_PATH];
    spool_log_path(log->next_number, path);
    snprintf(fresh, sizeof(fresh), "log/new.%05u", log->next_number);
    disk->ops->unlink(disk, fresh);
    int fd = disk->ops->open(disk, fresh, DISK_CREATE);
    if (fd < 0)
        return disk_error(err, fd, "cannot create %s, a segment of the spool log", fresh);
    int rc = disk->ops->allocate(disk, fd, log->segment_size);
    if (rc == 0 && log->format > 1)
        rc = put_stamps(log, fd);
    if (rc == 0)
        rc = disk->ops->sync(disk, fd);
    disk->ops->close(disk, fd);
    /* By its own name there is none that is shorter than it should be, unless somebody cut it. */
    if (rc == 0)
        rc = disk->ops->rename(disk, fresh, path);
    if (rc == 0)
        rc = disk->ops->sync_dir(disk, "log");
    if (rc < 0) {
        disk->ops->unlink(disk, fresh);
        disk->ops->unlink(disk, path);
        return disk_error(err, rc, "cannot make %s, a segment of the spool log", path);
    }
    if (log->nspare + log->nused + 1 > log->cap) {
        log->cap = MAX(2 * log->cap, 16);
        log->used = xrealloc(log->used, log->cap, sizeof(*log->used));
        log->spare = xrealloc(log->spare, log->cap, sizeof(*log->spare));
    }
    /* Never used: to be taken before those whose old records still explain older ones. */
    memmove(log->spare + 1, log->spare, log->nspare * sizeof(*log->spare));
    log->spare[0] = (struct segment){.number = log->next_number++, .stamped = log->format > 1};
    log->nspare++;
    return OK;
}

static void close_current(struct spool_log *log)
{
    if (log->fd >= 0)
        log->disk->ops->close(log->disk, log->fd);
    log->fd = -1;
}

/* One record as a sector of a segment's head. */
static void head_sector(char out[SECTOR], struct buf *record, uint64_t commit, uint32_t place)
{
    sector_fill(out, buf_slice(record), commit, place);
    buf_clear(record);
}

void spool_log_put_mark(char out[SECTOR], unsigned format, uint64_t generation, uint64_t committed)
{
    struct buf mark;
    buf_init(&mark, SECTOR);
    logrec_put_mark(&mark, format, generation, committed);
    head_sector(out, &mark, committed, SECTOR_MARK);
}

void spool_log_mark(struct spool_log *log)
{
    alignas(SECTOR) char mark[SECTOR];
    struct iovec iov = {mark, sizeof(mark)};
    spool_log_put_mark(mark, log->format, log->used[log->nused - 1].generation, log->committed);
    /* A failure costs nothing but the mark, which has a sector of its own. */
    (void)log->disk->ops->write(log->disk, log->fd, &iov, 1, SECTOR_MARK * SECTOR);
    log->marked = log->committed;
}

void spool_log_close(struct spool_log *log)
{
    if (log->fd >= 0 && log->format > 1) {
        spool_log_mark(log);
        log->disk->ops->sync(log->disk, log->fd);
    }
    close_current(log);
    free(log->used);
    free(log->spare);
}

static int write_at(struct spool_log *log, int fd, char *bytes, size_t n, uint32_t offset)
{
    struct iovec iov = {bytes, n};
    log->figures.bytes += n;
    return log->disk->ops->write(log->disk, fd, &iov, 1, offset);
}

/* Zeros over everything but the new SEGMENT record: they pass for nothing. */
static int wipe(struct spool_log *log, int fd)
{
    enum { STEP = 256 * 1024 };
    char *zeros = xaligned(DISK_SECTOR, STEP);
    int64_t size = log->segment_size;
    int rc = 0;
    memset(zeros, 0, STEP);
    for (int64_t at = SECTOR; rc == 0 && at < size; at += STEP) {
        struct iovec iov = {zeros, (size_t)MIN(size - at, (int64_t)STEP)};
        rc = log->disk->ops->write(log->disk, fd, &iov, 1, at);
    }
    free(zeros);
    return rc == 0 ? log->disk->ops->sync(log->disk, fd) : rc;
}

/* At least of this size, durably: the SEGMENT record is going to say so. */
static int enlarge_segment(struct spool_log *log, const struct segment *seg, int fd, int64_t size)
{
    struct disk_stat st;
    char path[SPOOL_PATH];
    spool_log_path(seg->number, path);
    int rc = log->disk->ops->stat(log->disk, path, &st);
    if (rc < 0 || st.size >= size)
        return rc;
    rc = log->disk->ops->allocate(log->disk, fd, size);
    if (rc == 0)
        rc = log->disk->ops->sync(log->disk, fd);
    if (rc < 0)
        log->disk->ops->truncate(log->disk, fd, st.size); /* the next one has to sync it as well */
    return rc;
}

void spool_log_mend(struct spool_log *log, struct segment *seg)
{
    char path[SPOOL_PATH];
    spool_log_path(seg->number, path);
    int fd = seg->lacks ? log->disk->ops->open(log->disk, path, DISK_WRITE) : -1;
    if (fd < 0)
        return;
    int64_t size = MAX(seg->lacks, (int64_t)log->segment_size);
    if (enlarge_segment(log, seg, fd, size) == 0)
        seg->lacks = 0;
    log->disk->ops->close(log->disk, fd);
}

/* Writes the SEGMENT record into an open segment and makes it durable. Its copy and the first mark
 * come behind it, and the next sync is theirs, too: before that, nothing is in the segment that
 * could be missed. */
static int begin_segment(struct spool_log *log, int fd, uint32_t *offset)
{
    alignas(SECTOR) char head[3][SECTOR] = {{0}};
    struct buf record;
    uint64_t generation = log->sequence + 1, size = log->segment_size;
    buf_init(&record, SECTOR);
    logrec_begin(&record, LOGREC_SEGMENT, 0);
    buf_u64(&record, log->committed);
    if (log->format > 1)
        buf_u64(&record, size);
    int rc = logrec_finish(&record);
    assert(rc == OK);
    logrec_seal(&record, log->format, generation, log->committed);
    size_t n = buf_len(&record);
    memcpy(head[0], record.data + record.off, n);
    *offset = log->format > 1 ? SECTOR_FIRST * SECTOR : (uint32_t)n;
    if (log->format > 1) {
        n = SECTOR;
        sector_fill(head[0], buf_slice(&record), generation, 0);
        head_sector(head[SECTOR_COPY], &record, generation, SECTOR_COPY);
        spool_log_put_mark(head[SECTOR_MARK], log->format, generation, generation);
    }
    buf_clear(&record);
    rc = enlarge_segment(log, &log->spare[0], fd, (int64_t)size);
    if (rc == 0)
        rc = write_at(log, fd, head[0], n, 0);
    if (rc == 0)
        rc = log->disk->ops->sync(log->disk, fd);
    if (rc == 0 && (log->format > 1 ? log->spare[0].soiled : log->spare[0].stamped))
        rc = wipe(log, fd);
    if (rc == 0 && log->format > 1)
        rc = write_at(log, fd, head[SECTOR_COPY], 2 * SECTOR, SECTOR_COPY * SECTOR);
    return rc;
}

int spool_log_turn(struct spool_log *log, bool reserve, struct error *err)
{
    if (log->nspare <= (reserve ? 1u : 0u))
        return error_set(err, ERR_NO_SPACE, "every segment of the spool log is in use");
    int rc = log->names_changed ? log->disk->ops->sync_dir(log->disk, "log") : 0;
    if (rc < 0)
        return disk_error(err, rc, "cannot sync log, the directory of the spool log");
    log->names_changed = false;
    char path[SPOOL_PATH];
    spool_log_path(log->spare[0].number, path);
    int fd = log->disk->ops->open(log->disk, path, DISK_DIRECT);
    if (fd < 0)
        return disk_error(err, fd, "cannot open %s, a segment of the spool log", path);
    uint32_t offset = 0;
    rc = begin_segment(log, fd, &offset);
    /* The number is spent even when the write failed: it may have reached the disk. The segment
     * before has no place for a gap, so it ends here. */
    log->sequence++;
    if (rc < 0) {
        log->disk->ops->close(log->disk, fd);
        close_current(log);
        return disk_error(err, rc, "cannot begin %s, a segment of the spool log", path);
    }
    close_current(log);
    log->fd = fd;
    log->offset = offset;
    log->committed = log->marked = log->sequence;
    struct segment turned = log->spare[0];
    turned.generation = log->sequence;
    turned.live = 0;
    turned.soiled = log->format == 1;
    turned.stamped = log->format > 1;
    memmove(log->spare, log->spare + 1, --log->nspare * sizeof(*log->spare));
    log->used[log->nused++] = turned;
    /* The one before may have become free now that it is not written to any more. */
    spool_log_release(log, 0);
    return OK;
}

/* Removes the oldest spare segment that was used: from the list, then for good. */
static int remove_spare(struct spool_log *log, unsigned first)
{
    char path[SPOOL_PATH];
    spool_log_path(log->spare[first].number, path);
    int rc = log->format > 1 ? spool_list_write(log, first, 1) : 0;
    if (rc == 0)
        rc = log->disk->ops->unlink(log->disk, path);
    if (rc < 0)
        return rc;
    log->names_changed = true;
    memmove(
        log->spare + first, log->spare + first + 1, (--log->nspare - first) * sizeof(*log->spare));
    return 0;
}

/* Removes segments beyond those wanted, in their order: a record must not outlive the later one
 * that cancels it. One is gone before the next leaves the list: whatever a crash leaves, the only
 * one that is there and not listed is older than all others, and nobody misses it. */
static void remove_surplus(struct spool_log *log)
{
    unsigned first = 0;
    while (first < log->nspare && log->spare[first].generation == 0)
        first++;
    while (first < log->nspare && log->nused + log->nspare > log->nominal) {
        if (log->names_changed && log->disk->ops->sync_dir(log->disk, "log") < 0)
            return;
        log->names_changed = false;
        if (remove_spare(log, first) < 0)
            return;
    }
}

/* Gives the oldest segment back. Spare ones keep their order, and are used again in it. */
static void free_oldest(struct spool_log *log)
{
    log->spare[log->nspare] = log->used[0];
    log->spare[log->nspare++].live = 0;
    memmove(log->used, log->used + 1, --log->nused * sizeof(*log->used));
    remove_surplus(log);
}

void spool_log_release(struct spool_log *log, uint64_t generation)
{
    for (unsigned i = 0; generation && i < log->nused; i++)
        if (log->used[i].generation == generation && log->used[i].live > 0)
            log->used[i].live--;
    /* The last one is being written to, unless it was given up after a failure. */
    while (log->nused > (log->fd >= 0 ? 1u : 0u) && log->used[0].live == 0)
        free_oldest(log);
}

static void fail_jobs(struct spool_job **jobs, size_t n, int code, const char *text)
{
    for (size_t i = 0; i < n; i++)
        jobs[i]->code = error_set(&jobs[i]->error, code, "%s", text);
}

/* What a commit of so many bytes takes in the segment. */
static size_t taken(const struct spool_log *log, size_t bytes)
{
    return log->format > 1 ? (size_t)sectors_of(bytes) * SECTOR : bytes;
}

static bool fits(const struct spool_log *log, size_t bytes)
{
    return log->fd >= 0 && taken(log, bytes) <= log->segment_size - log->offset;
}

/* Writes jobs that fit into the current segment. After a failure nobody knows what reached the
 * disk, and a second fdatasync would not tell: the segment is given up. */
static void write_portion(struct spool_log *log, struct spool_job **jobs, size_t n, size_t bytes)
{
    struct iovec *iov = xcalloc(n, sizeof(*iov));
    uint64_t committed = log->committed, first = log->sequence + 1;
    for (size_t i = 0; i < n; i++) {
        logrec_seal(&jobs[i]->record, log->format, ++log->sequence, committed);
        struct slice s = buf_slice(&jobs[i]->record);
        iov[i] = (struct iovec){(char *)s.p, s.n};
    }
    int rc;
    if (log->format > 1)
        rc = sectors_write(log->disk, log->fd, log->offset, iov, (int)n, first, log->sequence);
    else
        rc = log->disk->ops->write(log->disk, log->fd, iov, (int)n, log->offset);
    if (rc == 0)
        rc = log->disk->ops->sync(log->disk, log->fd);
    free(iov);
    log->figures.syncs++;
    if (rc < 0) {
        struct error err;
        char path[SPOOL_PATH];
        spool_log_path(log->used[log->nused - 1].number, path);
        disk_error(&err, rc, "cannot write to %s, which is given up for another segment", path);
        fail_jobs(jobs, n, err.code, err.text);
        for (size_t i = 0; i < n; i++)
            jobs[i]->half_written = true;
        log->used[log->nused - 1].soiled = true;
        close_current(log);
        return;
    }
    bytes = taken(log, bytes);
    log->offset += (uint32_t)bytes;
    log->committed = log->sequence;
    log->figures.records += n;
    log->figures.bytes += bytes;
    struct segment *current = &log->used[log->nused - 1];
    for (size_t i = 0; i < n; i++)
        if (jobs[i]->op == SPOOL_ACCEPT) {
            jobs[i]->generation = current->generation;
            current->live++;
        }
}

void spool_log_write(struct spool_log *log, struct spool_job **jobs, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t bytes = 0, count = 0;
        while (at + count < n && fits(log, bytes + buf_len(&jobs[at + count]->record)))
            bytes += buf_len(&jobs[at + count++]->record);
        if (count > 0) {
            write_portion(log, jobs + at, count, bytes);
            at += count;
            continue;
        }
        struct error err;
        bool reserve = jobs[at]->op == SPOOL_ACCEPT;
        if (spool_log_turn(log, reserve, &err) == OK)
            continue;
        if (reserve && err.code == ERR_NO_SPACE)
            log->figures.full = true;
        fail_jobs(jobs + at, 1, err.code, err.text);
        at++;
    }
}
