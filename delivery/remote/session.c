#include "delivery/remote/session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/tls.h"

enum {
    IN_MAX = 65536,
    OUT_MAX = 262144,
    IDLE_MS = 5000,
    QUIT_MS = 5000,
    MESSAGES_MAX = 100,
    MINUTE = 60000
};

static void greeting_reply(struct session *s);
static void ehlo_reply(struct session *s);
static void helo_reply(struct session *s);
static void starttls_reply(struct session *s);
static void rset_reply(struct session *s);
static void quit_reply(struct session *s);

/* max_ms: RFC 5321 §4.5.3.2, cut by outbound.timeout (the end of data: twice that). */
static const struct step_row {
    const char *verb;
    step_fn *on_reply;
    int64_t max_ms;
} rows[STEP_COUNT] = {
    [STEP_GREETING] = {"greeting", greeting_reply, 5 * MINUTE},
    [STEP_EHLO] = {"EHLO", ehlo_reply, 5 * MINUTE},
    [STEP_HELO] = {"HELO", helo_reply, 5 * MINUTE},
    [STEP_STARTTLS] = {"STARTTLS", starttls_reply, 2 * MINUTE},
    [STEP_MAIL] = {"MAIL FROM", transaction_mail_reply, 5 * MINUTE},
    [STEP_RCPT] = {"RCPT TO", transaction_rcpt_reply, 5 * MINUTE},
    [STEP_DATA] = {"DATA", transaction_data_reply, 2 * MINUTE},
    [STEP_END] = {"end of data", transaction_end_reply, 10 * MINUTE},
    [STEP_RSET] = {"RSET", rset_reply, 5 * MINUTE},
    [STEP_QUIT] = {"QUIT", quit_reply, QUIT_MS},
};

/* --- the end of a session ------------------------------------------------------------------ */

/* Whoever called us may still look at it. */
static void free_later(void *arg)
{
    struct session *s = arg;
    smtp_reply_clear(&s->reply);
    free(s);
}

static void free_session(struct session *s)
{
    list_remove(&s->link);
    timer_stop(&s->timer);
    io_free(s->connecting);
    fd_close(&s->fd);
    stream_free(s->stream);
    s->stream = NULL;
    s->dead = true;
    loop_defer(s->remote->daemon->loop, free_later, s);
}

void session_failed(struct session *s, const char *dsn, const char *text)
{
    struct job *job = s->job;
    s->job = NULL;
    if (job)
        job_host_failed(job, &s->target, dsn, text);
    free_session(s);
}

void session_abandon(struct session *s)
{
    s->job = NULL;
    free_session(s);
}

/* The connection is gone or useless, whatever it was doing. */
static void lost(struct session *s, const char *why)
{
    char text[REASON_MAX];
    if (!s->job) {
        free_session(s);
        return;
    }
    snprintf(
        text, sizeof(text), "lost connection with %s[%s]: %s", s->target.host, s->target.ip, why);
    if (s->next)
        transaction_lost(s, text);
    else
        session_failed(s, "4.4.2", text);
}

void session_quote(const struct session *s, enum step step, char *out, size_t size)
{
    struct buf text;
    buf_init(&text, SMTP_REPLY_TEXT_MAX + 64);
    smtp_reply_print(&s->reply, &text);
    snprintf(out, size, "%s[%s] said: %.*s (in reply to %s)", s->target.host, s->target.ip,
        (int)MIN(buf_len(&text), (size_t)300), buf_slice(&text).p, rows[step].verb);
    buf_clear(&text);
}

const char *session_dsn(struct session *s)
{
    char class = (char)('0' + s->reply.code / 100);
    if (s->reply.dsn[0] == class)
        return s->reply.dsn;
    return class == '5' ? "5.0.0" : class == '4' ? "4.0.0" : "2.0.0";
}

static void connect_failed(struct session *s, int error)
{
    char text[REASON_MAX];
    snprintf(
        text, sizeof(text), "connect to %s[%s]: %s", s->target.host, s->target.ip, strerror(error));
    session_failed(s, "4.4.1", text);
}

