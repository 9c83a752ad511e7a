/* Sessions for tests: a child runs session_run on one end of a socket pair and a real store in a
 * temporary directory; the test speaks the client's part by dialogs. */
#pragma once

#include "imapd/session/session.h"
#include "libutil/conf.h"
#include "libutil/error.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct client {
    int fd;
    pid_t pid;
    struct buf in;
};

struct fixture {
    char dir[64];
    const char *conf;   /* more configuration */
    struct client a, b; /* b: a second session, when started */
};

static void child(const struct fixture *f, int fd, const char *tag)
{
    struct buf errors;
    struct error err;
    char text[200];
    buf_init(&errors, 10000);
    snprintf(text, sizeof(text), "message-size 64K\n%s", f->conf ? f->conf : "");
    struct conf *conf = conf_parse("test", slice_of(text), &conf_root_schema, &errors, &err);
    struct session_env env = {.fd = fd,
        .mail = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .notify = -1,
        .wake = -1,
        .room = -1,
        .user = "alice@example.test",
        .client = "192.0.2.1",
        .tag = tag,
        .input = SLICE_LIT("early NOOP\r\n"),
        .conf = conf};
    log_setup("test", LOG_ERROR);
    int rc = conf ? session_run(&env) : 1;
    conf_free(conf);
    buf_clear(&errors);
    close(env.mail);
    close(fd);
    exit(rc);
}

/* Takes a line into text; "" at the end of the connection. */
static void read_line(struct client *c, char *text, size_t size)
{
    text[0] = 0;
    for (;;) {
        struct slice in = buf_slice(&c->in);
        ptrdiff_t at = slice_find(in, SLICE_LIT("\r\n"));
        if (at >= 0) {
            assert_true(slice_to_cstr(slice_first(in, (size_t)at), text, size));
            buf_consume(&c->in, (size_t)at + 2);
            return;
        }
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (poll(&p, 1, 10000) != 1)
            fail_msg("no answer; so far: %.*s", SLICE_FMT(in));
        char *room = buf_reserve(&c->in, 4096);
        ssize_t n = read(c->fd, room, 4096);
        if (n <= 0)
            return;
        buf_claim(&c->in, (size_t)n);
    }
}

/* '~' stands for any text. */
static bool matches(const char *pattern, const char *text)
{
    for (; *pattern && *pattern != '~'; pattern++, text++)
        if (*pattern != *text)
            return false;
    if (!*pattern)
        return !*text;
    for (;; text++) {
        if (matches(pattern + 1, text))
            return true;
        if (!*text)
            return false;
    }
}

static void send_text(struct client *c, struct slice s)
{
    while (s.n) {
        ssize_t n = write(c->fd, s.p, s.n);
        assert_true(n > 0);
        s = slice_from_index(s, (size_t)n);
    }
}

/* Lines "C: what is sent" and "S: what must come". */
static void dialog(struct client *c, const char *script)
{
    struct slice rest = slice_of(script);
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        char want[4096], got[4096];
        assert_true(slice_to_cstr(slice_from_index(line, 3), want, sizeof(want)));
        if (slice_starts(line, "C: ")) {
            send_text(c, slice_of(want));
            send_text(c, SLICE_LIT("\r\n"));
            continue;
        }
        read_line(c, got, sizeof(got));
        if (!matches(want, got))
            fail_msg("expected: %s\n          got: %s", want, got);
    }
}

static void start(struct fixture *f, struct client *c)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fflush(stdout);
    c->pid = fork();
    if (c->pid == 0) {
        close(ends[0]);
        if (c != &f->a)
            close(f->a.fd);
        alarm(60);
        child(f, ends[1], "login");
    }
    close(ends[1]);
    c->fd = ends[0];
    buf_init(&c->in, 1 << 20);
    dialog(c, "S: login OK [CAPABILITY IMAP4rev1 ~] Logged in\n"
              "S: early OK NOOP completed");
}

static void stop(struct client *c)
{
    int status;
    if (c->pid == 0)
        return;
    close(c->fd);
    waitpid(c->pid, &status, 0);
    buf_clear(&c->in);
    if (status != 0)
        fail_msg("the session ended with status %x", (unsigned)status);
}

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    snprintf(f->dir, sizeof(f->dir), "/tmp/imap-session-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    start(f, &f->a);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[100];
    stop(&f->a);
    stop(&f->b);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    if (system(command) != 0)
        return -1;
    free(f);
    return 0;
}

static struct client *client_a(void **state)
{
    return &((struct fixture *)*state)->a;
}

__attribute__((unused)) static struct client *client_b(void **state)
{
    struct fixture *f = *state;
    if (f->b.pid == 0)
        start(f, &f->b);
    return &f->b;
}

/* Appends to INBOX a message of this subject; 75 bytes and the subject's. */
__attribute__((unused)) static void append(struct client *c, const char *subject, const char *flags)
{
    static const char fields[] = "From: Fred <f@x.com>\r\nDate: 7 Feb 1994 21:52:25 -0800\r\n";
    char text[500];
    snprintf(text, sizeof(text),
        "ap APPEND INBOX (%s) \"17-Jul-1996 02:44:25 -0700\" {%zu+}\r\n"
        "%sSubject: %s\r\n\r\nhello\r\n",
        flags, strlen(fields) + strlen("Subject: \r\n\r\nhello\r\n") + strlen(subject), fields,
        subject);
    send_text(c, slice_of(text));
    /* A selected mailbox tells of it first. */
    dialog(c, "C: ");
    do
        read_line(c, text, sizeof(text));
    while (text[0] == '*');
    assert_true(matches("ap OK [APPENDUID ~] APPEND completed", text));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
