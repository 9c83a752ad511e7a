/*
 * Whether a file is still what it was, for processes that may not read it: a descriptor that was
 * opened with O_PATH, which gives no access, and what fstat said. A file that is written to or cut,
 * and one that is removed or replaced by rename, no longer is. Its name must not be a symbolic
 * link.
 */
#pragma once

#include "libutil/error.h"
#include "libutil/field.h"

struct filemark {
    int fd; /* -1: nothing that could change */
    uint64_t size, links;
    int64_t mtime_ns, ctime_ns;
};

/* The same in a message; the descriptor travels with it. */
#define FILEMARK_FIELDS(F, S) \
    F(S, U64, size, 0) F(S, U64, links, 0) F(S, I64, mtime, 0) F(S, I64, ctime, 0)

#define FILEMARK_VALUES(m) \
    .size = (m)->size, .links = (m)->links, .mtime = (m)->mtime_ns, .ctime = (m)->ctime_ns
#define FILEMARK_OF(msg, descriptor)       \
    ((struct filemark){.fd = (descriptor), \
        .size = (msg)->size,               \
        .links = (msg)->links,             \
        .mtime_ns = (msg)->mtime,          \
        .ctime_ns = (msg)->ctime})

#define FILEMARK_NONE ((struct filemark){.fd = -1})

/* Takes the name in this directory. ERR_UNSUPPORTED for what is no regular file. */
int filemark_take(int dir_fd, const char *name, struct filemark *out, struct error *) MUST_USE;
bool filemark_holds(const struct filemark *);
void filemark_clear(struct filemark *);
