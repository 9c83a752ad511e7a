#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libstore/private.h"

int io_write(int fd, struct slice s, int64_t offset, struct error *err, const char *what)
{
    while (s.n) {
        ssize_t n = offset < 0 ? fs_write(fd, s.p, s.n) : fs_pwrite(fd, s.p, s.n, offset);
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
        ssize_t got = fs_pread(fd, p, n, (off_t)offset);
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

static int replace(int dirfd, const char *name, struct slice content, bool sync, struct error *err)
{
    char tmp[64];
    snprintf(tmp, sizeof(tmp), "%s.new", name);
    int fd = fs_open(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "creating %s", tmp);
    int rc = io_write(fd, content, -1, err, tmp);
    if (!rc && sync && fs_data_sync(fd))
        rc = error_sys(err, "syncing %s", tmp);
    fs_close(&fd);
    if (!rc && fs_rename(dirfd, tmp, dirfd, name))
        rc = error_sys(err, "renaming %s", tmp);
    if (rc)
        fs_unlink(dirfd, tmp, 0);
    return rc;
}

int io_replace(int dirfd, const char *name, struct slice content, struct error *err)
{
    return replace(dirfd, name, content, true, err);
}

int io_replace_lazy(int dirfd, const char *name, struct slice content, struct error *err)
{
    return replace(dirfd, name, content, false, err);
}

struct fs_dir *io_walk(int fd)
{
    int walk = fd < 0 ? -1 : fs_dup(fd);
    struct fs_dir *dir = walk < 0 ? NULL : fs_dir_open(walk);
    if (!dir)
        fs_close(&walk);
    return dir;
}

int io_drain(int fd, const char *name, struct buf *out, struct error *err)
{
    for (;;) {
        char *room = buf_reserve(out, 16384);
        if (!room)
            return error_set(err, ERR_LIMIT, "%s is too long", name);
        ssize_t n = fs_read(fd, room, 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_sys(err, "reading %s", name);
        if (n == 0)
            return OK;
        buf_claim(out, (size_t)n);
    }
}

int io_slurp(int dirfd, const char *name, struct buf *out, struct error *err)
{
    int fd = fs_open(dirfd, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return error_sys(err, "opening %s", name);
    int rc = io_drain(fd, name, out, err);
    fs_close(&fd);
    return rc;
}