/* The reply makes this host useless for now. */
static void refused(struct session *s, enum step step)
{
    char text[REASON_MAX];
    session_quote(s, step, text, sizeof(text));
    session_failed(s, s->reply.code >= 400 && s->reply.code < 500 ? session_dsn(s) : "4.4.0", text);
}

/* --- expecting replies --------------------------------------------------------------------- */

static void restart_timer(struct session *s)
{
    int64_t configured = s->remote->settings.reply_ms;
    if (!s->ndue) {
        timer_stop(&s->timer);
        return;
    }
    enum step step = s->due[0];
    if (step == STEP_END)
        configured *= 2;
    timer_start(&s->timer, MIN(rows[step].max_ms, configured));
}

void session_expect(struct session *s, enum step step)
{
    assert(s->ndue < STEPS_DUE_MAX);
    s->due[s->ndue++] = step;
    if (s->ndue == 1)
        restart_timer(s);
}

static void on_timer(void *arg)
{
    struct session *s = arg;
    char why[64];
    if (s->connect_error) {
        connect_failed(s, s->connect_error);
    } else if (s->connecting) {
        char text[REASON_MAX];
        snprintf(text, sizeof(text), "connect to %s[%s]: timed out", s->target.host, s->target.ip);
        session_failed(s, "4.4.1", text);
    } else if (!s->job && !s->closing && !s->ndue) {
        list_remove(&s->link); /* idle long enough */
        s->closing = true;
        buf_puts(stream_out(s->stream), "QUIT\r\n");
        session_expect(s, STEP_QUIT);
        stream_flush(s->stream);
    } else {
        snprintf(why, sizeof(why), "no reply to %s in time", s->ndue ? rows[s->due[0]].verb : "us");
        lost(s, why);
    }
}

static void take_reply(struct session *s)
{
    enum step step = s->due[0];
    memmove(s->due, s->due + 1, --s->ndue * sizeof(s->due[0]));
    restart_timer(s);
    if (s->reply.code == 421 && s->job && step != STEP_GREETING) {
        char text[REASON_MAX]; /* RFC 5321 §3.8: the server is closing */
        session_quote(s, step, text, sizeof(text));
        if (s->next)
            transaction_lost(s, text);
        else
            session_failed(s, session_dsn(s), text);
        return;
    }
    rows[step].on_reply(s);
}

static void on_data(struct stream *stream, void *arg)
{
    struct session *s = arg;
    int rc = 1;
    while (rc == 1 && !s->dead && buf_len(stream_in(stream))) {
        if (!s->reply.partial)
            smtp_reply_reset(&s->reply);
        rc = smtp_reply_read(&s->reply, stream_in(stream));
        if (rc < 0)
            lost(s, rc == ERR_LIMIT ? "its reply is too long" : "it does not speak SMTP");
        else if (rc == 1 && s->ndue)
            take_reply(s);
        else if (rc == 1 && s->sending)
            transaction_early_reply(s);
        else if (rc == 1)
            lost(s, "it speaks out of turn");
    }
}

static void on_drain(struct stream *stream, void *arg)
{
    (void)stream;
    transaction_drained(arg);
}

static void on_close(struct stream *stream, const struct error *err, void *arg)
{
    (void)stream;
    lost(arg, err->text);
}

static void on_tls(struct stream *stream, const struct error *failed, void *arg);

static const struct stream_ops ops = {on_data, on_drain, on_tls, on_close};

/* --- greeting, EHLO, TLS ------------------------------------------------------------------- */

static void say_hello(struct session *s, enum step step)
{
    const char *verb = s->lmtp ? "LHLO" : step == STEP_HELO ? "HELO" : "EHLO";
    buf_printf(stream_out(s->stream), "%s %s\r\n", verb, s->remote->settings.helo);
    session_expect(s, step);
    stream_flush(s->stream);
}

static void greeting_reply(struct session *s)
{
    if (s->reply.code == 220)
        say_hello(s, STEP_EHLO);
    else
        refused(s, STEP_GREETING);
}

