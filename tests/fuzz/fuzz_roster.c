/* Parked files of many recipients, read a portion at a time, and segments of the log as a start
 * looks at them: what nothing but a disk ever says. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "qmgr/roster.h"
#include "qmgr/spool_segment.h"
#include "tests/crash/simdisk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PORTION = 3 };

static const struct roster_choice waiting = {.what = ROSTER_WAITING};

/* What the roster counts is what can be loaded. */
static void portions(struct message *m, struct roster *r, struct disk *disk)
{
    struct error err;
    size_t total = roster_total(r), seen = 0;
    if (roster_open_count(r) > total)
        abort();
    (void)roster_next(r);
    roster_hurry(r);
    if (roster_load(m, r, &waiting, PORTION, disk, &err) != OK) {
        if (m->content)
            abort();
        return;
    }
    if (m->content->count > PORTION)
        abort();
    struct content *copy;
    for (size_t from = 0; (copy = roster_peek(m, &waiting, &from, PORTION, disk, &err));) {
        size_t n = copy->count;
        content_free(copy);
        if ((seen += n) > total)
            abort();
        if (n == 0)
            break;
    }
    roster_free(roster_unload(m));
}

static void as_parked(struct slice s)
{
    struct simdisk *sim = simdisk_new(1);
    struct disk *disk = simdisk_disk(sim);
    struct iovec iov = {(char *)(uintptr_t)s.p, s.n};
    struct error err;
    char path[PARKED_NAME];
    struct message *m = message_new(1, 6);
    m->parked = true;
    parked_path(1, 6, path);
    int fd = disk->ops->open(disk, path, DISK_CREATE);
    disk->ops->write(disk, fd, &iov, 1, 0);
    disk->ops->close(disk, fd);
    struct roster *r = roster_read(m, disk, &err);
    if (r)
        portions(m, r, disk);
    message_free(m);
    simdisk_free(sim);
}

static void as_segment(struct slice s)
{
    struct sectors bytes = {.data = xmemdup0(s.p, s.n), .n = s.n};
    struct found_segment seg = {.number = 1};
    if (sectors_stamped(s))
        sectors_strip(&bytes);
    struct slice all = {bytes.data, bytes.n};
    segment_look(&seg, all);
    (void)segment_last(all, &seg);
    (void)segment_committed(all, seg.start, seg.generation);
    if (bytes.stamps && sectors_claim(&bytes, seg.start, seg.generation, seg.generation) > 0 &&
        bytes.count == 0)
        abort();
    sectors_clear(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s = {(const char *)data, size};
    if (size == 0)
        return 0;
    as_parked(s);
    as_segment(s);
    return 0;
}
