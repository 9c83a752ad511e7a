#include "smtpd/session.h"

#include <sys/socket.h>

#include "smtpd/events.h"

enum {
    SKIP_MAX = 1024 * 1024, /* an endless line ends the session */
    CONGESTION = 32768      /* replies that may wait before commands have to */
};

/* --- the end --------------------------------------------------------------------------------- */

static void maybe_free(struct session *s)
{
    if (s->state == SESSION_CLOSED && s->pending == 0)
        free(s);
}

static void close_session(struct session *s, const char *reason)
{
    if (s->state == SESSION_CLOSED)
        return;
    session_reset(s);
    session_forget_hello(s);
    log_event(&s->log, smtp_close, .reason = slice_of(s->close_reason ? s->close_reason : reason),
        .client = slice_of(s->client), .client_name = slice_of(s->client_name),
        .seconds = (uint32_t)((loop_now(s->server->daemon->loop) - s->started) / 1000),
        .messages = s->messages, .recipients = s->recipients, .errors = s->errors);
    s->state = SESSION_CLOSED;
    timer_stop(&s->timer);
    stream_free(s->stream);
    s->stream = NULL;
    free(s->login);
    free(s->client_name);
    free(s->claimed_name);
    free(s->etrn_name);
    s->login = s->client_name = s->claimed_name = s->etrn_name = NULL;
    list_remove(&s->link);
    server_forget(s->server, s->service, slice_of(s->client), s->loopback);
    maybe_free(s);
}

static void finish(struct session *s, const char *reason)
{
    if (s->state >= SESSION_CLOSING)
        return;
    s->close_reason = reason;
    s->state = SESSION_CLOSING;
    session_reset(s);
    stream_finish(s->stream);
}

void session_hang_up(struct session *s, const char *dsn, const char *rule, const char *text)
{
    if (s->state >= SESSION_CLOSING)
        return;
    struct slice host = s->server->hostname;
    log_event(&s->log, smtp_reject, .client = slice_of(s->client), .code = 421,
        .dsn = slice_of(dsn), .rule = slice_of(rule), .text = slice_of(text));
    session_reply(s, 421, dsn, "%.*s %s", SLICE_FMT(host), text);
    finish(s, rule);
}

void session_quit(struct session *s)
{
    session_reply(s, 221, "2.0.0", "Bye");
    finish(s, "quit");
}

static bool is_idle(const struct session *s)
{
    return s->state == SESSION_COMMAND && !s->txn;
}

/* A client that came just before the end has not said yet what for: it may begin. */
static int64_t grace(const struct session *s)
{
    int64_t age = loop_now(s->server->daemon->loop) - s->started;
    return s->messages > 0 ? 0 : MAX(SESSION_GRACE_MS - age, (int64_t)0);
}

void session_shut_down(struct session *s)
{
    if (is_idle(s) && grace(s) > 0)
        timer_start(&s->timer, grace(s));
    else if (is_idle(s))
        session_hang_up(s, "4.3.2", "shutdown", "Service is shutting down, try again later");
}

/* --- replies --------------------------------------------------------------------------------- */

void session_reply(struct session *s, unsigned code, const char *dsn, const char *fmt, ...)
{
    struct buf *out = stream_out(s->stream);
    const char digits[4] = {
        (char)('0' + code / 100 % 10), (char)('0' + code / 10 % 10), (char)('0' + code % 10), ' '};
    va_list ap;
    (void)buf_put(out, slice_from(digits, sizeof(digits)));
    if (dsn) {
        (void)buf_puts(out, dsn);
        (void)buf_putc(out, ' ');
    }
    va_start(ap, fmt);
    if (strchr(fmt, '%'))
        (void)buf_vprintf(out, fmt, ap);
    else
        (void)buf_puts(out, fmt);
    va_end(ap);
    (void)buf_puts(out, "\r\n");
}

/* Text of others may not break a reply line. */
static struct slice sanitised(struct slice text, char *into, size_t room)
{
    size_t n = MIN(text.n, room);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        into[i] = c < 32 || c == 127 ? ' ' : (char)c;
    }
    return slice_from(into, n);
}

void session_refuse(struct session *s, const char *verb, unsigned code, const char *dsn,
    const char *rule, struct slice text)
{
    char clean[400];
    struct transaction *t = s->txn;
    bool rcpt = t && strcmp(verb, "RCPT") == 0;
    text = sanitised(text, clean, sizeof(clean));
    log_event(t ? &t->log : &s->log, smtp_reject, .client = slice_of(s->client),
        .verb = slice_of(verb), .code = code, .dsn = slice_of(dsn), .rule = slice_of(rule),
        .from = !t            ? slice_of(NULL)
                : t->sender.n ? t->sender
                              : SLICE_LIT("<>"),
        .to = rcpt ? t->rcpt_text : slice_of(NULL), .helo = slice_of(s->helo), .text = text);
    session_reply(s, code, dsn, "%.*s", SLICE_FMT(text));
    if (code >= 500 && ++s->errors >= s->service->max_errors)
        session_hang_up(s, "4.7.0", "too-many-errors", "Too many errors");
}

