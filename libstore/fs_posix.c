/* The real file system. */
#include "libstore/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

int fs_open(int dir, const char *path, int flags, mode_t mode)
{
    return openat(dir, path, flags | O_CLOEXEC, mode);
}

void fs_close(int *fd)
{
    fd_close(fd);
}

int fs_dup(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

ssize_t fs_read(int fd, void *to, size_t n)
{
    return read(fd, to, n);
}

ssize_t fs_pread(int fd, void *to, size_t n, off_t offset)
{
    return pread(fd, to, n, offset);
}

ssize_t fs_write(int fd, const void *from, size_t n)
{
    return write(fd, from, n);
}

ssize_t fs_pwrite(int fd, const void *from, size_t n, off_t offset)
{
    return pwrite(fd, from, n, offset);
}

int fs_truncate(int fd, off_t size)
{
    return ftruncate(fd, size);
}

int fs_fstat(int fd, struct stat *st)
{
    return fstat(fd, st);
}

/* Of <linux/stat.h>, where it is new enough. */
enum { MOUNT_UNIQUE = 0x4000 };

int fs_measure(int fd, uint64_t *size, uint32_t *mount)
{
    struct statx st;
    int rc = statx(fd, "", AT_EMPTY_PATH, STATX_SIZE | STATX_MNT_ID | MOUNT_UNIQUE, &st);
    *size = rc ? 0 : st.stx_size;
    /* The unique ones are counted from 2^31 on. */
    *mount = rc || !(st.stx_mask & (STATX_MNT_ID | MOUNT_UNIQUE)) ? 0 : (uint32_t)st.stx_mnt_id;
    return rc;
}

int fs_stat(int dir, const char *path, struct stat *st)
{
    return fstatat(dir, path, st, AT_SYMLINK_NOFOLLOW);
}

int fs_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameat(from_dir, from, to_dir, to);
}

int fs_link(int from_dir, const char *from, int to_dir, const char *to)
{
    return linkat(from_dir, from, to_dir, to, 0);
}

int fs_unlink(int dir, const char *path, int flags)
{
    return unlinkat(dir, path, flags);
}

int fs_mkdir(int dir, const char *path, mode_t mode)
{
    return mkdirat(dir, path, mode);
}

int fs_sync(int fd)
{
    return fsync(fd);
}

int fs_data_sync(int fd)
{
    return fdatasync(fd);
}

int fs_sync_all(int fd)
{
    return syncfs(fd);
}

void *fs_map(int fd, size_t n)
{
    void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

void fs_unmap(void *map, size_t n)
{
    if (map)
        munmap(map, n);
}

int fs_lock(int fd, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

int fs_flock(int fd, int operation)
{
    return flock(fd, operation);
}

/* struct fs_dir is only ever a DIR behind this name. */
struct fs_dir *fs_dir_open(int fd)
{
    return (struct fs_dir *)(fd < 0 ? NULL : fdopendir(fd));
}

bool fs_dir_next(struct fs_dir *d, struct fs_entry *e)
{
    errno = 0;
    const struct dirent *entry = readdir((DIR *)d);
    if (!entry)
        return false;
    *e = (struct fs_entry){entry->d_name, entry->d_type};
    return true;
}

void fs_dir_close(struct fs_dir *d)
{
    if (d)
        closedir((DIR *)d);
}

void fs_sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t fs_now(void)
{
    return clock_ns(CLOCK_REALTIME);
}

int64_t fs_boot(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000000000 - clock_ns(CLOCK_BOOTTIME) / 1000000000;
}

int fs_random(void *to, size_t n)
{
    return getrandom(to, n, 0) == (ssize_t)n ? 0 : -1;
}
