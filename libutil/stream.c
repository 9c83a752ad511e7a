#include "libutil/stream_private.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_CHUNK = 16384,
    READ_ROUNDS = 4,    /* chunks for one stream before others get their turn */
    LINGER_MAX = 65536, /* unread input dropped before closing */
    DEFAULT_WRITE_MS = 300000
};

/* --- the plain transport ------------------------------------------------------------------- */

static enum transfer sys_failure(struct stream *s, const char *what)
{
    if (errno == EAGAIN || errno == EINTR)
        return TRANSFER_WANT_READ;
    error_sys(&s->error, "%s", what);
    s->error.code = ERR_IO;
    return TRANSFER_FAILED;
}

static enum transfer plain_read(struct stream *s, char *into, size_t room, size_t *n)
{
    ssize_t got = read(s->fd, into, room);
    if (got < 0)
        return sys_failure(s, "read");
    *n = (size_t)got;
    return got == 0 ? TRANSFER_EOF : TRANSFER_DONE;
}

static enum transfer plain_write(struct stream *s, struct slice from, size_t *n)
{
    struct iovec iov = {(void *)(uintptr_t)from.p, from.n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t put = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
    if (put < 0) {
        enum transfer why = sys_failure(s, "write");
        return why == TRANSFER_WANT_READ ? TRANSFER_WANT_WRITE : why;
    }
    *n = (size_t)put;
    return TRANSFER_DONE;
}

static const struct stream_transport plain_transport = {.read = plain_read, .write = plain_write};

/* --- output -------------------------------------------------------------------------------- */

static void fail(struct stream *s, int code, const char *reason)
{
    if (s->state >= STREAM_CLOSING)
        return;
    error_set(&s->error, code, "%s", reason);
    s->state = STREAM_CLOSING;
}

/* The transport has set s->error. */
static void fail_transport(struct stream *s)
{
    if (s->state < STREAM_CLOSING)
        s->state = STREAM_CLOSING;
}

static void all_written(struct stream *s)
{
    buf_clear(&s->out);
    timer_stop(&s->write_timer);
    s->blocked = s->write_wants_read = false;
    s->drain_due = s->ops->on_drain != NULL;
}

static void write_out(struct stream *s)
{
    s->flush_due = false;
    if (s->out.failed) {
        fail(s, ERR_LIMIT, "too much output is pending");
        return;
    }
    if (!buf_len(&s->out))
        return;
    s->write_wants_read = false;
    while (buf_len(&s->out)) {
        size_t n = 0;
        enum transfer result = s->transport->write(s, buf_slice(&s->out), &n);
        if (result == TRANSFER_DONE) {
            buf_consume(&s->out, n);
            timer_stop(&s->write_timer);
            continue;
        }
        if (result == TRANSFER_FAILED || result == TRANSFER_EOF) {
            fail_transport(s);
            return;
        }
        s->blocked = true;
        s->write_wants_read = result == TRANSFER_WANT_READ;
        if (s->write_ms && !timer_active(&s->write_timer))
            timer_start(&s->write_timer, s->write_ms);
        return;
    }
    all_written(s);
}

/* --- input --------------------------------------------------------------------------------- */

static size_t room_in(const struct stream *s)
{
    return s->in.max - buf_len(&s->in);
}

static bool may_read(const struct stream *s)
{
    return s->state == STREAM_OPEN && !s->paused && !s->eof && room_in(s) > 0;
}

static void restart_read_timer(struct stream *s)
{
    if (s->read_ms)
        timer_start(&s->read_timer, s->read_ms);
    else
        timer_stop(&s->read_timer);
}

/* Reads one chunk; true when another may follow. */
static bool read_chunk(struct stream *s)
{
    char chunk[READ_CHUNK] __attribute__((uninitialized));
    size_t want = MIN(sizeof(chunk), room_in(s));
    size_t n = 0;
    switch (s->transport->read(s, chunk, want, &n)) {
    case TRANSFER_DONE:
        buf_put(&s->in, slice_from(chunk, n));
        s->data_due = true;
        restart_read_timer(s);
        /* Plain sockets announce what is left; TLS may hold a decrypted record. */
        s->more = s->tls || n == want;
        return s->more;
    case TRANSFER_WANT_READ:
        break;
    case TRANSFER_WANT_WRITE:
        s->read_wants_write = true;
        break;
    case TRANSFER_EOF:
        s->eof = true;
        break;
    case TRANSFER_FAILED:
        fail_transport(s);
        break;
    }
    s->more = false;
    return false;
}

static void read_in(struct stream *s)
{
    s->read_wants_write = false;
    for (int i = 0; i < READ_ROUNDS && may_read(s); i++)
        if (!read_chunk(s))
            break;
}

/* Hands unread input to the owner, who may free the stream. */
static void offer_data(struct stream *s)
{
    s->data_due = false;
    if (!buf_len(&s->in))
        return;
    s->ops->on_data(s, s->arg);
    if (!s->freed && !buf_len(&s->in))
        buf_wipe(&s->in); /* an idle connection holds no buffer; it may have held a password */
}

/* --- the states ---------------------------------------------------------------------------- */

static void on_io(int fd, unsigned events, void *arg);

static void stop_all(struct stream *s)
{
    io_free(s->io);
    s->io = NULL;
    timer_stop(&s->read_timer);
    timer_stop(&s->write_timer);
    if (s->transport->free)
        s->transport->free(s);
    else if (s->tls_transport)
        s->tls_transport->free(s);
    s->tls = NULL;
    s->transport = &plain_transport;
    s->tls_transport = NULL;
    fd_close(&s->fd);
}

/* Drops what the peer sent and nobody will read: closing over unread input would reset the
 * connection and take our last reply with it. */
static void drop_unread(struct stream *s)
{
    char waste[4096];
    for (size_t total = 0; total < LINGER_MAX; total += sizeof(waste))
        if (read(s->fd, waste, sizeof(waste)) <= 0)
            return;
}

static bool step_open(struct stream *s)
{
    if (s->data_due && !s->paused) {
        offer_data(s);
        return true;
    }
    if (s->flush_due) {
        write_out(s);
        return true;
    }
    if (s->eof && !s->paused && !buf_len(&s->out)) {
        fail(s, ERR_CLOSED, "the peer closed the connection");
        return true;
    }
    if (s->drain_due && !buf_len(&s->out)) {
        s->drain_due = false;
        s->ops->on_drain(s, s->arg);
        return !s->freed && s->state != STREAM_OPEN;
    }
    return false;
}

static bool step_before_tls(struct stream *s)
{
    write_out(s);
    if (s->state != STREAM_BEFORE_TLS || buf_len(&s->out))
        return s->state != STREAM_BEFORE_TLS;
    s->drain_due = false;
    s->state = STREAM_HANDSHAKE;
    s->transport = s->tls_transport;
    s->handshake_wants = TRANSFER_DONE;
    if (s->write_ms)
        timer_start(&s->write_timer, s->write_ms);
    return true;
}

static bool step_handshake(struct stream *s)
{
    if (s->handshake_wants != TRANSFER_DONE)
        return false;
    enum transfer result = s->transport->handshake(s);
    switch (result) {
    case TRANSFER_WANT_READ:
    case TRANSFER_WANT_WRITE:
        s->handshake_wants = result;
        return false;
    case TRANSFER_DONE:
        timer_stop(&s->write_timer);
        restart_read_timer(s);
        s->state = STREAM_OPEN;
        s->more = true;
        if (s->ops->on_tls)
            s->ops->on_tls(s, NULL, s->arg);
        return true;
    case TRANSFER_EOF:
        error_set(&s->error, ERR_CLOSED, "the peer closed the connection during the handshake");
        break;
    case TRANSFER_FAILED:
        break;
    }
    s->state = STREAM_CLOSING;
    if (s->ops->on_tls)
        s->ops->on_tls(s, &s->error, s->arg);
    return true;
}

static bool step_finishing(struct stream *s)
{
    write_out(s);
    if (s->state != STREAM_FINISHING)
        return true;
    if (buf_len(&s->out))
        return false;
    if (s->transport->shutdown)
        s->transport->shutdown(s);
    drop_unread(s);
    fail(s, ERR_CLOSED, "finished");
    return true;
}

static bool step_closing(struct stream *s)
{
    s->state = STREAM_CLOSED;
    struct error why = s->error;
    stop_all(s);
    s->ops->on_close(s, &why, s->arg);
    return false;
}

static bool step_closed(struct stream *s)
{
    (void)s;
    return false;
}

static bool (*const steps[])(struct stream *) = {
    [STREAM_OPEN] = step_open,
    [STREAM_BEFORE_TLS] = step_before_tls,
    [STREAM_HANDSHAKE] = step_handshake,
    [STREAM_FINISHING] = step_finishing,
    [STREAM_CLOSING] = step_closing,
    [STREAM_CLOSED] = step_closed,
};

static void deferred(void *arg);

static void queue(struct stream *s)
{
    if (s->queued || s->freed || s->state == STREAM_CLOSED)
        return;
    s->queued = true;
    loop_defer(s->loop, deferred, s);
}

static unsigned wanted_events(const struct stream *s)
{
    unsigned want = 0;
    switch (s->state) {
    case STREAM_HANDSHAKE:
        return s->handshake_wants == TRANSFER_WANT_WRITE ? IO_WRITE : IO_READ;
    case STREAM_OPEN:
        if (may_read(s))
            want = s->read_wants_write ? IO_WRITE : IO_READ;
        break;
    case STREAM_BEFORE_TLS:
    case STREAM_FINISHING:
        break;
    case STREAM_CLOSING:
    case STREAM_CLOSED:
        return 0;
    }
    if (s->blocked && buf_len(&s->out))
        want |= s->write_wants_read ? IO_READ : IO_WRITE;
    return want;
}

static void enter(struct stream *s)
{
    s->depth++;
}

static void leave(struct stream *s)
{
    while (!s->freed && steps[s->state](s))
        continue;
    s->depth--;
    if (s->freed) {
        if (s->depth == 0)
            free(s);
        return;
    }
    if (s->state == STREAM_CLOSED)
        return;
    if (s->flush_due || (s->more && may_read(s)))
        queue(s);
    unsigned want = wanted_events(s);
    if (s->state == STREAM_OPEN && !s->eof && !s->unwelcome)
        want |= s->interest & IO_READ;
    if (want != s->interest) {
        s->interest = want;
        io_set(s->io, want);
    }
}

static void on_io(int fd, unsigned events, void *arg)
{
    (void)fd;
    struct stream *s = arg;
    enter(s);
    /* Most pauses end before the peer sends more: interest in reading is only taken back when
     * it does. */
    s->unwelcome = s->state == STREAM_OPEN && (events & IO_READ) && !may_read(s);
    if (s->state == STREAM_HANDSHAKE)
        s->handshake_wants = TRANSFER_DONE;
    else if (s->state == STREAM_OPEN && s->blocked)
        write_out(s);
    if (may_read(s))
        read_in(s);
    leave(s);
}

/* Also the place where calls made by the owner outside callbacks take effect. */
static void deferred(void *arg)
{
    struct stream *s = arg;
    s->queued = false;
    enter(s);
    if (s->more && may_read(s))
        read_in(s);
    leave(s);
}

static void on_read_timeout(void *arg)
{
    struct stream *s = arg;
    if (s->state == STREAM_OPEN && (s->paused || !room_in(s))) {
        restart_read_timer(s); /* it is we who do not read */
        return;
    }
    enter(s);
    fail(s, ERR_TIMEOUT, "nothing was received in time");
    leave(s);
}

static void on_write_timeout(void *arg)
{
    struct stream *s = arg;
    enter(s);
    if (s->state == STREAM_HANDSHAKE)
        fail(s, ERR_TIMEOUT, "the TLS handshake took too long");
    else
        fail(s, ERR_TIMEOUT, "the peer does not take our output");
    leave(s);
}

/* --- what owners call ---------------------------------------------------------------------- */

struct stream *stream_new(struct loop *loop, int fd, size_t max_in, size_t max_out,
    const struct stream_ops *ops, void *arg)
{
    struct stream *s = NEW(struct stream);
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    /* Flushes are whole batches already: waiting for more (RFC 896) only adds delay. Not every
     * stream is TCP. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    s->loop = loop;
    s->fd = fd;
    s->ops = ops;
    s->arg = arg;
    s->transport = &plain_transport;
    s->write_ms = DEFAULT_WRITE_MS;
    buf_init(&s->in, max_in);
    buf_init(&s->out, max_out);
    timer_init(&s->read_timer, loop, on_read_timeout, s);
    timer_init(&s->write_timer, loop, on_write_timeout, s);
    s->interest = IO_READ;
    s->io = io_new(loop, fd, IO_READ, on_io, s);
    return s;
}

void stream_free(struct stream *s)
{
    if (!s || s->freed)
        return;
    if (s->queued)
        loop_cancel(s->loop, s);
    stop_all(s);
    buf_wipe(&s->in);
    buf_wipe(&s->out);
    s->freed = true;
    if (s->depth == 0)
        free(s);
}

struct buf *stream_in(struct stream *s)
{
    /* The owner may consume outside a callback, and nobody would tell us. */
    if (s->depth == 0 && !room_in(s))
        queue(s);
    return &s->in;
}

struct buf *stream_out(struct stream *s)
{
    return &s->out;
}

void stream_flush(struct stream *s)
{
    if (s->state != STREAM_OPEN)
        return;
    if (s->depth) {
        s->flush_due = true; /* once, after the callback: replies to a batch leave together */
        return;
    }
    write_out(s);
    if (s->blocked || s->drain_due || s->state != STREAM_OPEN)
        queue(s);
}

void stream_finish(struct stream *s)
{
    if (s->state >= STREAM_FINISHING)
        return;
    s->state = s->state == STREAM_HANDSHAKE ? STREAM_CLOSING : STREAM_FINISHING;
    error_set(&s->error, ERR_CLOSED, "finished");
    queue(s);
}

void stream_pause(struct stream *s, bool paused)
{
    if (s->paused == paused)
        return;
    s->paused = paused;
    if (paused) {
        if (s->depth == 0)
            queue(s);
        return;
    }
    restart_read_timer(s);
    s->data_due = buf_len(&s->in) > 0;
    queue(s);
}

void stream_timeout(struct stream *s, int64_t ms)
{
    s->read_ms = ms;
    if (s->state < STREAM_CLOSING)
        restart_read_timer(s);
}

void stream_write_timeout(struct stream *s, int64_t ms)
{
    s->write_ms = ms;
    if (!timer_active(&s->write_timer))
        return;
    timer_stop(&s->write_timer);
    if (ms)
        timer_start(&s->write_timer, ms);
}

void stream_begin_tls(struct stream *s)
{
    assert(s->state == STREAM_OPEN && s->transport == &plain_transport);
    buf_reset(&s->in); /* not freed: the owner may stand on a line in it */
    s->data_due = s->more = s->eof = false;
    s->state = STREAM_BEFORE_TLS;
    queue(s);
}

bool stream_is_tls(const struct stream *s)
{
    return s->state != STREAM_HANDSHAKE && s->transport != &plain_transport;
}

static struct slice tls_text(const struct stream *s, enum stream_tls_text which)
{
    return stream_is_tls(s) ? s->transport->text(s, which) : slice_of("");
}

struct slice stream_tls_version(const struct stream *s)
{
    return tls_text(s, STREAM_TLS_VERSION);
}

struct slice stream_tls_cipher(const struct stream *s)
{
    return tls_text(s, STREAM_TLS_CIPHER);
}

struct slice stream_tls_sni(const struct stream *s)
{
    return tls_text(s, STREAM_TLS_SNI);
}

bool stream_tls_verified(const struct stream *s)
{
    return stream_is_tls(s) && s->transport->verified(s);
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}

int stream_take_fd(struct stream *s, struct buf *rest)
{
    assert(s->transport == &plain_transport && s->state == STREAM_OPEN);
    if (rest)
        buf_put(rest, buf_slice(&s->in));
    int fd = s->fd;
    s->fd = -1;
    stream_free(s);
    return fd;
}
