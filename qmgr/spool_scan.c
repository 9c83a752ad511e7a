/*
 * Reading the spool at start.
 *
 * Segments are read in the order of their first sequence, records in each by sequence. Where a
 * record is not sound, the rest of the segment is searched for one that proves the bad one was
 * committed (its `committed`, the next segment's account of what came before it, or the MARK that
 * was written when nothing else was to do). With such a proof it is damage, reported and set aside;
 * without, it is where the last commit was cut off.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/log.h"
#include "libutil/map.h"
#include "qmgr/spool_scan.h"

enum { SEGMENT_READ_MAX = 1 << 30 };

void scan_trouble(struct spool_scan *scan, const char *what, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    scan->ops->trouble(what, text, scan->arg);
}

static void note_segment(const char *name, void *arg)
{
    struct spool_scan *scan = arg;
    uint64_t number;
    if (strlen(name) != 5 || slice_u64(slice_of(name), 0, 99999, &number) != OK) {
        scan_trouble(
            scan, "foreign file", "log/%s is not a segment of the spool log; left alone", name);
        return;
    }
    if (scan->nsegments >= SPOOL_SEGMENTS_MAX)
        return;
    scan->segments = xrealloc(scan->segments, scan->nsegments + 1, sizeof(*scan->segments));
    scan->segments[scan->nsegments++] = (struct found_segment){.number = (unsigned)number};
    scan->next_number = MAX(scan->next_number, (unsigned)number + 1);
}

/* The whole segment; NULL after an error. Free the result. */
static char *read_segment(struct spool_scan *scan, unsigned number, size_t *size)
{
    char path[SPOOL_PATH];
    struct disk_stat st;
    spool_log_path(number, path);
    int rc = scan->disk->ops->stat(scan->disk, path, &st);
    int fd = rc < 0 ? rc : scan->disk->ops->open(scan->disk, path, DISK_READ);
    if (fd < 0) {
        disk_error(&scan->error, fd, "cannot open a segment of the spool log");
        return NULL;
    }
    *size = (size_t)MIN(st.size, SEGMENT_READ_MAX);
    char *data = xcalloc(*size + 1, 1);
    ssize_t got = scan->disk->ops->read(scan->disk, fd, data, *size, 0);
    scan->disk->ops->close(scan->disk, fd);
    if (got < 0) {
        disk_error(&scan->error, (int)got, "cannot read a segment of the spool log");
        free(data);
        return NULL;
    }
    *size = (size_t)got;
    return data;
}

/* Reads the head of one segment: its place in the order. */
static int look_at(struct spool_scan *scan, struct found_segment *seg)
{
    size_t size;
    char *data = read_segment(scan, seg->number, &size);
    if (!data)
        return scan->error.code;
    struct slice all = {data, size};
    struct logrec rec;
    int rc = logrec_decode(all, &rec);
    if (rc == ERR_VERSION) {
        error_set(&scan->error, ERR_VERSION,
            "log/%05u is of format %u, written by a newer release; this one reads up to %d",
            seg->number, rec.version, LOGREC_VERSION);
        free(data);
        return ERR_VERSION;
    }
    segment_look(seg, all);
    free(data);
    return OK;
}

