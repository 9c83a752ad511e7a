/* One connection before login: commands in, answers out. */
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "libmail/login_events.h"
#include "libmail/loginfront_parts.h"

static void on_data(struct stream *s, void *arg);
static void on_drain(struct stream *s, void *arg);
static void on_tls(struct stream *s, const struct error *failed, void *arg);
static void on_close(struct stream *s, const struct error *why, void *arg);

static const struct stream_ops client_ops = {
    .on_data = on_data, .on_tls = on_tls, .on_drain = on_drain, .on_close = on_close};

/* --- life ------------------------------------------------------------------------------------ */

static void login_free(struct login *l)
{
    timer_stop(&l->delay);
    timer_stop(&l->patience);
    explicit_bzero(l->sasl_user, sizeof(l->sasl_user));
    free(l);
}

/* Everything ends but the struct, which a pending answer may still name. */
void login_drop(struct login *l, const char *why)
{
    struct login_front *f = l->front;
    if (l->stream)
        stream_free(l->stream);
    if (l->session)
        stream_free(l->session);
    l->stream = l->session = NULL;
    fd_close(&l->fd);
    fd_close(&l->pair);
    timer_stop(&l->delay);
    timer_stop(&l->patience);
    l->phase = CLOSING;
    log_event(&l->log, login_close, .client = slice_of(l->client),
        .why = slice_of(l->why ? l->why : why), .received = l->received, .sent = l->sent,
        .seconds = (loop_now(f->daemon->loop) - l->began) / 1000);
    list_remove(&l->link);
    login_front_forget(l);
    if (!l->waiting)
        login_free(l);
}

void login_answered(struct login *l)
{
    l->waiting = false;
    if (l->phase == CLOSING && !l->stream && list_empty(&l->link))
        login_free(l);
}

void login_attach(struct login *l, int fd)
{
    l->stream =
        stream_new(l->front->daemon->loop, fd, LOGIN_INPUT_MAX, LOGIN_OUTPUT_MAX, &client_ops, l);
    stream_write_timeout(l->stream, l->place->timeout);
}

static void delayed(void *arg)
{
    struct login *l = arg;
    login_resume(l, l->verdict);
}

/* Counted from the connection, not from the last byte: a client must not stay by trickling. */
static void too_slow(void *arg)
{
    struct login *l = arg;
    switch (l->phase) {
    case CHECKING:
    case SPAWNING: /* it is we who are slow; those calls have deadlines */
        timer_start(&l->patience, l->place->timeout);
        break;
    case COMMAND:
    case DELAY:
        l->front->protocol->answer(l, LOGIN_TOO_SLOW);
        login_finish(l, "timeout");
        break;
    case TLS:
        login_drop(l, "timeout");
        break;
    case RELAY:
    case CLOSING:
        break;
    }
}

void login_open(struct login_place *place, int fd, const char *client, bool loopback)
{
    struct login_front *f = place->front;
    struct login *l = xcalloc(1, sizeof(*l) + f->protocol->state_size);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails for local sockets */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    l->front = f;
    l->place = place;
    l->id = id_new();
    l->began = loop_now(f->daemon->loop);
    l->loopback = loopback;
    l->fd = l->pair = -1;
    snprintf(l->client, sizeof(l->client), "%s", client);
    log_set_id(&l->log, &f->daemon->log, "sid", l->id);
    timer_init(&l->delay, f->daemon->loop, delayed, l);
    timer_init(&l->patience, f->daemon->loop, too_slow, l);
    timer_start(&l->patience, place->timeout);
    list_append(&f->logins, &l->link);
    place->sessions++;
    f->sessions++;
    log_event(
        &l->log, login_connect, .client = slice_of(client), .listener = slice_of(place->name));
    login_attach(l, fd);
    bool admitted = login_front_admit(f, l);
    if (!admitted && place->tls_at_once) {
        login_drop(l, "too many connections from this address");
    } else if (!admitted) {
        f->protocol->answer(l, LOGIN_CROWDED);
        login_finish(l, "too many connections from this address");
    } else if (place->tls_at_once) {
        login_start_tls(l);
    } else {
        f->protocol->greet(l);
        stream_flush(l->stream);
    }
}

void login_going_down(struct login *l)
{
    /* While authd or the spawner works the answer decides; relays end with their sessions. */
    if (l->phase != COMMAND && l->phase != DELAY)
        return;
    l->front->protocol->answer(l, LOGIN_GOING_DOWN);
    login_finish(l, "shutting down");
}

/* --- commands -------------------------------------------------------------------------------- */