static void note_features(struct session *s)
{
    static const struct {
        const char *keyword;
        enum feature feature;
    } known[] = {{"PIPELINING", FEATURE_PIPELINING}, {"SIZE", FEATURE_SIZE},
        {"8BITMIME", FEATURE_8BITMIME}, {"DSN", FEATURE_DSN}, {"STARTTLS", FEATURE_STARTTLS},
        {"SMTPUTF8", FEATURE_SMTPUTF8}, {"MT-PRIORITY", FEATURE_MT_PRIORITY}};
    struct slice params;
    s->features = 0;
    s->max_size = 0;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (smtp_reply_offers(&s->reply, known[i].keyword, &params))
            s->features |= known[i].feature;
    if (smtp_reply_offers(&s->reply, "SIZE", &params) &&
        slice_u64(slice_trim(params), 0, UINT64_MAX, &s->max_size) != OK)
        s->max_size = 0;
}

/* A server that greets with our own name is we (RFC 5321 §3.6.2 wants loops noticed). */
static bool is_ourselves(const struct session *s)
{
    struct slice line = smtp_reply_line(&s->reply, 0);
    struct slice name = slice_cut(&line, ' ');
    return s->mx && slice_iis(name, s->remote->settings.hostname);
}

static void hello_done(struct session *s)
{
    enum tls_policy policy = s->remote->settings.tls;
    bool tls = stream_is_tls(s->stream);
    if (!tls && !s->tls_tried && !s->without_tls && policy != TLS_NEVER &&
        (s->features & FEATURE_STARTTLS)) {
        s->tls_tried = true;
        buf_puts(stream_out(s->stream), "STARTTLS\r\n");
        session_expect(s, STEP_STARTTLS);
        stream_flush(s->stream);
    } else if (!tls && policy == TLS_REQUIRED) {
        char text[REASON_MAX];
        snprintf(text, sizeof(text), "%s[%s] does not offer TLS, which is required here",
            s->target.host, s->target.ip);
        session_failed(s, "4.7.4", text);
    } else {
        transaction_start(s);
    }
}

static void ehlo_reply(struct session *s)
{
    if (s->reply.code / 100 == 5 && !s->lmtp && !stream_is_tls(s->stream)) {
        say_hello(s, STEP_HELO); /* RFC 5321 §3.2: an old server */
        return;
    }
    if (s->reply.code != 250) {
        refused(s, STEP_EHLO);
        return;
    }
    if (is_ourselves(s)) {
        struct job *job = s->job;
        for (size_t i = 0; i < job->count; i++)
            transaction_refuse(s, i, "5.4.6", "loop",
                "the mail would come back to this host: its MX is this host by another name");
        session_ready(s, false);
        return;
    }
    note_features(s);
    hello_done(s);
}

static void helo_reply(struct session *s)
{
    s->features = 0;
    if (s->reply.code != 250) {
        refused(s, STEP_HELO);
        return;
    }
    hello_done(s);
}

static void starttls_reply(struct session *s)
{
    struct net_addr literal;
    bool go = s->reply.code == 220;
    if (!go && s->remote->settings.tls == TLS_REQUIRED) {
        refused(s, STEP_STARTTLS);
        return;
    }
    if (!go) {
        hello_done(s);
        return;
    }
    bool named = net_addr_parse(slice_of(s->target.host), &literal) != OK;
    timer_start(&s->timer, MIN(5 * MINUTE, s->remote->settings.reply_ms));
    stream_start_tls(s->stream, s->remote->tls, named ? s->target.host : NULL);
}

static void on_tls(struct stream *stream, const struct error *failed, void *arg)
{
    (void)stream;
    struct session *s = arg;
    if (!failed) {
        say_hello(s, STEP_EHLO);
        return;
    }
    char text[REASON_MAX];
    struct job *job = s->job;
    snprintf(text, sizeof(text), "TLS with %s[%s] failed: %.200s", s->target.host, s->target.ip,
        failed->text);
    s->job = NULL;
    if (job)
        job_tls_failed(job, &s->target, text);
    free_session(s);
}

/* --- connecting ---------------------------------------------------------------------------- */

static void on_connected(int fd, unsigned events, void *arg)
{
    (void)events;
    struct session *s = arg;
    int error = 0;
    socklen_t n = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
        error = errno;
    if (error) {
        connect_failed(s, error);
        return;
    }
    io_free(s->connecting);
    s->connecting = NULL;
    s->fd = -1;
    s->stream = stream_new(s->remote->daemon->loop, fd, IN_MAX, OUT_MAX, &ops, s);
    stream_write_timeout(s->stream, MIN(3 * MINUTE, s->remote->settings.reply_ms));
    session_expect(s, STEP_GREETING);
}

