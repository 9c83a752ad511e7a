/*
 * Files of a user, below an open directory (his home). We are that user by now, so this does not
 * guard other users' files from us: it guards the user against what others could make us read,
 * write or wait for. No symbolic link is followed anywhere, nothing leaves the directory, and
 * nothing that is not a regular file is opened for long.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

/* Opens with openat2(2); the mode is for files made by O_CREAT. */
int userfile_open(int dir, const char *path, int flags, int *fd, struct error *) MUST_USE;
/* The part of an absolute path below home, or NULL when it is not below it. */
const char *userfile_below(const char *home, const char *path);
/* Appends the content of a file that may command us: regular, owned by the user or root, not
 * writable for group or others, no larger than out's maximum. ERR_NOT_FOUND when there is none. */
int userfile_read(int dir, const char *path, struct buf *out, struct error *) MUST_USE;
/* The directory itself: owned by the user or root, not writable for others. */
int userfile_check_home(int dir, struct error *) MUST_USE;
