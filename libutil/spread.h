/*
 * Where a file system puts directories that belong to different people.
 *
 * ext2 and its successors put a directory beside its parent, and files beside their directory, so
 * that all mailboxes of a domain compete for the inodes of one block group: each new message then
 * searches that group's bitmap, past whatever was removed from it in the last minutes. A directory
 * marked with chattr(1) +T, as /home should be, has its subdirectories spread over all groups.
 */
#pragma once

#include "libutil/base.h"

/* Marks this directory like that. A file system that knows nothing of it is left alone. */
void dir_spread(int fd);
