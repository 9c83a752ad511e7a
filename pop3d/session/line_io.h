/* Lines in, replies out, blocking with a time limit. Replies to pipelined commands are written
 * together (RFC 2449 §6.6). */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { LINE_IO_MAX = 65536 };

struct line_io {
    int fd;
    int timeout_ms;
    size_t line_max;
    struct buf in, out;
    uint64_t sent;
};

/* `input` has been read already. fd stays the caller's. */
void line_io_init(struct line_io *, int fd, struct slice input, int timeout_ms, size_t line_max);
void line_io_clear(struct line_io *);
/* The next line without its end, valid until the next call; writes what is pending before it
 * waits. ERR_CLOSED, ERR_TIMEOUT, ERR_LIMIT (line too long), ERR_IO. */
int line_io_read(struct line_io *, struct slice *line) MUST_USE;
/* Appends to the output, writing when much is pending. 0 or as line_io_flush. */
int line_io_put(struct line_io *, struct slice) MUST_USE;
/* ERR_CLOSED, ERR_TIMEOUT. */
int line_io_flush(struct line_io *) MUST_USE;
