#include "pop3d/session/line_io.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_CHUNK = 4096, WRITE_SIZE = 32768 };

void line_io_init(struct line_io *io, int fd, struct slice input, int timeout_ms, size_t line_max)
{
    *io = (struct line_io){.fd = fd, .timeout_ms = timeout_ms, .line_max = line_max};
    buf_init(&io->in, LINE_IO_MAX);
    buf_init(&io->out, LINE_IO_MAX);
    buf_put(&io->in, input);
}

void line_io_clear(struct line_io *io)
{
    buf_wipe(&io->in);
    buf_clear(&io->out);
}

static int wait_for(const struct line_io *io, short events)
{
    struct pollfd p = {io->fd, events, 0};
    for (;;) {
        int n = poll(&p, 1, io->timeout_ms);
        if (n > 0)
            return OK;
        if (n == 0)
            return ERR_TIMEOUT;
        if (errno != EINTR)
            return ERR_IO;
    }
}

int line_io_flush(struct line_io *io)
{
    int rc = OK;
    while (rc == OK && buf_len(&io->out)) {
        struct slice s = buf_slice(&io->out);
        ssize_t n = send(io->fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            buf_consume(&io->out, (size_t)n);
            io->sent += (uint64_t)n;
        } else if (errno == EAGAIN) {
            rc = wait_for(io, POLLOUT);
        } else if (errno != EINTR) {
            rc = ERR_CLOSED;
        }
    }
    if (rc == OK)
        buf_reset(&io->out);
    return rc;
}

int line_io_put(struct line_io *io, struct slice s)
{
    while (s.n) {
        size_t n = MIN(s.n, LINE_IO_MAX - buf_len(&io->out));
        buf_put(&io->out, slice_first(s, n));
        s = slice_from_index(s, n);
        int rc = buf_len(&io->out) >= WRITE_SIZE ? line_io_flush(io) : OK;
        if (rc)
            return rc;
    }
    return OK;
}

static int fill(struct line_io *io)
{
    int rc = line_io_flush(io);
    if (rc == OK)
        rc = wait_for(io, POLLIN);
    if (rc)
        return rc;
    char *room = buf_reserve(&io->in, READ_CHUNK);
    if (!room)
        return ERR_LIMIT;
    ssize_t n = read(io->fd, room, READ_CHUNK);
    if (n < 0 && errno == EINTR)
        return OK;
    if (n <= 0)
        return ERR_CLOSED;
    buf_claim(&io->in, (size_t)n);
    return OK;
}

int line_io_read(struct line_io *io, struct slice *line)
{
    for (;;) {
        struct slice in = buf_slice(&io->in);
        ptrdiff_t nl = slice_chr(in, '\n');
        if (nl > (ptrdiff_t)io->line_max || (nl < 0 && in.n > io->line_max))
            return ERR_LIMIT;
        if (nl >= 0) {
            *line = slice_first(in, (size_t)nl);
            buf_consume(&io->in, (size_t)nl + 1);
            if (slice_ends(*line, "\r"))
                line->n--;
            return OK;
        }
        int rc = fill(io);
        if (rc)
            return rc;
    }
}
