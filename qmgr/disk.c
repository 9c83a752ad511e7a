#include "qmgr/disk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "libutil/crc32c.h"

int disk_error(struct error *err, int code, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    errno = -code;
    return error_sys(err, "%s", what);
}

int body_crc(struct disk *disk, int fd, uint64_t size, uint32_t *crc)
{
    enum { CHUNK = 256 * 1024 };
    char *chunk = xcalloc(1, (size_t)MIN(size, (uint64_t)CHUNK) + 1);
    ssize_t got = 0;
    *crc = 0;
    for (uint64_t at = 0; got >= 0 && at < size; at += (uint64_t)got) {
        got =
            disk->ops->read(disk, fd, chunk, (size_t)MIN(size - at, (uint64_t)CHUNK), (int64_t)at);
        if (got == 0)
            got = -EIO;
        if (got > 0)
            *crc = crc32c(*crc, slice_from(chunk, (size_t)got));
    }
    free(chunk);
    return got < 0 ? (int)got : 0;
}

int disk_replace(struct disk *disk, const char *path, struct slice content)
{
    char fresh[64];
    struct iovec iov = {(char *)(uintptr_t)content.p, content.n};
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    disk->ops->unlink(disk, fresh);
    int fd = disk->ops->open(disk, fresh, DISK_CREATE);
    int rc = fd < 0 ? fd : disk->ops->write(disk, fd, &iov, 1, 0);
    if (rc == 0)
        rc = disk->ops->sync(disk, fd);
    if (fd >= 0)
        disk->ops->close(disk, fd);
    if (rc == 0)
        rc = disk->ops->rename(disk, fresh, path);
    return rc == 0 ? disk->ops->sync_dir(disk, ".") : rc;
}
