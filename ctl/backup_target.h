/* The owner's side of a restore: a people_fn that puts back what it is sent. */
#pragma once

#include "libstore/store.h"

struct backup_target {
    bool whole; /* folders come whole: an empty one gets its numbers back */
};

/* arg: struct backup_target. Prints a line with counts. */
int backup_target(struct store *, const char *name, int fd, void *arg);
