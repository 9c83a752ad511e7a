/*
 * An SMTP server on 127.0.0.1:PORT that accepts everything and stores nothing: what is left of
 * SMTP when there is no mail system behind it, and a place for mail to leave to. The number of
 * messages accepted stands in the first eight bytes of the file COUNT.
 *
 *     sink PORT COUNT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    int fd;
    bool data, gone;
    size_t have, out_len;
    char in[65536], out[8192];
};

static uint64_t *accepted;

static void die(const char *what)
{
    fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void reply(struct client *c, const char *text)
{
    size_t n = strlen(text);
    if (c->out_len + n < sizeof(c->out)) {
        memcpy(c->out + c->out_len, text, n);
        c->out_len += n;
    }
}

static void command(struct client *c, const char *line)
{
    static const struct {
        const char *verb, *reply;
    } verbs[] = {
        {"EHLO", "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n"},
        {"MAIL", "250 2.1.0 Ok\r\n"},
        {"RCPT", "250 2.1.5 Ok\r\n"},
        {"DATA", "354 Go on\r\n"},
        {"QUIT", "221 2.0.0 Bye\r\n"},
        {"", "250 2.0.0 Ok\r\n"},
    };
    size_t i = 0;
    while (strncasecmp(line, verbs[i].verb, strlen(verbs[i].verb)) != 0)
        i++;
    reply(c, verbs[i].reply);
    c->data = verbs[i].verb[0] == 'D';
    c->gone = verbs[i].verb[0] == 'Q';
}

/* Returns how many bytes of the content were used. */
static size_t content(struct client *c, const char *p, size_t n)
{
    const char *end = memmem(p, n, "\r\n.\r\n", 5);
    if (!end)
        return n > 4 ? n - 4 : 0; /* the end may begin here */
    c->data = false;
    ++*accepted;
    reply(c, "250 2.0.0 Ok: not stored\r\n");
    return (size_t)(end - p) + 5;
}

/* Returns how many bytes were used, 0 when a whole line is missing. */
static size_t next_line(struct client *c, char *p, size_t n)
{
    char *end = memchr(p, '\n', n);
    if (!end)
        return 0;
    *end = '\0';
    command(c, p);
    return (size_t)(end - p) + 1;
}

static void on_input(struct client *c)
{
    ssize_t n = read(c->fd, c->in + c->have, sizeof(c->in) - c->have);
    c->gone = n <= 0;
    c->have += n > 0 ? (size_t)n : 0;
    char *p = c->in;
    size_t rest = c->have, used;
    while (rest && !c->gone && (used = c->data ? content(c, p, rest) : next_line(c, p, rest))) {
        p += used;
        rest -= used;
    }
    memmove(c->in, p, rest);
    c->have = rest;
    c->gone |= c->out_len && write(c->fd, c->out, c->out_len) < 0;
    c->out_len = 0;
    if (c->gone) {
        close(c->fd);
        free(c);
    }
}

static void on_connect(int poll, int listener)
{
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct client *c = calloc(1, sizeof(*c));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &ev);
    if (write(fd, "220 sink.test ESMTP\r\n", 21) < 0)
        c->gone = true; /* its end is read next */
}

int main(int argc, char **argv)
{
    if (argc != 3)
        die("usage: sink PORT COUNT");
    int count = open(argv[2], O_RDWR | O_CREAT, 0644), one = 1;
    if (count < 0 || ftruncate(count, sizeof(*accepted)))
        die(argv[2]);
    accepted = mmap(NULL, sizeof(*accepted), PROT_READ | PROT_WRITE, MAP_SHARED, count, 0);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), poll = epoll_create1(0);
    struct sockaddr_in at = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(argv[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (accepted == MAP_FAILED || bind(listener, (struct sockaddr *)&at, sizeof(at)) ||
        listen(listener, 4096))
        die("listen");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, events[64];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        int n = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                on_input(events[i].data.ptr);
            else
                on_connect(poll, listener);
    }
}
