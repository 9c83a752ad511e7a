/*
 * Inside libstore: whether what a file says can be older than what was once promised.
 *
 * Page cache is lost when the machine stops, or a file system goes away under it: a disk that drops
 * off, a mount that is given up. A file system stays in memory while one of its mounts is there,
 * and the kernel gives no mount the number of another. So files remember the boot time and the
 * mounts through which they were used; a mount that is not among them may be of a file system that
 * was read from the disk again, and counts as a stop of the machine. A mount namespace of its own
 * (containers, services of systemd) costs the same once, and nothing else.
 */
#pragma once

#include "libutil/base.h"

enum { WITNESS_MOUNTS = 4, BOOT_TOLERANCE = 2 /* seconds */ };

/* Part of two formats. */
struct witness {
    int64_t boot;
    uint32_t mounts[WITNESS_MOUNTS]; /* the newest last; 0: none */
};

/* True while nothing can have been lost since. A mount of 0 is not known, and tells nothing. */
bool witness_holds(const struct witness *, uint32_t mount);
void witness_note(struct witness *, int64_t boot, uint32_t mount);