static void greet(struct session *s)
{
    s->state = SESSION_COMMAND;
    session_reply(s, 220, NULL, "%.*s %s Veredus", SLICE_FMT(s->server->hostname),
        session_is_lmtp(s) ? "LMTP" : "ESMTP");
    stream_flush(s->stream);
}

/* --- input ----------------------------------------------------------------------------------- */

static void bad_line(struct session *s, const char *rule, const char *text)
{
    bool auth = s->state == SESSION_AUTH;
    if (auth) {
        auth_free(s->auth);
        s->auth = NULL;
        s->state = SESSION_COMMAND;
    }
    /* RFC 4954 §6 has a code of its own for the exchange. */
    session_refuse(s, "", 500, auth ? "5.5.6" : "5.5.2", rule, slice_of(text));
}

/* Drops an over-long line up to its end, which is where we are in step again. */
static bool skip_line(struct session *s, struct buf *in)
{
    ptrdiff_t end = slice_find(buf_slice(in), SLICE_LIT("\r\n"));
    size_t n = end < 0 ? buf_len(in) - 1 : (size_t)end + 2; /* the last octet may be the CR */
    buf_consume(in, n);
    s->skipped += n;
    if (end >= 0) {
        s->skipped = 0;
        return true;
    }
    if (s->skipped > SKIP_MAX)
        session_hang_up(s, "4.7.0", "endless-line", "Line too long");
    return false;
}

/* Handles one line, if there is one. Only CRLF ends a line (RFC 5321 §2.3.8). */
static bool take_line(struct session *s, struct buf *in)
{
    if (s->skipped)
        return skip_line(s, in);
    struct slice all = buf_slice(in);
    ptrdiff_t end = slice_find(slice_first(all, SESSION_LINE_MAX), SLICE_LIT("\r\n"));
    if (end < 0) {
        if (all.n < SESSION_LINE_MAX)
            return false;
        s->skipped = 1;
        bad_line(s, "long-line", "Line too long");
        return true;
    }
    struct slice line = slice_first(all, (size_t)end);
    buf_consume(in, (size_t)end + 2); /* the bytes stay where they are until more arrive */
    if (slice_chr(line, '\0') >= 0 || slice_chr(line, '\r') >= 0 || slice_chr(line, '\n') >= 0)
        bad_line(s, "bad-line", "Bare CR, bare LF and NUL are not allowed");
    else if (s->state == SESSION_AUTH)
        auth_line(s, line);
    else
        verbs_run(s, line);
    return true;
}

static bool step(struct session *s, struct buf *in)
{
    if (s->state == SESSION_DATA) {
        data_arrived(s);
        return s->state != SESSION_DATA;
    }
    if (s->state == SESSION_CHUNK) {
        chunk_arrived(s);
        return s->state != SESSION_CHUNK;
    }
    return (s->state == SESSION_COMMAND || s->state == SESSION_AUTH) && take_line(s, in);
}

/* Works through the input until it ends, an answer is awaited, or replies pile up. Replies leave
 * together at the end (RFC 2920 §3.2). */
static void pump(struct session *s)
{
    struct buf *in = stream_in(s->stream);
    while (s->state < SESSION_CLOSING && buf_len(in) && step(s, in)) {
        if (buf_len(stream_out(s->stream)) > CONGESTION) {
            s->congested = true;
            stream_pause(s->stream, true);
            break;
        }
    }
    if (s->state < SESSION_CLOSING && s->state != SESSION_WAITING)
        stream_flush(s->stream);
    if (s->server->daemon->draining)
        session_shut_down(s);
}

static void on_data(struct stream *stream, void *arg)
{
    (void)stream;
    struct session *s = arg;
    timer_start(&s->timer, s->service->timeout);
    pump(s);
}

static void on_drain(struct stream *stream, void *arg)
{
    struct session *s = arg;
    if (!s->congested || s->state >= SESSION_CLOSING)
        return;
    s->congested = false;
    if (s->state == SESSION_WAITING)
        return;
    stream_pause(stream, false);
    pump(s);
}

static void on_tls(struct stream *stream, const struct error *failed, void *arg)
{
    struct session *s = arg;
    log_event(&s->log, smtp_tls, .client = slice_of(s->client),
        .version = stream_tls_version(stream), .cipher = stream_tls_cipher(stream),
        .sni = stream_tls_sni(stream), .reason = slice_of(failed ? failed->text : NULL));
    if (failed) {
        s->close_reason = "tls-failed";
        return;
    }
    timer_start(&s->timer, s->service->timeout);
    if (s->state == SESSION_GREETING)
        greet(s);
    else
        s->state = SESSION_COMMAND;
    if (s->server->daemon->draining)
        session_shut_down(s);
}

static void on_close(struct stream *stream, const struct error *why, void *arg)
{
    (void)stream;
    close_session(arg, why->code == ERR_CLOSED    ? "disconnect"
                       : why->code == ERR_TIMEOUT ? "timeout"
                                                  : "lost");
}

