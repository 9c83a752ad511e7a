/*
 * A disk in memory that keeps its promises and nothing more (qmgr/disk.h). Until a file is synced
 * every 512-byte sector of it may be old or new after a crash, and so may its length; until a
 * directory is synced, only the first few of its changes may have happened. Any operation may be
 * the last one, or fail.
 */
#pragma once

#include "qmgr/disk.h"

struct simdisk;

/* The same seed gives the same behaviour. */
struct simdisk *simdisk_new(uint64_t seed);
void simdisk_free(struct simdisk *);
struct disk *simdisk_disk(struct simdisk *);
/* Its operations, for a test that puts others in front of some of them. */
const struct disk_ops *simdisk_ops(void);

/* The n-th operation from now and all after it fail with EIO: the machine is dying. */
void simdisk_crash_after(struct simdisk *, uint64_t operations);
bool simdisk_crashed(const struct simdisk *);
/* Operations so far. */
uint64_t simdisk_operations(const struct simdisk *);
/* Power comes back: what was not synced is lost, torn or kept, at random. */
void simdisk_power_on(struct simdisk *);
/* Only the process died: everything written is still there. Descriptors are gone. */
void simdisk_process_on(struct simdisk *);

/* One operation in `one_in` fails with this errno value (0: none fail). */
void simdisk_fail(struct simdisk *, unsigned one_in, int error);
/* A planted bug: syncs of files whose path begins with this do nothing ("log/"), or those of a
 * directory ("dir:parked"). NULL: honest. */
void simdisk_lie(struct simdisk *, const char *path);
/* A planted bug: syncs of these, named as above, happen only behind the next sync of something
 * else, as if they were in the wrong order. NULL: in time. */
void simdisk_late(struct simdisk *, const char *path);
/* A planted bug: writes to files whose path begins with this, of so many bytes at this offset, do
 * nothing. */
void simdisk_lose_writes(struct simdisk *, const char *path, uint64_t offset, size_t size);
/* Flips a bit of a file that exists. False when there is none, or it is empty. */
bool simdisk_flip(struct simdisk *, const char *path, uint64_t offset);
/* A random number from the disk's sequence. */
uint64_t simdisk_random(struct simdisk *);
/* The same in some file, but for those directly in the spool directory, and those in log/ unless
 * wanted. Its path, or NULL. */
const char *simdisk_flip_any(struct simdisk *, bool log, uint64_t random);
/* A sector in some file of this directory ("log") is as it was before it was last synced: the disk
 * had lost the write. The file's path, or NULL. */
const char *simdisk_lose_sector(struct simdisk *, const char *dir, uint64_t random);
/* Flips a bit of what the last sync of a file in this directory wrote. Its path, or NULL. */
const char *simdisk_flip_newest(struct simdisk *, const char *dir, uint64_t random);
