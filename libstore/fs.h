/*
 * Every file operation of the store, by the names and rules of the system calls behind them
 * (-1 and errno), so that the crash tests can put a file system there that loses, tears and
 * reorders what was not synced. Which one is used is decided when a program is linked: a program
 * that defines these functions itself gets none of fs_posix.c. There is no table to go through.
 */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "libutil/base.h"

int fs_open(int dir, const char *path, int flags, mode_t);
/* Sets *fd to -1 and keeps errno. */
void fs_close(int *fd);
/* A second descriptor of the same opening. */
int fs_dup(int fd);
ssize_t fs_read(int fd, void *to, size_t n);
ssize_t fs_pread(int fd, void *to, size_t n, off_t);
ssize_t fs_write(int fd, const void *from, size_t n);
ssize_t fs_pwrite(int fd, const void *from, size_t n, off_t);
int fs_truncate(int fd, off_t);
int fs_fstat(int fd, struct stat *);
/* Its size, and the mount through which it was opened: a number that no other mount gets before the
 * machine stops. 0 where the kernel does not tell; before Linux 6.8 one may come again. */
int fs_measure(int fd, uint64_t *size, uint32_t *mount);
/* Never follows a symbolic link. */
int fs_stat(int dir, const char *path, struct stat *);
int fs_rename(int from_dir, const char *from, int to_dir, const char *to);
int fs_link(int from_dir, const char *from, int to_dir, const char *to);
/* flags as of unlinkat. */
int fs_unlink(int dir, const char *path, int flags);
int fs_mkdir(int dir, const char *path, mode_t);
int fs_sync(int fd);
int fs_data_sync(int fd);
/* Everything on the file system of fd. */
int fs_sync_all(int fd);
/* Read only. NULL and errno. */
void *fs_map(int fd, size_t n);
void fs_unmap(void *, size_t n);
/* The OFD lock of a whole file: never waits (EAGAIN, EACCES); type F_WRLCK or F_UNLCK. */
int fs_lock(int fd, short type);
/* flock; operation as there. */
int fs_flock(int fd, int operation);

/* Reading a directory by its descriptor, which is taken unless this returns NULL. */
struct fs_dir;
struct fs_entry {
    const char *name;   /* until the next call */
    unsigned char type; /* DT_REG, DT_DIR, DT_UNKNOWN, ... */
};
struct fs_dir *fs_dir_open(int fd);
/* False at the end (errno 0) and on an error. */
bool fs_dir_next(struct fs_dir *, struct fs_entry *);
void fs_dir_close(struct fs_dir *);

void fs_sleep_ms(int ms);
/* CLOCK_REALTIME in nanoseconds. */
int64_t fs_now(void);
/* When the machine started, in seconds: differs from the last time when page cache may have
 * been lost meanwhile (or the clock was set, which only costs a few numbers). */
int64_t fs_boot(void);
int fs_random(void *to, size_t n);

static inline uint32_t fs_time(void)
{
    return (uint32_t)(fs_now() / 1000000000);
}
