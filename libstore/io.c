#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libstore/private.h"

int io_write(int fd, struct slice s, int64_t offset, struct error *err, const char *what)
{
    while (s.n) {
        ssize_t n = offset < 0 ? write(fd, s.p, s.n) : pwrite(fd, s.p, s.n, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EFBIG)
            errno = ENOSPC;
        if (n < 0)
            return error_sys(err, "writing %s", what);
        s = slice_from_index(s, (size_t)n);
        if (offset >= 0)
            offset += n;
    }
    return OK;
}

int io_read(int fd, void *out, size_t n, uint64_t offset, struct error *err)
{
    for (char *p = out; n;) {
        ssize_t got = pread(fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_sys(err, "reading");
        if (got == 0)
            return error_set(err, ERR_CORRUPT, "file is shorter than it should be");
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return OK;
}

int io_replace(int dirfd, const char *name, struct slice content, struct error *err)
{
    char tmp[64];
    snprintf(tmp, sizeof(tmp), "%s.new", name);
    int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_sys(err, "creating %s", tmp);
    int rc = io_write(fd, content, -1, err, tmp);
    if (!rc && fdatasync(fd))
        rc = error_sys(err, "syncing %s", tmp);
    fd_close(&fd);
    if (!rc && renameat(dirfd, tmp, dirfd, name))
        rc = error_sys(err, "renaming %s", tmp);
    if (rc)
        unlinkat(dirfd, tmp, 0);
    return rc;
}

int io_slurp(int dirfd, const char *name, struct buf *out, struct error *err)
{
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), rc = OK;
    if (fd < 0)
        return error_sys(err, "opening %s", name);
    for (;;) {
        char *room = buf_reserve(out, 16384);
        if (!room) {
            rc = error_set(err, ERR_LIMIT, "%s is too long", name);
            break;
        }
        ssize_t n = read(fd, room, 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = error_sys(err, "reading %s", name);
        if (n <= 0)
            break;
        buf_claim(out, (size_t)n);
    }
    fd_close(&fd);
    return rc;
}

/* When the machine started, in seconds: differs from the last time exactly when page cache may
 * have been lost meanwhile (or the clock was set, which only costs a few numbers). */
int64_t io_boot(void)
{
    struct timespec real, up;
    clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_BOOTTIME, &up);
    return real.tv_sec - up.tv_sec;
}
