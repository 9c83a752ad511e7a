/* What a start found in the log and beside it, handed over; parked files override the log. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/log.h"
#include "qmgr/spool_scan.h"

struct parked_name {
    uint64_t qid, size;
    int64_t due;
};

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
            scan_trouble(scan, "foreign file", "%s is not a parked message; left alone", path);
        return;
    }
    int rc = scan->disk->ops->stat(scan->disk, path, &st);
    if (rc == -EINVAL) {
        scan_trouble(scan, "foreign file", "%s is not a plain file; left alone", path);
    } else if (rc == -ENOENT && scan->read_only) {
        return; /* finished since the directory was read: the system is running */
    } else if (rc < 0) {
        disk_error(&scan->error, rc, "cannot look at %s, a parked message", path);
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
    char path[512], aside[512];
    snprintf(path, sizeof(path), "big/%s", name);
    snprintf(aside, sizeof(aside), "corrupt/body-%s", name);
    uint64_t id;
    if (id_parse(slice_of(name), &id) != OK)
        scan_trouble(scan, "foreign file", "%s is not a body of ours; left alone", path);
    else if (map_get(&scan->big, slice_of(name)))
        return;
    else if (scan->damaged && scan->disk->ops->rename(scan->disk, path, aside) == 0)
        scan_trouble(scan, "body without a record",
            "%s may belong to one of the damaged records; moved to %s", path, aside);
    else
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
        const struct found_segment *seg = &scan->segments[i];
        struct segment s = {.number = seg->number,
            .generation = seg->generation,
            .soiled = seg->soiled,
            .stamped = seg->stamped,
            .blank = seg->blank,
            .lacks = seg->lacks};
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
            disk_error(&scan->error, rc, "cannot look at %s, a message body", path);
        /* A park that did not finish may have appended to it. */
        if (scan->error.code || (rc == 0 && st.size >= (int64_t)a->size))
            return true;
    }
    scan_trouble(
        scan, "body missing", "message %s: big/%.*s is missing or cut off", id, SLICE_FMT(a->big));
    return false;
}

static void set_aside_record(struct spool_scan *scan, const struct live *l)
{
    char path[SPOOL_PATH], id[ID_TEXT];
    id_print(l->qid, id);
    snprintf(path, sizeof(path), "corrupt/accept-%s", id);
    scan_set_aside(scan, path, buf_slice(&l->record));
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
        disk_error(&scan->error, rc, "cannot list parked/, the parked messages");
    /* What is built on those files must not become durable before them. */
    rc = rc == 0 && scan->fresh && !scan->read_only ? disk->ops->sync_all(disk) : 0;
    if (rc < 0)
        disk_error(
            &scan->error, rc, "cannot sync the spool, in which parked messages changed lately");
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
