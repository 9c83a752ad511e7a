/*
 * The client's end of a session: lines and literals in, responses out, on a blocking stream
 * socket. Output is gathered and leaves when the client is waited for, or when much of it is
 * there. Time-outs are in ms.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum {
    IO_OUT_MAX = 64 << 20,   /* most that one response may gather */
    IO_OUT_FLUSH = 64 << 10, /* leaves at the next io_pace */
    IO_WRITE_TIMEOUT = 300000
};

struct io {
    int fd;
    int also;       /* a second descriptor to wake for while waiting, or -1 */
    struct buf in;  /* read, not yet taken */
    struct buf out; /* gathered */
    uint64_t received, sent;
    int error; /* the connection is dead: an error_code */
    /* Or NULL. Called while the client is silent: does a little of what was put off, and returns
     * whether there is more. */
    bool (*rest)(void *arg);
    void *rest_arg;
};

/* fd stays the caller's. `input` are bytes the client sent before. */
void io_init(struct io *, int fd, struct slice input);
void io_clear(struct io *);

/* Takes a line of at most max bytes into *line (without its CRLF or LF), valid until the next
 * io call. Gathered output is sent before waiting. ERR_TIMEOUT; ERR_LIMIT: longer, and a part of
 * it was dropped: call io_skip_line; ERR_CLOSED, ERR_IO: dead. */
int io_line(struct io *, size_t max, int timeout, struct slice *line);
/* Drops bytes up to the next line end. */
int io_skip_line(struct io *, int timeout);
/* Takes between 1 and max bytes, valid until the next io call. */
int io_some(struct io *, size_t max, int timeout, struct slice *bytes);
/* Waits for more input, which is read, or for `also`. OK: something came; ERR_TIMEOUT;
 * ERR_LIMIT: much input without a line end. */
int io_wait_more(struct io *, int timeout);
/* Whether a whole line is there already. */
bool io_has_line(const struct io *);

/* Sends all that was gathered. */
int io_flush(struct io *);
/* Sends when IO_OUT_FLUSH was reached: to be called between responses. */
int io_pace(struct io *);
/* Gathers, or sends large bytes straight from where they are. */
int io_put_large(struct io *, struct slice);
