#include "libutil/filemark.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/error.h"

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool look(int fd, struct filemark *m)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        return false;
    *m = (struct filemark){.fd = fd,
        .size = (uint64_t)st.st_size,
        .links = st.st_nlink,
        .mtime_ns = nanoseconds(st.st_mtim),
        .ctime_ns = nanoseconds(st.st_ctim)};
    return true;
}

int filemark_take(int dir_fd, const char *name, struct filemark *out, struct error *err)
{
    *out = FILEMARK_NONE;
    int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "%s", name);
    if (look(fd, out))
        return OK;
    fd_close(&fd);
    return error_set(err, ERR_UNSUPPORTED, "%s: not a regular file", name);
}

bool filemark_holds(const struct filemark *m)
{
    struct filemark now;
    return m->fd < 0 || (look(m->fd, &now) && now.size == m->size && now.links == m->links &&
                            now.mtime_ns == m->mtime_ns && now.ctime_ns == m->ctime_ns);
}

void filemark_clear(struct filemark *m)
{
    fd_close(&m->fd);
    *m = FILEMARK_NONE;
}
