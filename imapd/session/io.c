#include "imapd/session/io.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    IN_MAX = 160 << 10,
    CHUNK = 32 << 10,
    LARGE = 16 << 10,
    /* ms of silence */
    REST_AFTER = 200,
    TRIM_AFTER = 2000
};

void io_init(struct io *io, int fd, struct slice input)
{
    *io = (struct io){.fd = fd, .also = -1, .received = input.n};
    buf_init(&io->in, IN_MAX);
    buf_init(&io->out, IO_OUT_MAX);
    buf_put(&io->in, input);
}

void io_clear(struct io *io)
{
    buf_wipe(&io->in);
    buf_clear(&io->out);
}

static int dead(struct io *io, int code)
{
    if (!io->error)
        io->error = code;
    return io->error;
}

/* Waits for an event on the client's descriptor, and with `also` for input there. */
static int wait_for(struct io *io, short events, bool also, int timeout)
{
    struct pollfd p[2] = {{.fd = io->fd, .events = events}, {.fd = io->also, .events = POLLIN}};
    int n;
    do
        n = poll(p, also && io->also >= 0 ? 2 : 1, timeout);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return dead(io, ERR_IO);
    return n == 0 ? ERR_TIMEOUT : OK;
}

/* A client that says nothing costs little: there may be thousands of them. */
static void give_back_memory(struct io *io)
{
    if (buf_len(&io->in) == 0)
        buf_clear(&io->in);
    if (buf_len(&io->out) == 0)
        buf_clear(&io->out);
    malloc_trim(0);
}

/* Of milliseconds to wait, where less than 0 has no end. */
static int no_longer(int timeout, int ms)
{
    return timeout < 0 ? ms : MIN(timeout, ms);
}

static int less(int timeout, int ms)
{
    return timeout < 0 ? timeout : timeout - ms;
}

/* Waits for input, and with `also` for input there. First for a short while; then what was left
 * for later is done, a piece at a time; and when nothing comes for longer, memory is given back. */
static int wait_for_input(struct io *io, bool also, int timeout)
{
    int first = no_longer(timeout, REST_AFTER);
    int rc = wait_for(io, POLLIN, also, first);
    if (rc != ERR_TIMEOUT || first == timeout)
        return rc;
    while (io->rest && io->rest(io->rest_arg))
        if ((rc = wait_for(io, POLLIN, also, 0)) != ERR_TIMEOUT)
            return rc;
    timeout = less(timeout, first);
    int second = no_longer(timeout, TRIM_AFTER - REST_AFTER);
    rc = wait_for(io, POLLIN, also, second);
    if (rc != ERR_TIMEOUT || second == timeout)
        return rc;
    give_back_memory(io);
    return wait_for(io, POLLIN, also, less(timeout, second));
}

/* Sends the slices whole. */
static int send_all(struct io *io, struct iovec *v, size_t n)
{
    while (!io->error) {
        while (n > 0 && v->iov_len == 0) {
            v++;
            n--;
        }
        if (n == 0)
            return OK;
        struct msghdr msg = {.msg_iov = v, .msg_iovlen = n};
        ssize_t w = sendmsg(io->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (wait_for(io, POLLOUT, false, IO_WRITE_TIMEOUT) == ERR_TIMEOUT)
                dead(io, ERR_TIMEOUT);
            continue;
        }
        if (w < 0 && errno != EINTR)
            dead(io, errno == EPIPE || errno == ECONNRESET ? ERR_CLOSED : ERR_IO);
        for (size_t left = w > 0 ? (size_t)w : 0; left > 0;) {
            size_t part = MIN(left, v->iov_len);
            v->iov_base = (char *)v->iov_base + part;
            v->iov_len -= part;
            left -= part;
            io->sent += part;
            if (v->iov_len == 0)
                v++, n--;
        }
    }
    return io->error;
}

static int send_with(struct io *io, struct slice more)
{
    struct slice out = buf_slice(&io->out);
    struct iovec v[2] = {{(void *)(uintptr_t)out.p, out.n}, {(void *)(uintptr_t)more.p, more.n}};
    if (io->out.failed)
        return dead(io, ERR_LIMIT);
    int rc = send_all(io, v, 2);
    if (io->out.cap > 4 * IO_OUT_FLUSH)
        buf_clear(&io->out);
    else
        buf_reset(&io->out);
    return rc;
}

int io_flush(struct io *io)
{
    return send_with(io, (struct slice){NULL, 0});
}

int io_pace(struct io *io)
{
    return buf_len(&io->out) >= IO_OUT_FLUSH ? io_flush(io) : io->error;
}

int io_put_large(struct io *io, struct slice s)
{
    if (s.n >= LARGE)
        return send_with(io, s);
    return buf_put(&io->out, s);
}

/* Reads what is there now. */
static int take_input(struct io *io)
{
    char *room = buf_reserve(&io->in, CHUNK);
    if (!room) {
        io->in.failed = false;
        return ERR_LIMIT;
    }
    struct iovec v = {room, CHUNK};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};
    ssize_t n = recvmsg(io->fd, &msg, MSG_DONTWAIT);
    if (n > 0) {
        buf_claim(&io->in, (size_t)n);
        io->received += (uint64_t)n;
        return OK;
    }
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return OK;
    return dead(io, n == 0 || errno == ECONNRESET ? ERR_CLOSED : ERR_IO);
}

/* Waits for input up to timeout and reads it. */
static int fill(struct io *io, int timeout)
{
    int rc = io_flush(io);
    if (rc == OK)
        rc = wait_for_input(io, false, timeout);
    return rc ? rc : take_input(io);
}

int io_wait_more(struct io *io, int timeout)
{
    int rc = io_flush(io);
    if (rc == OK)
        rc = wait_for_input(io, true, timeout);
    return rc ? rc : take_input(io);
}

bool io_has_line(const struct io *io)
{
    return slice_chr(buf_slice(&io->in), '\n') >= 0;
}

int io_line(struct io *io, size_t max, int timeout, struct slice *line)
{
    size_t seen = 0;
    for (;;) {
        struct slice in = buf_slice(&io->in);
        ptrdiff_t at = slice_chr(slice_from_index(in, seen), '\n');
        size_t n = at < 0 ? in.n : seen + (size_t)at;
        if (n > max + 1) {
            if (at < 0)
                buf_consume(&io->in, in.n);
            return ERR_LIMIT;
        }
        if (at >= 0) {
            buf_consume(&io->in, n + 1);
            *line = slice_first(in, n > 0 && in.p[n - 1] == '\r' ? n - 1 : n);
            return OK;
        }
        seen = in.n;
        int rc = fill(io, timeout);
        if (rc)
            return rc;
    }
}

int io_skip_line(struct io *io, int timeout)
{
    for (;;) {
        struct slice in = buf_slice(&io->in);
        ptrdiff_t at = slice_chr(in, '\n');
        buf_consume(&io->in, at < 0 ? in.n : (size_t)at + 1);
        if (at >= 0)
            return OK;
        int rc = fill(io, timeout);
        if (rc)
            return rc;
    }
}

int io_some(struct io *io, size_t max, int timeout, struct slice *bytes)
{
    while (buf_len(&io->in) == 0) {
        int rc = fill(io, timeout);
        if (rc)
            return rc;
    }
    *bytes = slice_first(buf_slice(&io->in), max);
    buf_consume(&io->in, bytes->n);
    return OK;
}
