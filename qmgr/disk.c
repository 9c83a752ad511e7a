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

static int copy_bytes(struct disk *disk, int in, int out, uint64_t from, uint64_t to)
{
    char chunk[4096];
    int rc = 0;
    for (uint64_t at = from; rc == 0 && at < to;) {
        size_t n = (size_t)MIN(to - at, (uint64_t)sizeof(chunk));
        ssize_t got = disk->ops->read(disk, in, chunk, n, (int64_t)at);
        if (got <= 0)
            return got < 0 ? (int)got : -EIO;
        struct iovec iov = {chunk, (size_t)got};
        rc = disk->ops->write(disk, out, &iov, 1, (int64_t)(at - from));
        at += (uint64_t)got;
    }
    return rc;
}

int disk_copy_part(
    struct disk *disk, const char *path, uint64_t from, uint64_t to, const char *copy)
{
    int in = disk->ops->open(disk, path, DISK_READ);
    if (in < 0)
        return in;
    int out = disk->ops->open(disk, copy, DISK_CREATE);
    int rc = out < 0 ? out : copy_bytes(disk, in, out, from, to);
    if (rc == 0)
        rc = disk->ops->sync(disk, out);
    if (out >= 0)
        disk->ops->close(disk, out);
    disk->ops->close(disk, in);
    return rc;
}
