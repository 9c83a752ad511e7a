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
#include "qmgr/spool_list.h"

/* SEGMENT_LEAST: no configuration makes smaller ones. */
enum { SEGMENT_READ_MAX = 1 << 30, SEGMENT_LEAST = 16384 };

void scan_trouble(struct spool_scan *scan, const char *what, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    scan->ops->trouble(what, text, scan->arg);
}

/* A segment whose making a crash cut off. */
static void remove_unfinished(struct spool_scan *scan, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "log/%s", name);
    if (!scan->read_only)
        scan->disk->ops->unlink(scan->disk, path);
}

static void note_segment(const char *name, void *arg)
{
    struct spool_scan *scan = arg;
    uint64_t number;
    if (strncmp(name, "new.", 4) == 0) {
        remove_unfinished(scan, name);
        return;
    }
    if (strlen(name) != 5 || slice_u64(slice_of(name), 0, 99999, &number) != OK) {
        scan_trouble(
            scan, "foreign file", "log/%s is not a segment of the spool log; left alone", name);
        return;
    }
    scan->next_number = MAX(scan->next_number, (unsigned)number + 1);
    if (scan->nsegments >= SPOOL_SEGMENTS_MAX)
        return;
    scan->segments = xrealloc(scan->segments, scan->nsegments + 1, sizeof(*scan->segments));
    scan->segments[scan->nsegments++] = (struct found_segment){.number = (unsigned)number};
}

static bool all_zero(struct slice s)
{
    return s.n == 0 || (s.p[0] == '\0' && memcmp(s.p, s.p + 1, s.n - 1) == 0);
}

/* The whole segment, without its stamps. Clear *out. */
static int read_segment(struct spool_scan *scan, struct found_segment *seg, struct sectors *out)
{
    char path[SPOOL_PATH];
    struct disk_stat st;
    *out = (struct sectors){0};
    spool_log_path(seg->number, path);
    int rc = scan->disk->ops->stat(scan->disk, path, &st);
    int fd = rc < 0 ? rc : scan->disk->ops->open(scan->disk, path, DISK_READ);
    if (fd < 0)
        return disk_error(&scan->error, fd, "cannot open %s, a segment of the spool log", path);
    seg->length = st.size;
    size_t size = (size_t)MIN(st.size, SEGMENT_READ_MAX);
    out->data = xcalloc(size + 1, 1);
    ssize_t got = scan->disk->ops->read(scan->disk, fd, out->data, size, 0);
    scan->disk->ops->close(scan->disk, fd);
    if (got < 0) {
        sectors_clear(out);
        return disk_error(
            &scan->error, (int)got, "cannot read %s, a segment of the spool log", path);
    }
    out->n = (size_t)got;
    if (sectors_stamped(slice_from(out->data, out->n)))
        sectors_strip(out);
    return OK;
}

/* A write that was cut off leaves zeros, or sound records of an earlier use. */
static bool is_full(struct slice s)
{
    size_t full = 0;
    for (size_t at = 0; at + SECTOR <= s.n; at += SECTOR)
        full += !all_zero(slice_from(s.p + at, SECTOR));
    return full > 0 && full == s.n / SECTOR;
}

/* Overwritten as a whole, with whatever was in it. */
static void check_strange(
    struct spool_scan *scan, const struct found_segment *seg, const struct sectors *bytes)
{
    struct slice all = {bytes->data, bytes->n};
    char path[SPOOL_PATH];
    struct logrec rec;
    size_t at;
    if (seg->generation != 0 || bytes->stamps || !is_full(all) ||
        segment_find(all, 0, 0, &rec, &at))
        return;
    snprintf(path, sizeof(path), "corrupt/log-%05u-0", seg->number);
    scan_set_aside(scan, path, all);
    scan_trouble(scan, "corrupt records", "log/%05u holds nothing that can be read; copied to %s",
        seg->number, path);
}

/* A segment has its whole size before it gets its name, and never less. What it lacks now may have
 * held records, of which nothing else needs to know. */
static void check_size(struct spool_scan *scan, struct found_segment *seg)
{
    int64_t least = seg->size ? (int64_t)MIN(seg->size, (uint64_t)INT64_MAX) : SEGMENT_LEAST;
    if (seg->length >= least)
        return;
    seg->lacks = least;
    scan->damaged = true;
    scan_trouble(scan, "segment cut off",
        "log/%05u has %" PRId64 " bytes of %s%" PRId64 ": records in it may be lost", seg->number,
        seg->length, seg->size ? "" : "at least ", least);
}

