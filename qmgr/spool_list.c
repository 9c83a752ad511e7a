#include "qmgr/spool_list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/crc32c.h"

static const char path[] = "segments", title[] = "veredus spool segments";

/* A line for each, and some more. */
enum { LIST_MAX = 8 * (SPOOL_SEGMENTS_MAX + 64) };

/* The file as it is; empty when there is none. Negative errno. */
static int read_list(struct disk *disk, struct buf *out)
{
    buf_init(out, LIST_MAX);
    int fd = disk->ops->open(disk, path, DISK_READ);
    if (fd < 0)
        return fd;
    ssize_t got = disk->ops->read(disk, fd, buf_reserve(out, LIST_MAX), LIST_MAX, 0);
    disk->ops->close(disk, fd);
    if (got < 0)
        return (int)got;
    buf_claim(out, (size_t)got);
    return 0;
}

static void put_end(struct buf *b)
{
    uint32_t crc = crc32c(0, buf_slice(b));
    buf_printf(b, "end crc=%08" PRIx32 "\n", crc);
}

/* The lines that name segments. False: it is not as it was written. */
static bool open_list(struct slice text, struct slice *lines)
{
    char end[32];
    ptrdiff_t at = slice_find(text, SLICE_LIT("end crc="));
    if (at < 0)
        return false;
    *lines = slice_first(text, (size_t)at);
    snprintf(end, sizeof(end), "end crc=%08" PRIx32 "\n", crc32c(0, *lines));
    return slice_is(slice_from_index(text, (size_t)at), end) &&
           slice_is(slice_cut(lines, '\n'), title);
}

/* For people, and for those who look later, also where nothing is left to be copied. */
static void report_lost(struct spool_scan *scan, unsigned number, const char *how)
{
    char text[256], aside[SPOOL_PATH];
    snprintf(aside, sizeof(aside), "corrupt/log-%05u-lost", number);
    int n = snprintf(text, sizeof(text),
        "log/%05u, a segment of the spool log, %s: messages in it are lost, if it was in use",
        number, how);
    scan->damaged = true;
    scan_set_aside(scan, aside, slice_from(text, (size_t)n));
    scan_trouble(scan, "segment lost", "%s", text);
}

static void check_segment(struct spool_scan *scan, unsigned number)
{
    for (size_t i = 0; i < scan->nsegments; i++) {
        const struct found_segment *seg = &scan->segments[i];
        if (seg->number != number)
            continue;
        if (seg->blank && !seg->lacks)
            report_lost(scan, number, "holds nothing but zeros");
        return;
    }
    report_lost(scan, number, "is missing");
}

static void check_all(struct spool_scan *scan, struct slice lines)
{
    uint64_t number;
    while (lines.n > 0)
        if (slice_u64(slice_cut(&lines, '\n'), 0, 99999, &number) == OK)
            check_segment(scan, (unsigned)number);
}

/* The first segment is used only when there is a list. */
static void check_absence(struct spool_scan *scan)
{
    for (size_t i = 0; i < scan->nsegments; i++)
        if (scan->segments[i].generation && scan->segments[i].version > 1) {
            scan_trouble(scan, "file missing",
                "%s, the list of the spool log's segments, is missing: whether one of them is "
                "missing, too, cannot be told",
                path);
            return;
        }
}

int spool_list_check(struct spool_scan *scan)
{
    struct buf text;
    struct slice lines;
    int rc = read_list(scan->disk, &text);
    if (rc == -ENOENT) {
        check_absence(scan);
        rc = 0;
    } else if (rc == 0 && open_list(buf_slice(&text), &lines)) {
        check_all(scan, lines);
    } else if (rc == 0) {
        scan_set_aside(scan, "corrupt/segments", buf_slice(&text));
        scan_trouble(scan, "file damaged",
            "%s, the list of the spool log's segments, cannot be understood: whether one of them "
            "is missing cannot be told; copied to corrupt/segments",
            path);
    }
    buf_clear(&text);
    return rc < 0 ? disk_error(&scan->error, rc,
                        "cannot read %s, the list of the spool log's segments", path)
                  : OK;
}

bool spool_list_used(struct disk *disk)
{
    struct buf text;
    struct slice lines;
    bool used = read_list(disk, &text) == 0 && open_list(buf_slice(&text), &lines) && lines.n > 0;
    buf_clear(&text);
    return used;
}

static int by_number(const void *a, const void *b)
{
    const unsigned *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void put_segments(const struct spool_log *log, unsigned from, unsigned but, struct buf *out)
{
    unsigned n = 0, *numbers = xcalloc(log->nused + log->nspare + 1, sizeof(*numbers));
    for (unsigned i = 0; i < log->nused; i++)
        numbers[n++] = log->used[i].number;
    for (unsigned i = 0; i < log->nspare; i++)
        if (i < from || i - from >= but)
            numbers[n++] = log->spare[i].number;
    qsort(numbers, n, sizeof(*numbers), by_number);
    buf_printf(out, "%s\n", title);
    for (unsigned i = 0; i < n; i++)
        buf_printf(out, "%05u\n", numbers[i]);
    put_end(out);
    free(numbers);
}

int spool_list_write(struct spool_log *log, unsigned from, unsigned but)
{
    struct buf now, wanted;
    buf_init(&wanted, LIST_MAX);
    put_segments(log, from, but, &wanted);
    int rc = read_list(log->disk, &now);
    /* A list that could not be written may be there, and not be durable. */
    if (rc < 0 || log->list_unsure || !slice_eq(buf_slice(&now), buf_slice(&wanted)))
        rc = disk_replace(log->disk, path, buf_slice(&wanted));
    log->list_unsure = rc < 0;
    buf_clear(&now);
    buf_clear(&wanted);
    return rc;
}

int spool_list_empty(struct disk *disk)
{
    struct buf text;
    struct disk_stat st;
    int rc = disk->ops->stat(disk, path, &st);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    buf_init(&text, LIST_MAX);
    buf_printf(&text, "%s\n", title);
    put_end(&text);
    rc = disk_replace(disk, path, buf_slice(&text));
    buf_clear(&text);
    return rc;
}

int spool_list_remove(struct disk *disk)
{
    int rc = disk->ops->unlink(disk, path);
    if (rc == -ENOENT)
        return 0;
    return rc == 0 ? disk->ops->sync_dir(disk, ".") : rc;
}
