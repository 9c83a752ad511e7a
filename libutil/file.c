#include "libutil/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 4096 };

int file_read_fd(int fd, const char *path, struct buf *out, struct error *err)
{
    for (;;) {
        char *room = buf_reserve(out, CHUNK);
        if (!room)
            return error_set(err, ERR_LIMIT, "%s is too large", path);
        ssize_t n = read(fd, room, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_sys(err, "cannot read %s", path);
        if (n == 0)
            return OK;
        buf_claim(out, (size_t)n);
    }
}

int file_read(const char *path, struct buf *out, struct error *err)
{
    struct stat st;
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return error_sys(err, "cannot open %s", path);
    if (fstat(fd, &st) != 0)
        rc = error_sys(err, "cannot stat %s", path);
    else if (!S_ISREG(st.st_mode))
        rc = error_set(err, ERR_UNSUPPORTED, "%s is not a regular file", path);
    else
        rc = file_read_fd(fd, path, out, err);
    fd_close(&fd);
    return rc;
}
