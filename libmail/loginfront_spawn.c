/* After login: a session process takes the connection, or its decrypted bytes through us. */
#include <sys/socket.h>

#include "libmail/login_events.h"
#include "libmail/loginfront_parts.h"
#include "libmail/proto/spawn.h"

enum { RELAY_BUFFER = 65536 };

static void relay_data(struct stream *s, void *arg);
static void relay_drained(struct stream *s, void *arg);
static void session_closed(struct stream *s, const struct error *why, void *arg);

static const struct stream_ops session_ops = {
    .on_data = relay_data, .on_drain = relay_drained, .on_close = session_closed};

static struct stream *other_side(struct login *l, struct stream *s)
{
    return s == l->stream ? l->session : l->stream;
}

/* Moves what fits; a side that does not keep up stops the other from being read. */
void login_relay(struct login *l, struct stream *from)
{
    struct stream *to = other_side(l, from);
    if (!to)
        return;
    struct buf *in = stream_in(from), *out = stream_out(to);
    size_t n = MIN(buf_len(in), out->max - MIN(out->max, buf_len(out)));
    buf_put(out, slice_first(buf_slice(in), n));
    buf_consume(in, n);
    *(from == l->stream ? &l->received : &l->sent) += n;
    stream_flush(to);
    if (buf_len(in) || buf_len(out) >= out->max / 2)
        stream_pause(from, true);
}

static void relay_data(struct stream *s, void *arg)
{
    login_relay(arg, s);
}

static void relay_drained(struct stream *s, void *arg)
{
    login_relay_drained(arg, s);
}

void login_relay_drained(struct login *l, struct stream *s)
{
    struct stream *from = other_side(l, s);
    if (from)
        stream_pause(from, false);
}

/* The session has ended: its last words still go out. */
static void session_closed(struct stream *s, const struct error *why, void *arg)
{
    (void)why;
    struct login *l = arg;
    l->session = NULL;
    stream_free(s);
    if (!l->why)
        l->why = "session ended";
    if (l->stream)
        stream_finish(l->stream);
    else
        login_drop(l, "session ended");
}

/* The client has gone: the session gets what was sent before, then end of file. */
void login_relay_closed(struct login *l)
{
    stream_free(l->stream);
    l->stream = NULL;
    if (!l->session) {
        login_drop(l, "closed");
        return;
    }
    stream_write_timeout(l->session, 10000);
    stream_finish(l->session);
}

/* --- the spawner ----------------------------------------------------------------------------- */

static void start_relay(struct login *l)
{
    struct login_front *f = l->front;
    int fd = l->fd;
    l->fd = -1;
    l->phase = RELAY;
    l->session = stream_new(f->daemon->loop, fd, RELAY_BUFFER, RELAY_BUFFER, &session_ops, l);
    stream_write_timeout(l->session, 0);
    timer_stop(&l->patience); /* the session has its own clock */
    stream_pause(l->stream, false);
}

static void give_up(struct login *l, struct slice why)
{
    log_event(&l->log, login_fail, .user = slice_of(l->user), .client = slice_of(l->client),
        .method = slice_of(l->method), .rule = SLICE_LIT("session"), .why = why);
    if (l->stream) {
        fd_close(&l->fd);
    } else {
        int fd = l->fd;
        l->fd = -1;
        login_attach(l, fd);
    }
    l->front->protocol->answer(l, LOGIN_UNAVAILABLE);
    login_finish(l, "no session");
}

static void on_started(struct ipc_in *in, void *arg)
{
    struct login *l = arg;
    const struct spawn_started *s = in ? in->msg : NULL;
    fd_close(&l->pair);
    if (l->phase != SPAWNING) {
        login_answered(l);
        return;
    }
    l->waiting = false;
    if (!s || s->code != OK) {
        give_up(l, s ? s->why : SLICE_LIT("the session spawner does not answer"));
        return;
    }
    log_event(&l->log, login_ok, .user = slice_of(l->user), .client = slice_of(l->client),
        .method = slice_of(l->method),
        .tls = l->stream ? stream_tls_version(l->stream) : SLICE_LIT(""), .session = s->pid,
        .ms = loop_now(l->front->daemon->loop) - l->began);
    if (l->stream)
        start_relay(l);
    else
        login_drop(l, "handed over");
}

/* For a plain connection l->fd becomes the client's own; under TLS it is our end of a pair whose
 * other end is l->pair. Returns what the session gets. */
static int split(struct login *l, struct buf *input)
{
    int pair[2];
    if (!login_has_tls(l)) {
        l->fd = stream_take_fd(l->stream, input);
        l->stream = NULL;
        return l->fd;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    buf_put(input, buf_slice(stream_in(l->stream)));
    buf_reset(stream_in(l->stream));
    l->fd = pair[0];
    l->pair = pair[1];
    return l->pair;
}

void login_spawn(struct login *l, struct slice ticket)
{
    struct buf input;
    buf_init(&input, LOGIN_INPUT_MAX);
    bool tls = login_has_tls(l);
    l->phase = SPAWNING;
    int fd = split(l, &input);
    if (fd < 0) {
        give_up(l, SLICE_LIT("no socket pair"));
    } else {
        struct spawn_start start = {.ticket = ticket,
            .client = slice_of(l->client),
            .tls = tls,
            .tag = slice_of(l->tag),
            .input = buf_slice(&input)};
        l->waiting = true;
        daemon_call(
            l->front->daemon, CONV_SPAWN, -1, spawn_start_type, l->id, &start, fd, on_started, l);
    }
    buf_wipe(&input);
}