static const struct stream_ops stream_ops = {on_data, on_drain, on_tls, on_close};

static void on_timeout(void *arg)
{
    struct session *s = arg;
    if (s->state == SESSION_WAITING || s->state == SESSION_CLOSING)
        timer_start(&s->timer, s->service->timeout);
    else if (s->state == SESSION_TLS || s->state == SESSION_GREETING)
        close_session(s, "timeout");
    else if (s->server->daemon->draining && is_idle(s))
        session_shut_down(s);
    else
        session_hang_up(s, "4.4.2", "timeout", "Timeout, closing the connection");
}

/* --- waiting for others ------------------------------------------------------------------------
 */

void session_wait(struct session *s)
{
    s->pending++;
    s->state = SESSION_WAITING;
    stream_pause(s->stream, true);
}

bool session_answered(struct session *s)
{
    s->pending--;
    if (s->state != SESSION_CLOSED)
        return true;
    maybe_free(s);
    return false;
}

void session_resume(struct session *s, enum session_state state)
{
    if (s->state >= SESSION_CLOSING)
        return;
    s->state = state;
    timer_start(&s->timer, s->service->timeout);
    if (s->congested) {
        stream_flush(s->stream);
        return;
    }
    stream_pause(s->stream, false);
    pump(s);
    if (s->state != SESSION_CLOSED && !buf_len(stream_in(s->stream)))
        buf_wipe(stream_in(s->stream)); /* idle sessions hold no buffer */
}

void session_reset(struct session *s)
{
    if (!s->txn)
        return;
    commit_drop(s);
    transaction_free(s->txn);
    s->txn = NULL;
}

void session_forget_hello(struct session *s)
{
    session_reset(s);
    auth_free(s->auth);
    s->auth = NULL;
    free(s->helo);
    s->helo = NULL;
    s->esmtp = false;
}

/* --- what a client may -------------------------------------------------------------------------
 */

bool session_is_lmtp(const struct session *s)
{
    return s->service->protocol == PROTOCOL_LMTP;
}

bool session_may_auth(const struct session *s)
{
    const struct service *v = s->service;
    if (v->auth == DEMAND_NONE)
        return false;
    return stream_is_tls(s->stream) || v->plaintext_auth == PLAINTEXT_ALWAYS ||
           (v->plaintext_auth == PLAINTEXT_LOOPBACK && s->loopback);
}

bool session_offers_tls(const struct session *s)
{
    return s->server->tls && s->service->tls != DEMAND_NONE && !stream_is_tls(s->stream);
}

bool session_may_relay(const struct session *s)
{
    return s->login || s->trusted || s->service->protocol == PROTOCOL_SUBMIT;
}

int64_t session_future_release(const struct session *s)
{
    enum smtp_protocol p = s->service->protocol;
    bool known = s->login || p == PROTOCOL_SUBMISSION || p == PROTOCOL_SUBMIT;
    return known ? s->service->future_release : 0;
}

bool session_may_etrn(const struct session *s)
{
    return !session_is_lmtp(s) && (s->service->etrn == ETRN_ALL ||
                                      (s->service->etrn == ETRN_TRUSTED && session_may_relay(s)));
}

struct slice session_login(const struct session *s)
{
    return slice_of(s->login);
}

/* --- the beginning -----------------------------------------------------------------------------
 */

/* Whether bytes lie in the socket before we said a word (RFC 5321 §4.3.1: clients wait). */
static bool talks_early(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

struct session *session_new(struct service *service, int fd, struct slice client, int64_t uid)
{
    struct server *server = service->server;
    struct net_addr addr;
    struct session *s = NEW(struct session);
    s->server = server;
    s->service = service;
    s->sid = id_new();
    s->uid = uid;
    s->started = loop_now(server->daemon->loop);
    bool fits = slice_to_cstr(client, s->client, sizeof(s->client));
    bool known = fits && uid < 0 && net_addr_parse(client, &addr) == OK;
    s->loopback = uid >= 0 || (known && net_addr_is_loopback(&addr));
    s->trusted = known && server_trusts(server, &addr);
    log_set_id(&s->log, &server->daemon->log, "sid", s->sid);
    log_event(&s->log, smtp_connect, .client = slice_of(s->client),
        .listener = slice_of(service->name), .early = !service->implicit_tls && talks_early(fd));
    s->stream =
        stream_new(server->daemon->loop, fd, SESSION_IN_MAX, SESSION_OUT_MAX, &stream_ops, s);
    stream_write_timeout(s->stream, service->timeout);
    timer_init(&s->timer, server->daemon->loop, on_timeout, s);
    timer_start(&s->timer, service->timeout);
    list_append(&server->sessions, &s->link);
    if (service->implicit_tls)
        stream_start_tls(s->stream, server->tls, NULL);
    else
        greet(s);
    if (known && !s->loopback)
        client_name_start(s);
    return s;
}
