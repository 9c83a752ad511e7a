/* The owner's side of a restore: a people_fn that puts back what it is sent. */
#pragma once

#include "libstore/store.h"

struct backup_target {
    bool whole; /* folders come whole: an empty one gets its numbers back */
    bool own;   /* of the same user: what is his alone (limits, shares, ids of folders) as well */
    /* Of a virtual user, for the register of who shares folders; NULL: not one. */
    const char *mail_root, *mail;
};

/* arg: struct backup_target. When all is done, counts go back through fd: a line "RESTORED KEPT
 * PRESENT", kept: under their old UIDs; present: left alone, since they are there. */
int backup_target(struct store *, const char *name, int fd, void *arg);
