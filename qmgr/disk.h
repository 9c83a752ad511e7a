/*
 * Every file operation of the spool, behind one small table, so that the crash tests can put a
 * disk there that loses, tears and reorders what was not synced.
 *
 * Paths are relative to the spool directory. All functions return 0 (or a count, or a
 * descriptor) or a negative errno value. They may be called from several threads at once.
 */
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include "libutil/error.h"
#include "libutil/slice.h"

struct disk;

struct disk_stat {
    int64_t size;
    int64_t mtime_ms;
    bool fresh;   /* changed so lately that it may not be durable although nobody works on it */
    bool foreign; /* the spool's account may not read and write it: another owner, or its mode */
};

enum disk_open {
    DISK_READ,
    DISK_WRITE,
    DISK_CREATE, /* must not exist; read and write */
    /* Read and write; past the system's cache where memory, length and place of a write are
     * multiples of DISK_SECTOR: nobody is going to read that soon. */
    DISK_DIRECT
};
enum { DISK_SECTOR = 512 };

typedef void disk_name_fn(const char *name, void *arg);

struct disk_ops {
    int (*open)(struct disk *, const char *path, enum disk_open how);
    void (*close)(struct disk *, int fd);
    ssize_t (*read)(struct disk *, int fd, void *to, size_t n, int64_t offset);
    /* Writes everything or fails. */
    int (*write)(struct disk *, int fd, const struct iovec *, int n, int64_t offset);
    /* Extends the file to size bytes with zeros that are really written, so that a later write
     * there changes nothing but content, and its sync has nothing else to wait for. */
    int (*allocate)(struct disk *, int fd, int64_t size);
    int (*truncate)(struct disk *, int fd, int64_t size);
    /* A hint: the disk may begin with what the sync of this file is going to wait for. */
    void (*begin_sync)(struct disk *, int fd);
    /* The file's content (and what is needed to read it) is durable. */
    int (*sync)(struct disk *, int fd);
    /* The names in this directory are durable. */
    int (*sync_dir)(struct disk *, const char *path);
    /* Everything written so far by whomever is durable. */
    int (*sync_all)(struct disk *);
    int (*rename)(struct disk *, const char *from, const char *to);
    int (*link)(struct disk *, const char *from, const char *to);
    int (*unlink)(struct disk *, const char *path);
    int (*make_dir)(struct disk *, const char *path);
    int (*list)(struct disk *, const char *path, disk_name_fn *, void *arg);
    int (*stat)(struct disk *, const char *path, struct disk_stat *);
    int (*set_mtime)(struct disk *, int fd, int64_t ms);
    /* Proof that no descriptor of this file is open for writing anywhere: -EAGAIN otherwise.
     * fd must be open for reading only. */
    int (*no_writer)(struct disk *, int fd);
};

struct disk {
    const struct disk_ops *ops;
};

/* The real one, on a directory descriptor (taken). NULL when the directory is missing, not ours
 * or not writable; err says which, and the remedy. */
struct disk *disk_posix_new(int dir_fd, const char *shown_path, struct error *) MUST_USE;
/* For looking only: whoever it belongs to. Takes dir_fd. */
struct disk *disk_posix_read_only(int dir_fd) MUST_USE;
void disk_posix_free(struct disk *);

/* A small file has this content instead of what it had; durable when it returns 0. After a failure
 * it may have either. Made as PATH.new, in the spool directory itself. */
int disk_replace(struct disk *, const char *path, struct slice content) MUST_USE;

/* Copies these bytes of a file into a new one, durably. Negative errno; -EEXIST: it is there. */
int disk_copy_part(
    struct disk *, const char *path, uint64_t from, uint64_t to, const char *copy) MUST_USE;

/* CRC32C of the first size bytes of an open file. Negative errno; -EIO when it is shorter. */
int body_crc(struct disk *, int fd, uint64_t size, uint32_t *crc) MUST_USE;

/* ERR_NO_SPACE for ENOSPC and EDQUOT, else ERR_IO, with a text; code is a negative errno. */
int disk_error(struct error *, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
