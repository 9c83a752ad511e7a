#include "qmgr/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FRESH_SECONDS = 600 };

struct disk_posix {
    struct disk disk;
    int dir;
    uid_t owner; /* of that directory, and of all that qmgr makes in it */
};

static int dir_of(struct disk *d)
{
    return CONTAINER_OF(d, struct disk_posix, disk)->dir;
}

static int result(int rc)
{
    return rc < 0 ? -errno : rc;
}

static int posix_open(struct disk *d, const char *path, enum disk_open how)
{
    static const int flags[] = {
        [DISK_READ] = O_RDONLY,
        [DISK_WRITE] = O_RDWR,
        [DISK_CREATE] = O_RDWR | O_CREAT | O_EXCL,
        [DISK_DIRECT] = O_RDWR | O_DIRECT,
    };
    int fd = openat(dir_of(d), path, flags[how] | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EINVAL && how == DISK_DIRECT)
        return posix_open(d, path, DISK_WRITE); /* not on this file system */
    return result(fd);
}

static void posix_close(struct disk *d, int fd)
{
    (void)d;
    fd_close(&fd);
}

static ssize_t posix_read(struct disk *d, int fd, void *to, size_t n, int64_t offset)
{
    (void)d;
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(fd, (char *)to + got, n - got, offset + (int64_t)got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

/* A disk may want more than multiples of DISK_SECTOR, and a write may have stopped between two:
 * then through the cache, as any other file. */
static bool gave_up_direct(int fd)
{
    int flags = errno == EINVAL ? fcntl(fd, F_GETFL) : 0;
    return flags > 0 && (flags & O_DIRECT) && fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

/* The rest of one vector after a short write. */
static int write_rest(int fd, const char *p, size_t n, int64_t offset)
{
    while (n > 0) {
        ssize_t w = pwrite(fd, p, n, offset);
        if (w < 0 && (errno == EINTR || gave_up_direct(fd)))
            continue;
        if (w < 0)
            return -errno;
        p += w;
        n -= (size_t)w;
        offset += w;
    }
    return 0;
}

static int write_some(int fd, const struct iovec *iov, int n, int64_t *offset)
{
    ssize_t w = pwritev(fd, iov, n, *offset);
    if (w < 0 && errno != EINTR && !gave_up_direct(fd))
        return -errno;
    size_t done = w < 0 ? 0 : (size_t)w;
    for (int i = 0; i < n; i++) {
        size_t skip = MIN(done, iov[i].iov_len);
        done -= skip;
        int rc = write_rest(fd, (const char *)iov[i].iov_base + skip, iov[i].iov_len - skip,
            *offset + (int64_t)skip);
        if (rc < 0)
            return rc;
        *offset += (int64_t)iov[i].iov_len;
    }
    return 0;
}

static int posix_write(struct disk *d, int fd, const struct iovec *iov, int n, int64_t offset)
{
    (void)d;
    int rc = 0;
    for (int at = 0; at < n && rc == 0; at += IOV_MAX)
        rc = write_some(fd, iov + at, MIN(n - at, IOV_MAX), &offset);
    return rc;
}

static int write_zeros(struct disk *d, int fd, int64_t from, int64_t to)
{
    enum { STEP = 1024 * 1024, PAGE = 4096 };
    char *zeros = xaligned(PAGE, STEP);
    int flags = fcntl(fd, F_GETFL), rc = 0;
    memset(zeros, 0, STEP);
    (void)fcntl(fd, F_SETFL, flags | O_DIRECT); /* where that works: they need no cache */
    for (int64_t at = from; rc == 0 && at < to; at += STEP) {
        struct iovec iov = {zeros, (size_t)MIN(to - at, (int64_t)STEP)};
        rc = posix_write(d, fd, &iov, 1, at);
    }
    (void)fcntl(fd, F_SETFL, flags);
    free(zeros);
    return rc;
}

static int posix_allocate(struct disk *d, int fd, int64_t size)
{
    struct stat s;
    int rc = result(fstat(fd, &s));
    if (rc == 0)
        rc = -posix_fallocate(fd, 0, size); /* whether there is room shows before all the work */
    return rc == 0 ? write_zeros(d, fd, s.st_size, size) : rc;
}

static int posix_truncate(struct disk *d, int fd, int64_t size)
{
    (void)d;
    return result(ftruncate(fd, size));
}

static void posix_begin_sync(struct disk *d, int fd)
{
    (void)d;
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* errors show in the sync */
}

static int posix_sync(struct disk *d, int fd)
{
    (void)d;
    return result(fdatasync(fd));
}

static int posix_sync_dir(struct disk *d, const char *path)
{
    int fd = openat(dir_of(d), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = result(fsync(fd));
    fd_close(&fd);
    return rc;
}

static int posix_sync_all(struct disk *d)
{
    return result(syncfs(dir_of(d)));
}

static int posix_rename(struct disk *d, const char *from, const char *to)
{
    return result(renameat(dir_of(d), from, dir_of(d), to));
}

static int posix_link(struct disk *d, const char *from, const char *to)
{
    return result(linkat(dir_of(d), from, dir_of(d), to, 0));
}

static int posix_unlink(struct disk *d, const char *path)
{
    return result(unlinkat(dir_of(d), path, 0));
}

static int posix_make_dir(struct disk *d, const char *path)
{
    return result(mkdirat(dir_of(d), path, 0700));
}

static int posix_list(struct disk *d, const char *path, disk_name_fn *fn, void *arg)
{
    int fd = openat(dir_of(d), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int rc = -errno;
        fd_close(&fd);
        return rc;
    }
    errno = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL; errno = 0)
        if (e->d_name[0] != '.')
            fn(e->d_name, arg);
    int rc = -errno;
    closedir(dir);
    return rc;
}

/* Kernels write back what nobody syncs within a minute; a clock that was set makes it longer. */
static bool is_fresh(time_t changed)
{
    time_t now = time(NULL);
    return changed > now - FRESH_SECONDS || changed > now;
}

static int posix_stat(struct disk *d, const char *path, struct disk_stat *st)
{
    struct stat s;
    if (fstatat(dir_of(d), path, &s, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISREG(s.st_mode))
        return -EINVAL;
    st->size = s.st_size;
    st->fresh = is_fresh(s.st_ctim.tv_sec);
    st->foreign = s.st_uid != CONTAINER_OF(d, struct disk_posix, disk)->owner ||
                  (s.st_mode & (S_IRUSR | S_IWUSR)) != (S_IRUSR | S_IWUSR);
    st->mtime_ms = (int64_t)s.st_mtim.tv_sec * 1000 + s.st_mtim.tv_nsec / 1000000;
    return 0;
}

static int posix_set_mtime(struct disk *d, int fd, int64_t ms)
{
    (void)d;
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    struct timespec both[2] = {{.tv_nsec = UTIME_OMIT}, t};
    return result(futimens(fd, both));
}

static int posix_no_writer(struct disk *d, int fd)
{
    (void)d;
    /* A read lease is granted only while the file is open for writing nowhere (fcntl(2)). */
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return -errno;
    return result(fcntl(fd, F_SETLEASE, F_UNLCK));
}

static const struct disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .allocate = posix_allocate,
    .truncate = posix_truncate,
    .begin_sync = posix_begin_sync,
    .sync = posix_sync,
    .sync_dir = posix_sync_dir,
    .sync_all = posix_sync_all,
    .rename = posix_rename,
    .link = posix_link,
    .unlink = posix_unlink,
    .make_dir = posix_make_dir,
    .list = posix_list,
    .stat = posix_stat,
    .set_mtime = posix_set_mtime,
    .no_writer = posix_no_writer,
};

struct disk *disk_posix_read_only(int dir_fd)
{
    struct disk_posix *d = NEW(struct disk_posix);
    d->disk.ops = &posix_ops;
    d->dir = dir_fd;
    struct stat s;
    d->owner = fstat(dir_fd, &s) == 0 ? s.st_uid : geteuid();
    return &d->disk;
}

struct disk *disk_posix_new(int dir_fd, const char *shown_path, struct error *err)
{
    struct stat s;
    if (fstat(dir_fd, &s) < 0) {
        error_sys(err, "spool directory %s", shown_path);
        return NULL;
    }
    if (!S_ISDIR(s.st_mode) || s.st_uid != geteuid()) {
        error_set(err, ERR_DENIED,
            "spool directory %s must be a directory owned by uid %u, it belongs to uid %u",
            shown_path, (unsigned)geteuid(), (unsigned)s.st_uid);
        return NULL;
    }
    if (faccessat(dir_fd, ".", W_OK | X_OK, AT_EACCESS) < 0) {
        error_sys(err, "spool directory %s is not writable", shown_path);
        return NULL;
    }
    return disk_posix_read_only(dir_fd);
}

void disk_posix_free(struct disk *d)
{
    struct disk_posix *p = CONTAINER_OF(d, struct disk_posix, disk);
    fd_close(&p->dir);
    free(p);
}
