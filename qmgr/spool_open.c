#include <errno.h>
#include <stdlib.h>

#include "qmgr/spool_list.h"

static const char *const directories[] = {"log", "big", "parked", "corrupt"};

static int make_directories(struct disk *disk, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(directories); i++) {
        int rc = disk->ops->make_dir(disk, directories[i]);
        if (rc < 0 && rc != -EEXIST)
            return disk_error(err, rc, "cannot make %s/, a directory of the spool", directories[i]);
    }
    int rc = disk->ops->sync_dir(disk, ".");
    return rc < 0 ? disk_error(err, rc, "cannot sync the spool directory") : OK;
}

static void sync_segment(const char *name, void *arg)
{
    struct disk *disk = arg;
    char path[300];
    snprintf(path, sizeof(path), "log/%s", name);
    int fd = disk->ops->open(disk, path, DISK_READ);
    if (fd < 0)
        return;
    disk->ops->sync(disk, fd);
    disk->ops->close(disk, fd);
}

/* After the process died without the machine, what we read may be in memory only; what is built
 * on it must not become durable first. */
static int settle(struct disk *disk, struct error *err)
{
    disk->ops->list(disk, "log", sync_segment, disk);
    for (size_t i = 0; i < ARRAY_LEN(directories); i++) {
        int rc = disk->ops->sync_dir(disk, directories[i]);
        if (rc < 0)
            return disk_error(err, rc, "cannot sync %s/, a directory of the spool", directories[i]);
    }
    return OK;
}

static void note_any(const char *name, void *arg)
{
    (void)name;
    *(bool *)arg = true;
}

/* What the file `format` says, or, without it, whether it was removed: the list of segments comes
 * behind it. 0: there is none of either. */
static int look_at_format(struct disk *disk, const struct spool_found_ops *ops, void *arg,
    unsigned *format, bool *missing, struct error *err)
{
    int rc = format_read(disk, format, err);
    *missing = rc == OK && *format == 0;
    if (!*missing || !spool_list_used(disk))
        return rc;
    *format = SPOOL_FORMAT;
    ops->trouble("file missing", "format, which names the format of the spool, is missing", arg);
    return OK;
}

/* The format to write. A spool that holds nothing begins with the newest. */
static int choose_format(struct disk *disk, const struct spool_found_ops *ops, void *arg,
    unsigned *format, struct error *err)
{
    bool used = false, missing;
    int rc = look_at_format(disk, ops, arg, format, &missing, err);
    if (rc != OK || !missing)
        return rc;
    if (*format == 0) {
        static const char *const holding[] = {"log", "parked"};
        for (size_t i = 0; i < ARRAY_LEN(holding); i++) {
            rc = disk->ops->list(disk, holding[i], note_any, &used);
            if (rc < 0)
                return disk_error(err, rc, "cannot list %s/", holding[i]);
        }
        *format = used ? SPOOL_FORMAT_OLDEST : SPOOL_FORMAT;
    }
    return used ? OK : format_write(disk, SPOOL_FORMAT, err);
}

static int stamp_blank(
    struct spool_log *log, struct segment *segments, unsigned n, struct error *err)
{
    for (unsigned i = 0; i < n; i++)
        /* One that could not get its size again is reported again, too. */
        if (segments[i].blank && !segments[i].lacks &&
            spool_log_stamp(log, &segments[i], err) != OK)
            return err->code;
    return OK;
}

/* Before any is removed, and the list says so. */
static int prepare_list(struct spool_log *log, struct error *err)
{
    if (log->format > 1) {
        int rc = stamp_blank(log, log->used, log->nused, err);
        return rc == OK ? stamp_blank(log, log->spare, log->nspare, err) : rc;
    }
    int rc = spool_list_empty(log->disk);
    return rc < 0 ? disk_error(err, rc, "cannot write segments, the list of log segments") : OK;
}

/* What the next start has to find. */
static int write_list(struct spool_log *log, struct error *err)
{
    int rc = log->format > 1 ? spool_list_write(log, 0, 0) : 0;
    /* The list as it was is true, and what waits on a full disk has to be worked off. */
    if (rc < 0 && rc != -ENOSPC && rc != -EDQUOT)
        return disk_error(err, rc, "cannot write segments, the list of log segments");
    return OK;
}

/* As many segments as configured, and always one to begin with. */
static int complete_log(struct spool_log *log, struct error *err)
{
    for (unsigned i = 0; i < log->nused; i++)
        spool_log_mend(log, &log->used[i]);
    for (unsigned i = 0; i < log->nspare; i++)
        spool_log_mend(log, &log->spare[i]);
    int rc = prepare_list(log, err);
    if (rc == OK)
        spool_log_release(log, 0);
    while (rc == OK && (log->nused + log->nspare < log->nominal || log->nspare == 0))
        rc = spool_log_add(log, err);
    if (rc == ERR_NO_SPACE && log->nspare > 0)
        rc = OK; /* more were wanted than there is room for: those there are have to do */
    if (rc == OK)
        rc = write_list(log, err);
    return rc == OK ? spool_log_turn(log, false, err) : rc;
}

struct spool *spool_open(struct disk *disk, const struct spool_config *config,
    const struct spool_found_ops *ops, void *arg, struct error *err)
{
    struct spool *spool = NEW(struct spool);
    spool->disk = disk;
    list_init(&spool->chores);
    map_init(&spool->unsettled);
    spool->log = (struct spool_log){.disk = disk,
        .segment_size = config->segment_size,
        .nominal = MAX(config->segments, 3u),
        .fd = -1};
    int rc = make_directories(disk, err);
    if (rc == OK)
        rc = choose_format(disk, ops, arg, &spool->log.format, err);
    if (rc == OK)
        rc = settle(disk, err);
    struct spool_scan *scan = rc == OK ? spool_scan_run(disk, false, ops, arg, err) : NULL;
    if (scan)
        rc = spool_scan_report(scan, &spool->log, err);
    if (scan && rc == OK)
        rc = complete_log(&spool->log, err);
    if (!scan || rc != OK) {
        if (scan)
            spool_scan_free(scan);
        spool_close(spool);
        return NULL;
    }
    struct list none;
    list_init(&none);
    spool_scan_overridden(scan, &spool->chores);
    spool_scan_free(scan);
    spool_run(spool, &none);
    return spool;
}

int spool_peek(struct disk *disk, const struct spool_found_ops *ops, void *arg, struct error *err)
{
    unsigned format;
    bool missing;
    int rc = look_at_format(disk, ops, arg, &format, &missing, err);
    if (rc != OK)
        return rc;
    struct spool_scan *scan = spool_scan_run(disk, true, ops, arg, err);
    if (!scan)
        return err->code;
    rc = spool_scan_report(scan, NULL, err);
    spool_scan_free(scan);
    return rc;
}

struct spool *spool_without_log(struct disk *disk, unsigned format)
{
    struct spool *spool = NEW(struct spool);
    spool->disk = disk;
    list_init(&spool->chores);
    map_init(&spool->unsettled);
    spool->log = (struct spool_log){.disk = disk, .format = format, .fd = -1};
    return spool;
}
