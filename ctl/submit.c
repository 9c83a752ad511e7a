#include "ctl/submit.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IO_CHUNK = 65536, CONTENT_BATCH = 65536 };

static int write_all(int fd, struct slice s, struct error *err)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_sys(err, "writing to the mail system");
        s = slice_from_index(s, (size_t)n);
    }
    return OK;
}

static int flush_out(struct submit *s, struct error *err)
{
    int rc = write_all(s->fd, buf_slice(&s->out), err);
    buf_reset(&s->out);
    return rc;
}

static void print_reply(const struct submit *s)
{
    struct buf line;
    buf_init(&line, 4096);
    smtp_reply_print(&s->reply, &line);
    printf("%.*s\n", SLICE_FMT(buf_slice(&line)));
    buf_clear(&line);
}

static int read_reply(struct submit *s, struct error *err)
{
    int rc;
    smtp_reply_reset(&s->reply);
    while ((rc = smtp_reply_read(&s->reply, &s->in)) == 0) {
        char *room = buf_reserve(&s->in, 4096);
        ssize_t n = room ? read(s->fd, room, 4096) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, ERR_CLOSED, "the mail system closed the connection");
        buf_claim(&s->in, (size_t)n);
    }
    if (rc < 0)
        return error_set(err, ERR_SYNTAX, "the mail system does not speak SMTP");
    if (s->verbose)
        print_reply(s);
    return s->reply.code < 400 ? OK : ERR_DENIED;
}

int submit_open(struct submit *s, int fd, bool verbose, struct error *err)
{
    *s = (struct submit){.fd = fd, .verbose = verbose};
    buf_init(&s->in, 65536);
    buf_init(&s->out, 4 * CONTENT_BATCH);
    smtp_reply_init(&s->reply);
    smtp_stuff_init(&s->stuff);
    return read_reply(s, err);
}

void submit_close(struct submit *s)
{
    fd_close(&s->fd);
    buf_clear(&s->in);
    buf_clear(&s->out);
    smtp_reply_clear(&s->reply);
}

int submit_command(struct submit *s, struct error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)buf_vprintf(&s->out, fmt, ap);
    va_end(ap);
    if (buf_puts(&s->out, "\r\n"))
        return error_set(err, ERR_LIMIT, "a command is too long");
    int rc = flush_out(s, err);
    return rc ? rc : read_reply(s, err);
}

int submit_content(struct submit *s, struct slice content, struct error *err)
{
    while (content.n) {
        struct slice part = slice_first(content, CONTENT_BATCH);
        if (smtp_stuff_feed(&s->stuff, part, &s->out))
            return error_set(err, ERR_LIMIT, "out of room");
        content = slice_from_index(content, part.n);
        int rc = flush_out(s, err);
        if (rc)
            return rc;
    }
    return OK;
}

int submit_end(struct submit *s, struct error *err)
{
    if (smtp_stuff_end(&s->stuff, &s->out))
        return error_set(err, ERR_LIMIT, "out of room");
    int rc = flush_out(s, err);
    return rc ? rc : read_reply(s, err);
}

/* Standard input to the socket with CRLF line ends. 1: more may come, 0: the end. */
static int pass_in(int fd, char *last, struct error *err)
{
    char chunk[IO_CHUNK];
    struct buf b;
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (n <= 0)
        return n < 0 && errno == EINTR ? 1 : 0;
    buf_init(&b, 2 * sizeof(chunk));
    for (ssize_t i = 0; i < n; i++) {
        if (chunk[i] == '\n' && *last != '\r')
            (void)buf_putc(&b, '\r');
        (void)buf_putc(&b, chunk[i]);
        *last = chunk[i];
    }
    int rc = write_all(fd, buf_slice(&b), err);
    buf_clear(&b);
    return rc ? rc : 1;
}

static int pass_out(int fd, struct error *err)
{
    char chunk[IO_CHUNK];
    ssize_t n = read(fd, chunk, sizeof(chunk));
    if (n <= 0)
        return n < 0 && errno == EINTR ? 1 : 0;
    int rc = write_all(STDOUT_FILENO, slice_from(chunk, (size_t)n), err);
    return rc ? rc : 1;
}

int submit_relay(int fd, struct error *err)
{
    struct pollfd p[2] = {{STDIN_FILENO, POLLIN, 0}, {fd, POLLIN, 0}};
    char last = '\0';
    for (;;) {
        int rc = 1;
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return error_sys(err, "poll");
        if (p[1].revents)
            rc = pass_out(fd, err);
        if (rc <= 0)
            return rc;
        if (p[0].revents && pass_in(fd, &last, err) <= 0) {
            (void)shutdown(fd, SHUT_WR); /* replies still come */
            p[0].fd = -1;
        }
    }
}