static ptrdiff_t frame_line(struct slice in)
{
    ptrdiff_t nl = slice_chr(in, '\n');
    return nl < 0 ? 0 : nl + 1;
}

/* The length of the next complete command, 0, or negative when there will be none. */
static ptrdiff_t next_command(struct login *l, struct slice in)
{
    const struct login_protocol *p = l->front->protocol;
    ptrdiff_t n = p->frame && !l->next ? p->frame(l, in) : frame_line(in);
    if (n < 0 || (size_t)n > p->command_max || (n == 0 && in.n >= p->command_max))
        return -1;
    return n;
}

static void run_command(struct login *l, struct slice command)
{
    login_command_fn *fn = l->next ? l->next : l->front->protocol->command;
    l->next = NULL;
    if (command.n && command.p[command.n - 1] == '\n')
        command.n--;
    if (command.n && command.p[command.n - 1] == '\r')
        command.n--;
    fn(l, command);
}

/* Works on input that is there (also after a pause). */
static void work(struct login *l)
{
    while (l->phase == COMMAND) {
        struct buf *in = stream_in(l->stream);
        ptrdiff_t n = next_command(l, buf_slice(in));
        if (n == 0)
            break;
        if (n < 0) {
            l->front->protocol->answer(l, LOGIN_TOO_LONG);
            login_finish(l, "a command was too long");
            break;
        }
        struct slice command = slice_first(buf_slice(in), (size_t)n);
        run_command(l, command);
        /* STARTTLS has emptied the buffer. */
        if (l->phase != TLS)
            buf_consume(in, (size_t)n);
    }
    if (l->stream)
        stream_flush(l->stream);
}

static void on_data(struct stream *s, void *arg)
{
    struct login *l = arg;
    if (l->phase == RELAY)
        login_relay(l, s);
    else
        work(l);
}

static void on_drain(struct stream *s, void *arg)
{
    struct login *l = arg;
    if (l->phase == RELAY)
        login_relay_drained(l, s);
}

static void on_close(struct stream *s, const struct error *why, void *arg)
{
    (void)s;
    struct login *l = arg;
    if (l->phase == RELAY) {
        login_relay_closed(l);
        return;
    }
    if (why->code == ERR_TIMEOUT)
        l->why = "timeout";
    login_drop(l, why->code == ERR_CLOSED ? "closed" : why->text);
}

static void on_tls(struct stream *s, const struct error *failed, void *arg)
{
    struct login *l = arg;
    if (failed)
        return; /* on_close follows and logs it */
    l->phase = COMMAND;
    memset(l->state, 0, l->front->protocol->state_size);
    if (l->place->tls_at_once)
        l->front->protocol->greet(l);
    stream_flush(s);
}

void login_resume(struct login *l, enum login_answer answer)
{
    l->phase = COMMAND;
    l->front->protocol->answer(l, answer);
    stream_flush(l->stream);
    if (++l->errors >= l->place->max_errors) {
        l->front->protocol->answer(l, LOGIN_TOO_MANY);
        login_finish(l, "too many errors");
        return;
    }
    stream_pause(l->stream, false);
}

/* --- for protocols --------------------------------------------------------------------------- */

void *login_state(struct login *l)
{
    return l->state;
}

struct buf *login_out(struct login *l)
{
    return stream_out(l->stream);
}

const char *login_hostname(const struct login *l)
{
    return l->front->hostname;
}

bool login_has_tls(const struct login *l)
{
    return stream_is_tls(l->stream);
}

bool login_offers_tls(const struct login *l)
{
    return l->place->tls_offered && !login_has_tls(l);
}

bool login_offers_auth(const struct login *l)
{
    if (login_has_tls(l))
        return true;
    if (l->place->tls_required)
        return false;
    return l->place->plaintext == PLAIN_ALWAYS ||
           (l->place->plaintext == PLAIN_LOOPBACK && l->loopback);
}

void login_start_tls(struct login *l)
{
    l->phase = TLS;
    l->next = NULL;
    stream_start_tls(l->stream, l->front->tls, NULL);
}

void login_finish(struct login *l, const char *why)
{
    if (l->phase == CLOSING)
        return;
    timer_stop(&l->delay);
    l->phase = CLOSING;
    l->why = why;
    stream_finish(l->stream);
}

void login_mistake(struct login *l)
{
    if (++l->errors < l->place->max_errors || l->phase != COMMAND)
        return;
    l->front->protocol->answer(l, LOGIN_TOO_MANY);
    login_finish(l, "too many errors");
}

void login_expect(struct login *l, login_command_fn *fn)
{
    l->next = fn;
}
