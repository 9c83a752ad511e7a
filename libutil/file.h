/* Whole small files, read before the sandbox closes: certificates, keys, trust anchors. */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

/* Appends the content of a regular file to out; ERR_LIMIT past out's maximum. */
int file_read(const char *path, struct buf *out, struct error *) MUST_USE;