/* Reads the head of one segment: its place in the order. */
static int look_at(struct spool_scan *scan, struct found_segment *seg)
{
    struct sectors bytes;
    struct logrec rec;
    if (read_segment(scan, seg, &bytes) != OK)
        return scan->error.code;
    struct slice all = {bytes.data, bytes.n};
    if (logrec_decode(all, &rec) == ERR_VERSION)
        error_set(&scan->error, ERR_VERSION,
            "log/%05u is of format %u, written by a newer release; this one reads up to %d",
            seg->number, rec.version, LOGREC_VERSION);
    else
        segment_look(seg, all);
    if (!scan->error.code) {
        check_strange(scan, seg, &bytes);
        check_size(scan, seg);
    }
    seg->stamped = bytes.stamps != NULL;
    seg->blank = !bytes.stamps && all_zero(all);
    seg->soiled = bytes.stamps ? sectors_damaged(&bytes, 0, bytes.count) : !all_zero(all);
    sectors_clear(&bytes);
    return scan->error.code;
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

static void quarantine(struct spool_scan *scan, const struct found_segment *seg,
    const struct sectors *bytes, size_t from, size_t end, uint64_t first, uint64_t last)
{
    char path[SPOOL_PATH], where[SPOOL_PATH];
    spool_log_path(seg->number, where);
    snprintf(path, sizeof(path), "corrupt/log-%05u-%" PRIu64, seg->number, first);
    scan->damaged = true;
    scan_set_aside(scan, path, slice_from(bytes->data + from, end - from));
    scan_trouble(scan, "corrupt records",
        "%s at offset %zu: %zu bytes with sequences %" PRIu64 " to %" PRIu64
        " are damaged; copied to %s",
        where, sectors_raw(bytes, from), end - from, first, last, path);
}

/* How far commits are known to have gone. `from`: where the record behind scan->good should be. */
static uint64_t known_to(struct spool_scan *scan, const struct found_segment *seg,
    const struct sectors *bytes, size_t from)
{
    uint64_t known = segment_committed(slice_from(bytes->data, bytes->n), from, scan->good);
    known = MAX(known, seg->promised);
    /* What became of the last commit of all, only its sectors can tell. Elsewhere the next segment
     * does: a commit that failed at the end of this one need not have left old sectors. */
    bool newest = seg == &scan->segments[scan->nsegments - 1];
    if (newest && bytes->stamps)
        known = MAX(known, sectors_claim(bytes, from, seg->generation, scan->good));
    return known;
}

/* Past a bad record at `at`: true with the next one to go on with, false when the log ends. */
static bool skip_damage(struct spool_scan *scan, const struct found_segment *seg,
    const struct sectors *bytes, size_t *at, struct logrec *rec)
{
    size_t from = *at;
    uint64_t known = known_to(scan, seg, bytes, from);
    if (known <= scan->good)
        return false;
    bool more = segment_find(slice_from(bytes->data, bytes->n), from, scan->good, rec, at) &&
                (rec->sequence <= known || rec->committed > scan->good);
    quarantine(scan, seg, bytes, MIN(from, bytes->n), more ? *at : bytes->n, scan->good + 1,
        more ? rec->sequence - 1 : known);
    return more;
}

/* All records of one segment. */
static void read_records(
    struct spool_scan *scan, const struct found_segment *seg, const struct sectors *bytes)
{
    size_t at = seg->start;
    struct slice all = {bytes->data, bytes->n};
    scan->good = seg->generation - 1;
    for (;;) {
        struct logrec rec;
        if (!segment_next(all, seg, scan->good, &at, &rec) &&
            !skip_damage(scan, seg, bytes, &at, &rec))
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
    struct sectors bytes;
    if (scan->nsegments < 2 || seg->generation == 0 || seg->start == 0 || seg->copy)
        return OK;
    if (read_segment(scan, seg, &bytes) != OK)
        return scan->error.code;
    if (segment_last(slice_from(bytes.data, bytes.n), seg) < seg[1].before)
        seg->generation = 0;
    sectors_clear(&bytes);
    return OK;
}

static void read_one(struct spool_scan *scan, size_t i, const struct sectors *bytes)
{
    struct found_segment *seg = &scan->segments[i];
    struct slice all = {bytes->data, bytes->n};
    seg->promised = MAX(seg->mark, i + 1 < scan->nsegments ? scan->segments[i + 1].before : 0);
    /* The first one may have been cut off while it was turned. */
    seg->rotten |=
        seg->copy && i > 0 &&
        segment_committed(all, SECTOR_FIRST * SECTOR_ROOM, seg->generation) >= seg->generation;
    if (seg->rotten)
        quarantine(scan, seg, bytes, 0, seg->start, 0, seg->generation - 1);
    read_records(scan, seg, bytes);
    seg->last = scan->good;
    note_highest(scan, all);
}

static int read_segments(struct spool_scan *scan)
{
    for (size_t i = 0; i < scan->nsegments; i++) {
        struct sectors bytes;
        if (scan->segments[i].generation == 0)
            continue;
        if (read_segment(scan, &scan->segments[i], &bytes) != OK)
            return scan->error.code;
        read_one(scan, i, &bytes);
        sectors_clear(&bytes);
    }
    return OK;
}

static int put_mark(struct spool_scan *scan, const struct found_segment *seg)
{
    struct disk *disk = scan->disk;
    char path[SPOOL_PATH], mark[SECTOR];
    struct iovec iov = {mark, sizeof(mark)};
    spool_log_path(seg->number, path);
    spool_log_put_mark(mark, seg->version, seg->generation, seg->last);
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    int rc = fd < 0 ? fd : disk->ops->write(disk, fd, &iov, 1, SECTOR_MARK * SECTOR);
    if (rc == 0)
        rc = disk->ops->sync(disk, fd);
    if (fd >= 0)
        disk->ops->close(disk, fd);
    return rc < 0 ? disk_error(&scan->error, rc, "cannot mark %s, a segment of the spool log", path)
                  : OK;
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
    int rc = spool_list_empty(scan->disk);
    for (size_t i = 0; i < scan->nsegments && rc == 0; i++) {
        spool_log_path(scan->segments[i].number, path);
        rc = scan->disk->ops->unlink(scan->disk, path);
    }
    if (rc == 0)
        rc = scan->disk->ops->sync_dir(scan->disk, "log");
    return rc == 0 ? spool_list_remove(scan->disk) : rc;
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
        rc = disk_error(&scan->error, rc, "cannot list log/, the spool log");
    for (size_t i = 0; i < scan->nsegments && rc == OK; i++)
        rc = look_at(scan, &scan->segments[i]);
    if (rc == OK)
        rc = spool_list_check(scan);
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
