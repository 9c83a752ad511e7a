/* Whole small files, read before the sandbox closes: certificates, keys, trust anchors. */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

/* Appends the content of a regular file to out; ERR_LIMIT past out's maximum. */
int file_read(const char *path, struct buf *out, struct error *) MUST_USE;
/* What is left of an open one; path is for the error. */
int file_read_fd(int fd, const char *path, struct buf *out, struct error *) MUST_USE;
