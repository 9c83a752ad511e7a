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
#include "qmgr/spool_segment.h"

enum { SEGMENT_READ_MAX = 1 << 30 };

struct spool_scan {
    struct disk *disk;
    const struct spool_found_ops *ops;
    void *arg;
    struct found_segment *segments;
    size_t nsegments;
    struct map live;        /* qid -> struct live */
    struct map parked;      /* qid -> struct parked_name */
    struct map big;         /* names under big/ that are needed */
    struct list overridden; /* FORGET jobs for messages in the log that are parked too */
    uint64_t last;          /* highest sequence seen anywhere */
    uint64_t good;          /* last sequence read in order */
    unsigned next_number;
    bool read_only;
    bool fresh; /* a parked file may not be durable as it is read */
    struct error error;
};

struct parked_name {
    uint64_t qid, size;
    int64_t due;
};

static void trouble(struct spool_scan *scan, const char *what, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static void trouble(struct spool_scan *scan, const char *what, const char *fmt, ...)
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
        trouble(scan, "foreign file", "log/%s is not a segment of the spool log; left alone", name);
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
        trouble(scan, "corrupt record", "sequence %" PRIu64 ", message %s: malformed ACCEPT",
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
    trouble(scan, "corrupt record", "sequence %" PRIu64 ", message %s: malformed EXPAND",
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

/* A copy under corrupt/, for people to look at. */
static void set_aside(struct spool_scan *scan, const char *path, struct slice bytes)
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

static void set_aside_record(struct spool_scan *scan, const struct live *l)
{
    char path[SPOOL_PATH], id[ID_TEXT];
    id_print(l->qid, id);
    snprintf(path, sizeof(path), "corrupt/accept-%s", id);
    set_aside(scan, path, buf_slice(&l->record));
}

static void quarantine(struct spool_scan *scan, const struct found_segment *seg, struct slice bytes,
    size_t offset, uint64_t from, uint64_t to)
{
    char path[SPOOL_PATH], where[SPOOL_PATH];
    spool_log_path(seg->number, where);
    snprintf(path, sizeof(path), "corrupt/log-%05u-%" PRIu64, seg->number, from);
    set_aside(scan, path, bytes);
    trouble(scan, "corrupt records",
        "%s at offset %zu: %zu bytes with sequences %" PRIu64 " to %" PRIu64
        " are damaged; copied to %s",
        where, offset, bytes.n, from, to, path);
}

/* Past a bad record at `at`: true with the next one to go on with, false when the log ends. */
static bool skip_damage(struct spool_scan *scan, const struct found_segment *seg, struct slice all,
    uint64_t promised, size_t *at, struct logrec *rec)
{
    size_t from = *at;
    uint64_t known = MAX(promised, segment_committed(all, from, scan->good));
    if (known <= scan->good)
        return false;
    bool more = segment_find(all, from, scan->good, rec, at) &&
                (rec->sequence <= known || rec->committed > scan->good);
    struct slice bytes = slice_from_index(all, from);
    quarantine(scan, seg, more ? slice_first(bytes, *at - from) : bytes, from, scan->good + 1,
        more ? rec->sequence - 1 : known);
    return more;
}

/* All records of one segment. promised: the last sequence known to have been committed here. */
static void read_records(
    struct spool_scan *scan, const struct found_segment *seg, struct slice all, uint64_t promised)
{
    size_t at = seg->start;
    scan->good = seg->generation - 1;
    for (;;) {
        struct logrec rec;
        bool sound =
            logrec_decode(slice_from_index(all, at), &rec) == OK && rec.sequence == scan->good + 1;
        if (!sound && !skip_damage(scan, seg, all, promised, &at, &rec))
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
        uint64_t promised = i + 1 < scan->nsegments ? scan->segments[i + 1].before : 0;
        size_t size;
        char *data = read_segment(scan, seg->number, &size);
        if (!data)
            return scan->error.code;
        promised = MAX(promised, seg->mark);
        /* The first one may have been cut off while it was turned. */
        seg->rotten |= seg->copy && i > 0 &&
                       segment_committed((struct slice){data, size}, LOGREC_FIRST_AT,
                           seg->generation) >= seg->generation;
        if (seg->rotten)
            quarantine(scan, seg, (struct slice){data, seg->start}, 0, 0, seg->generation - 1);
        read_records(scan, seg, (struct slice){data, size}, promised);
        note_highest(scan, (struct slice){data, size});
        free(data);
    }
    return OK;
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

static void note_parked(const char *name, void *arg)
{
    struct spool_scan *scan = arg;
    struct parked_name p;
    struct disk_stat st;
    char path[512];
    snprintf(path, sizeof(path), "parked/%s", name);
    if (!parked_parse_name(name, &p.qid, &p.size)) {
        /* new.QID: a park that a crash cut off; the log still has the message. */
        if (strncmp(name, "new.", 4) != 0)
            trouble(scan, "foreign file", "%s is not a parked message; left alone", path);
        return;
    }
    int rc = scan->disk->ops->stat(scan->disk, path, &st);
    if (rc == -EINVAL) {
        trouble(scan, "foreign file", "%s is not a plain file; left alone", path);
    } else if (rc == -ENOENT && scan->read_only) {
        return; /* finished since the directory was read: the system is running */
    } else if (rc < 0) {
        disk_error(&scan->error, rc, "cannot look at a parked message");
    } else {
        struct parked_name *copy = NEW(struct parked_name);
        *copy = (struct parked_name){p.qid, p.size, st.mtime_ms};
        scan->fresh |= st.fresh;
        free(map_set_id(&scan->parked, p.qid, copy));
    }
}

static void remove_unfinished(const char *name, void *arg)
{
    struct spool_scan *scan = arg;
    char path[512];
    snprintf(path, sizeof(path), "parked/%s", name);
    if (strncmp(name, "new.", 4) == 0)
        scan->disk->ops->unlink(scan->disk, path);
}

static void remove_unneeded(const char *name, void *arg)
{
    struct spool_scan *scan = arg;
    char path[512];
    snprintf(path, sizeof(path), "big/%s", name);
    uint64_t id;
    if (id_parse(slice_of(name), &id) != OK)
        trouble(scan, "foreign file", "%s is not a body of ours; left alone", path);
    else if (!map_get(&scan->big, slice_of(name)))
        scan->disk->ops->unlink(scan->disk, path);
}

static void count_live(struct spool_log *log, uint64_t generation)
{
    for (unsigned i = 0; i < log->nused; i++)
        if (log->used[i].generation == generation)
            log->used[i].live++;
}

/* The ring as it was: used from the oldest segment with something live on, the others spare. */
static void fill_log(struct spool_scan *scan, struct spool_log *log)
{
    log->cap = (unsigned)scan->nsegments + 16;
    log->used = xrealloc(log->used, log->cap, sizeof(*log->used));
    log->spare = xrealloc(log->spare, log->cap, sizeof(*log->spare));
    for (size_t i = 0; i < scan->nsegments; i++) {
        struct segment s = {scan->segments[i].number, scan->segments[i].generation, 0};
        if (s.generation)
            log->used[log->nused++] = s;
        else
            log->spare[log->nspare++] = s;
    }
    log->sequence = scan->last; /* numbers of an unfinished commit are not used again */
    log->committed = scan->good;
    log->next_number = scan->next_number;
}

/* A body that is gone: the message was never acknowledged, or somebody removed the file. */
static bool has_body(struct spool_scan *scan, const struct live *l, const struct logrec_accept *a)
{
    char path[SPOOL_BIG_PATH], name[LOGREC_BIG_NAME], id[ID_TEXT];
    struct disk_stat st;
    if (a->big.n == 0)
        return true;
    id_print(l->qid, id);
    if (slice_to_cstr(a->big, name, sizeof(name)) && !strchr(name, '/')) {
        spool_big_path(name, path);
        map_set(&scan->big, slice_of(name), scan);
        int rc = scan->disk->ops->stat(scan->disk, path, &st);
        if (rc < 0 && rc != -ENOENT && rc != -EINVAL)
            disk_error(&scan->error, rc, "cannot look at a message body");
        /* A park that did not finish may have appended to it. */
        if (scan->error.code || (rc == 0 && st.size >= (int64_t)a->size))
            return true;
    }
    trouble(
        scan, "body missing", "message %s: big/%.*s is missing or cut off", id, SLICE_FMT(a->big));
    return false;
}

static void report_live(struct spool_scan *scan, struct spool_log *log)
{
    struct slice key;
    void *value;
    for (size_t pos = 0; !scan->error.code && map_next(&scan->live, &pos, &key, &value);) {
        struct live *l = value;
        struct buf added;
        live_join(l, &added);
        struct spool_found found = {.qid = l->qid,
            .record = l->record,
            .added = buf_slice(&added),
            .done = l->done,
            .ndone = l->ndone,
            .generation = l->generation};
        struct logrec rec;
        bool parked = map_get_id(&scan->parked, l->qid) != NULL;
        bool usable = !parked && logrec_decode(buf_slice(&l->record), &rec) == OK &&
                      logrec_get_accept(rec.payload, rec.version, &found.accept) == OK &&
                      has_body(scan, l, &found.accept);
        if (!usable) {
            /* Nor may it come back: a body that is missing now could turn up again later. */
            if (log)
                list_append(&scan->overridden, &spool_forget_job(l->qid)->link);
            if (!parked)
                set_aside_record(scan, l);
            buf_clear(&added);
            continue;
        }
        if (log)
            count_live(log, l->generation);
        scan->ops->message(&found, scan->arg);
        l->record = found.record;
        buf_clear(&added);
    }
}

int spool_scan_report(struct spool_scan *scan, struct spool_log *log, struct error *err)
{
    struct disk *disk = scan->disk;
    struct slice key;
    void *value;
    int rc = disk->ops->list(disk, "parked", note_parked, scan);
    if (rc < 0)
        disk_error(&scan->error, rc, "cannot list parked messages");
    /* What is built on those files must not become durable before them. */
    rc = rc == 0 && scan->fresh && !scan->read_only ? disk->ops->sync_all(disk) : 0;
    if (rc < 0)
        disk_error(&scan->error, rc, "cannot sync parked messages");
    if (scan->error.code)
        return error_set(err, scan->error.code, "%s", scan->error.text);
    if (log)
        fill_log(scan, log);
    report_live(scan, log);
    if (scan->error.code)
        return error_set(err, scan->error.code, "%s", scan->error.text);
    for (size_t pos = 0; map_next(&scan->parked, &pos, &key, &value);) {
        struct parked_name *p = value;
        scan->ops->parked(p->qid, p->size, p->due, scan->arg);
    }
    if (scan->read_only)
        return OK;
    disk->ops->list(disk, "parked", remove_unfinished, scan);
    disk->ops->list(disk, "big", remove_unneeded, scan);
    return OK;
}
