#include "libstore/userfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int userfile_open(int dir, const char *path, int flags, int *fd, struct error *err)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),
        .mode = flags & O_CREAT ? 0600 : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    *fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
    if (*fd >= 0)
        return OK;
    if (errno == ELOOP || errno == EXDEV) /* as their usual texts do not tell */
        return error_set(err, ERR_IO,
            "the way to a file of the user has a symbolic link, or leads out of the home");
    return error_sys(err, "a file of the user");
}

const char *userfile_below(const char *home, const char *path)
{
    size_t n = strlen(home);
    while (n > 1 && home[n - 1] == '/')
        n--;
    if (strncmp(home, path, n) != 0 || path[n] != '/')
        return NULL;
    for (path += n; *path == '/';)
        path++;
    return *path ? path : NULL;
}

static bool is_trusted(const struct stat *st, mode_t forbidden)
{
    return (st->st_uid == geteuid() || st->st_uid == 0) && (st->st_mode & forbidden) == 0;
}

static int read_all(int fd, struct buf *out, struct error *err)
{
    for (;;) {
        char *room = buf_reserve(out, 4096);
        if (!room) {
            buf_reset(out);
            return error_set(err, ERR_LIMIT, "a file of the user is too large");
        }
        ssize_t n = read(fd, room, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_sys(err, "a file of the user");
        if (n == 0)
            return OK;
        buf_claim(out, (size_t)n);
    }
}

int userfile_read(int dir, const char *path, struct buf *out, struct error *err)
{
    struct stat st;
    int fd, rc = userfile_open(dir, path, O_RDONLY, &fd, err);
    if (rc)
        return rc;
    if (fstat(fd, &st))
        rc = error_sys(err, "a file of the user");
    else if (!S_ISREG(st.st_mode))
        rc = error_set(err, ERR_DENIED, "a file of the user is not a regular file");
    else if (!is_trusted(&st, 022))
        rc = error_set(err, ERR_DENIED,
            "a file of the user has another owner, or is writable for group or others");
    else
        rc = read_all(fd, out, err);
    fd_close(&fd);
    return rc;
}

int userfile_check_home(int dir, struct error *err)
{
    struct stat st;
    if (fstat(dir, &st))
        return error_sys(err, "home directory");
    return is_trusted(&st, 02) ? OK
                               : error_set(err, ERR_DENIED,
                                     "the home directory has another owner, or is "
                                     "writable for all, so its .forward is not followed");
}