static int bind_source(int fd, const struct net_addr *source, int family)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (source->bits != (family == AF_INET ? 32 : 128))
        return 0;
    memcpy(&v4.sin_addr, source->bytes, 4);
    memcpy(&v6.sin6_addr, source->bytes, 16);
    return family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
                             : bind(fd, (struct sockaddr *)&v6, sizeof(v6));
}

/* Begins to connect; returns an errno. */
static int begin_connect(struct session *s)
{
    const struct remote_settings *set = &s->remote->settings;
    int family = s->target.address.ss_family;
    s->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return errno;
    if (set->has_source && bind_source(s->fd, &set->source, family) != 0)
        return errno;
    if (connect(s->fd, (struct sockaddr *)&s->target.address, s->target.length) != 0 &&
        errno != EINPROGRESS)
        return errno;
    return 0;
}

struct session *session_open(struct job *job, const struct target *target, bool without_tls)
{
    struct session *s = NEW(struct session);
    struct remote *remote = job->remote;
    list_init(&s->link);
    s->remote = remote;
    s->job = job;
    s->target = *target;
    s->lmtp = job->hop.lmtp;
    s->mx = job->hop.mx;
    s->without_tls = without_tls;
    snprintf(s->nexthop, sizeof(s->nexthop), "%s", job->nexthop);
    smtp_reply_init(&s->reply);
    timer_init(&s->timer, remote->daemon->loop, on_timer, s);
    s->connect_error = begin_connect(s);
    if (s->connect_error) {
        timer_start(&s->timer, 0);
        return s;
    }
    s->connecting = io_new(remote->daemon->loop, s->fd, IO_WRITE, on_connected, s);
    timer_start(&s->timer, remote->settings.connect_ms);
    return s;
}

/* --- idle ---------------------------------------------------------------------------------- */

void session_ready(struct session *s, bool usable)
{
    struct job *job = s->job;
    s->job = NULL;
    s->next = 0;
    s->sending = s->sent = false;
    s->messages++;
    if (usable && s->messages < MESSAGES_MAX && !s->remote->daemon->draining) {
        list_append(&s->remote->idle, &s->link);
        if (!s->ndue)
            timer_start(&s->timer, IDLE_MS);
    } else {
        s->closing = true;
        buf_puts(stream_out(s->stream), "QUIT\r\n");
        session_expect(s, STEP_QUIT);
        stream_flush(s->stream);
    }
    if (job)
        job_finished(job);
}

static void rset_reply(struct session *s)
{
    if (s->reply.code / 100 != 2) {
        free_session(s);
        return;
    }
    timer_start(&s->timer, IDLE_MS);
}

static void quit_reply(struct session *s)
{
    free_session(s);
}

static bool take_over(struct job *job, struct session *s)
{
    list_remove(&s->link);
    timer_stop(&s->timer);
    s->job = job;
    s->reused = job->reused = true;
    job->session = s;
    transaction_start(s);
    return true;
}

bool session_reuse(struct job *job)
{
    LIST_EACH(it, &job->remote->idle)
    {
        struct session *s = LIST_ENTRY(it, struct session, link);
        if (!s->ndue && strcmp(s->nexthop, job->nexthop) == 0)
            return take_over(job, s);
    }
    return false;
}

bool session_reuse_host(struct job *job, const struct target *t)
{
    LIST_EACH(it, &job->remote->idle)
    {
        struct session *s = LIST_ENTRY(it, struct session, link);
        if (s->ndue || !s->mx || s->lmtp != job->hop.lmtp || s->without_tls ||
            strcasecmp(s->target.host, t->host) != 0 || strcmp(s->target.ip, t->ip) != 0)
            continue;
        snprintf(s->nexthop, sizeof(s->nexthop), "%s", job->nexthop);
        return take_over(job, s);
    }
    return false;
}

void session_close_idle(struct remote *remote)
{
    LIST_EACH(it, &remote->idle)
    free_session(LIST_ENTRY(it, struct session, link));
}
