/* A directory of a fuzz target's process. */
#pragma once

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char scratch_path[256];

static int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void scratch_remove(void)
{
    if (nftw(scratch_path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS))
        fprintf(stderr, "%s stays\n", scratch_path);
}

/* Makes it, below TMPDIR or /tmp; at exit it goes with all that is in it. Returns a descriptor. */
static inline int scratch(void)
{
    const char *tmp = getenv("TMPDIR");
    int n =
        snprintf(scratch_path, sizeof(scratch_path), "%s/veredus-fuzz-XXXXXX", tmp ? tmp : "/tmp");
    if ((size_t)n >= sizeof(scratch_path) || !mkdtemp(scratch_path) || atexit(scratch_remove))
        abort();
    int fd = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}