static int by_generation(const void *a, const void *b)
{
    const struct found_segment *x = a, *y = b;
    if (x->generation != y->generation)
        return x->generation < y->generation ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void take_accept(
    struct spool_scan *scan, const struct logrec *rec, struct slice raw, uint64_t generation)
{
    struct logrec_accept accept;
    char id[ID_TEXT];
    id_print(rec->qid, id);
    if (rec->qid == 0 || logrec_get_accept(rec->payload, rec->version, &accept) != OK) {
        scan_trouble(scan, "corrupt record", "sequence %" PRIu64 ", message %s: malformed ACCEPT",
            rec->sequence, id);
        return;
    }
    live_free(map_set_id(&scan->live, rec->qid,
        live_new(rec->qid, generation, raw, rec->version, accept.recipients)));
}

/* What happened to a message since. Nothing when it is unknown: its ACCEPT is damaged. */
static void take_progress(struct spool_scan *scan, const struct logrec *rec)
{
    struct live *l = map_get_id(&scan->live, rec->qid);
    char id[ID_TEXT];
    if (l && rec->type == LOGREC_DONE)
        live_done(l, rec->payload);
    if (!l || rec->type != LOGREC_EXPAND || live_expand(l, rec->payload) == OK)
        return;
    id_print(rec->qid, id);
    scan_trouble(scan, "corrupt record", "sequence %" PRIu64 ", message %s: malformed EXPAND",
        rec->sequence, id);
}

static void take_record(
    struct spool_scan *scan, const struct logrec *rec, struct slice raw, uint64_t generation)
{
    switch (rec->type) {
    case LOGREC_ACCEPT:
        take_accept(scan, rec, raw, generation);
        break;
    case LOGREC_DONE:
    case LOGREC_EXPAND:
        take_progress(scan, rec);
        break;
    case LOGREC_FORGET:
        live_free(map_remove_id(&scan->live, rec->qid));
        break;
    case LOGREC_SEGMENT:
    case LOGREC_MARK:
        break;
    }
    scan->good = rec->sequence;
}

void scan_set_aside(struct spool_scan *scan, const char *path, struct slice bytes)
{
    struct disk *disk = scan->disk;
    int fd = scan->read_only ? -EROFS : disk->ops->open(disk, path, DISK_CREATE);
    if (fd < 0)
        return;
    struct iovec iov = {(char *)bytes.p, bytes.n};
    disk->ops->write(disk, fd, &iov, 1, 0);
    disk->ops->sync(disk, fd);
    disk->ops->close(disk, fd);
}

static void quarantine(struct spool_scan *scan, const struct found_segment *seg, struct slice bytes,
    size_t offset, uint64_t from, uint64_t to)
{
    char path[SPOOL_PATH], where[SPOOL_PATH];
    spool_log_path(seg->number, where);
    snprintf(path, sizeof(path), "corrupt/log-%05u-%" PRIu64, seg->number, from);
    scan_set_aside(scan, path, bytes);
    scan_trouble(scan, "corrupt records",
        "%s at offset %zu: %zu bytes with sequences %" PRIu64 " to %" PRIu64
        " are damaged; copied to %s",
        where, offset, bytes.n, from, to, path);
}

/* Past a bad record at `at`: true with the next one to go on with, false when the log ends. */
static bool skip_damage(struct spool_scan *scan, const struct found_segment *seg, struct slice all,
    size_t *at, struct logrec *rec)
{
    size_t from = *at;
    uint64_t known = MAX(seg->promised, segment_committed(all, from, scan->good));
    if (known <= scan->good)
        return false;
    bool more = segment_find(all, from, scan->good, rec, at) &&
                (rec->sequence <= known || rec->committed > scan->good);
    struct slice bytes = slice_from_index(all, from);
    quarantine(scan, seg, more ? slice_first(bytes, *at - from) : bytes, from, scan->good + 1,
        more ? rec->sequence - 1 : known);
    return more;
}

/* All records of one segment. */
static void read_records(struct spool_scan *scan, const struct found_segment *seg, struct slice all)
{
    size_t at = seg->start;
    scan->good = seg->generation - 1;
    for (;;) {
        struct logrec rec;
        bool sound =
            logrec_decode(slice_from_index(all, at), &rec) == OK && rec.sequence == scan->good + 1;
        if (!sound && !skip_damage(scan, seg, all, &at, &rec))
            return;
        take_record(scan, &rec, slice_first(slice_from_index(all, at), rec.total), seg->generation);
        scan->last = MAX(scan->last, rec.sequence);
        at = segment_behind(&rec, at);
    }
}

/* Sequences of an unfinished commit after the last sound record must not be given out again. */
static void note_highest(struct spool_scan *scan, struct slice all)
{
    struct logrec rec;
    size_t at = 0;
    while (segment_find(all, at, scan->last, &rec, &at)) {
        scan->last = rec.sequence;
        at += LOGREC_ALIGN;
    }
}

/*
 * A turn takes the oldest segment, of which nothing is needed any more, and never-used ones
 * first. If a crash cuts it off, that segment is left without a sound SEGMENT record, and what
 * can be read of it may be from any of its uses, even one whose FORGET records are overwritten.
 * It is taken for empty, unless its records lead up to the next segment, as they do when only
 * the head of a segment in use has rotted.
 */
static int drop_cut_off_turn(struct spool_scan *scan)
{
    struct found_segment *seg = scan->segments;
    if (scan->nsegments < 2 || seg->generation == 0 || seg->start == 0 || seg->copy)
        return OK;
    size_t size;
    char *data = read_segment(scan, seg->number, &size);
    if (!data)
        return scan->error.code;
    if (segment_last(slice_from(data, size), seg) < seg[1].before)
        seg->generation = 0;
    free(data);
    return OK;
}

static int read_segments(struct spool_scan *scan)
{
    for (size_t i = 0; i < scan->nsegments; i++) {
        struct found_segment *seg = &scan->segments[i];
        if (seg->generation == 0)
            continue;
        seg->promised = MAX(seg->mark, i + 1 < scan->nsegments ? scan->segments[i + 1].before : 0);
        size_t size;
        char *data = read_segment(scan, seg->number, &size);
        if (!data)
            return scan->error.code;
        /* The first one may have been cut off while it was turned. */
        seg->rotten |= seg->copy && i > 0 &&
                       segment_committed((struct slice){data, size}, LOGREC_FIRST_AT,
                           seg->generation) >= seg->generation;
        if (seg->rotten)
            quarantine(scan, seg, (struct slice){data, seg->start}, 0, 0, seg->generation - 1);
        read_records(scan, seg, (struct slice){data, size});
        seg->last = scan->good;
        note_highest(scan, (struct slice){data, size});
        free(data);
    }
    return OK;
}

static int put_mark(struct spool_scan *scan, const struct found_segment *seg)
{
    struct disk *disk = scan->disk;
    char path[SPOOL_PATH];
    struct buf mark;
    spool_log_path(seg->number, path);
    buf_init(&mark, LOGREC_SECTOR);
    logrec_put_mark(&mark, seg->version, seg->generation, seg->last);
    struct slice s = buf_slice(&mark);
    struct iovec iov = {(char *)s.p, s.n};
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    int rc = fd < 0 ? fd : disk->ops->write(disk, fd, &iov, 1, LOGREC_MARK_AT);
    if (rc == 0)
        rc = disk->ops->sync(disk, fd);
    if (fd >= 0)
        disk->ops->close(disk, fd);
    buf_clear(&mark);
    return rc < 0 ? disk_error(&scan->error, rc, "cannot mark a segment of the spool log") : OK;
}

/*
 * What this start believes, later ones must believe as well, or report that it is gone. Where a
 * commit failed and came to light all the same, or was cut off by a crash behind the record that is
 * believed, the next segment's `before` is lower: there the segment's own MARK says it. The newest
 * segment needs none, its next one is about to be begun (spool_open.c).
 */
static int vouch(struct spool_scan *scan)
{
    int rc = OK;
    for (size_t i = 0; i + 1 < scan->nsegments && rc == OK; i++) {
        const struct found_segment *seg = &scan->segments[i];
        if (seg->generation && seg->version > 1 && seg->last > seg->promised)
            rc = put_mark(scan, seg);
    }
    return rc;
}

int spool_scan_remove_log(struct spool_scan *scan)
{
    char path[SPOOL_PATH];
    int rc = 0;
    for (size_t i = 0; i < scan->nsegments && rc == 0; i++) {
        spool_log_path(scan->segments[i].number, path);
        rc = scan->disk->ops->unlink(scan->disk, path);
    }
    return rc == 0 ? scan->disk->ops->sync_dir(scan->disk, "log") : rc;
}

struct spool_scan *spool_scan_run(struct disk *disk, bool read_only,
    const struct spool_found_ops *ops, void *arg, struct error *err)
{
    struct spool_scan *scan = NEW(struct spool_scan);
    scan->disk = disk;
    scan->read_only = read_only;
    scan->ops = ops;
    scan->arg = arg;
    map_init(&scan->live);
    map_init(&scan->parked);
    map_init(&scan->big);
    list_init(&scan->overridden);
    int rc = disk->ops->list(disk, "log", note_segment, scan);
    if (rc < 0)
        rc = disk_error(&scan->error, rc, "cannot list the spool log");
    for (size_t i = 0; i < scan->nsegments && rc == OK; i++)
        rc = look_at(scan, &scan->segments[i]);
    if (rc == OK && scan->nsegments > 0)
        qsort(scan->segments, scan->nsegments, sizeof(*scan->segments), by_generation);
    if (rc == OK)
        rc = drop_cut_off_turn(scan);
    if (rc == OK)
        rc = read_segments(scan);
    if (rc == OK && !read_only)
        rc = vouch(scan);
    if (rc != OK) {
        error_set(err, scan->error.code, "%s", scan->error.text);
        spool_scan_free(scan);
        return NULL;
    }
    return scan;
}

void spool_scan_free(struct spool_scan *scan)
{
    struct slice key;
    void *value;
    size_t pos = 0;
    while (map_next(&scan->live, &pos, &key, &value))
        live_free(value);
    for (pos = 0; map_next(&scan->parked, &pos, &key, &value);)
        free(value);
    LIST_EACH(it, &scan->overridden)
    {
        list_remove(it);
        spool_job_free(LIST_ENTRY(it, struct spool_job, link));
    }
    map_clear(&scan->live);
    map_clear(&scan->parked);
    map_clear(&scan->big);
    free(scan->segments);
    free(scan);
}

void spool_scan_overridden(struct spool_scan *scan, struct list *out)
{
    LIST_EACH(it, &scan->overridden)
    {
        list_remove(it);
        list_append(out, it);
    }
}
