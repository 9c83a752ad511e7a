/*
 * Sends MESSAGES of SIZE bytes to 127.0.0.1:PORT over CONNECTIONS at a time, pipelined as RFC 2920
 * allows, and prints the seconds until the last was accepted. Each connection carries PER
 * messages, one after another, and is then replaced by a new one; 0: it stays to the end.
 *
 *     load PORT CONNECTIONS MESSAGES PER SIZE RECIPIENT...
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum step { GREETING, HELLO, MAIL, RCPT, DATA, END, QUIT };

struct client {
    int fd;
    enum step step;
    long sent; /* messages over this connection */
    size_t have;
    char in[4096];
};

struct load {
    int poll, port;
    long wanted, begun, accepted, per;
    char *body;
    size_t body_len;
    char **recipients;
    int nrecipients;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(1);
}

static void put(struct client *c, const char *text, size_t n)
{
    while (n > 0) { /* little enough for the socket's buffer that blocking does no harm */
        ssize_t w = write(c->fd, text, n);
        if (w < 0)
            die("write", strerror(errno));
        text += w;
        n -= (size_t)w;
    }
}

static void begin_connection(struct load *l, struct client *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)l->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->step = GREETING;
    c->sent = 0;
    c->have = 0;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        die("connect", strerror(errno));
    epoll_ctl(l->poll, EPOLL_CTL_ADD, c->fd, &ev);
}

static void begin_message(struct load *l, struct client *c)
{
    char text[512];
    if (l->begun == l->wanted || (l->per && c->sent == l->per)) {
        put(c, "QUIT\r\n", 6);
        c->step = QUIT;
        return;
    }
    int n =
        snprintf(text, sizeof(text), "MAIL FROM:<bench@elsewhere.test>\r\nRCPT TO:<%s>\r\nDATA\r\n",
            l->recipients[l->begun % l->nrecipients]);
    l->begun++;
    c->sent++;
    c->step = MAIL;
    put(c, text, (size_t)n);
}

static void on_reply(struct load *l, struct client *c, const char *line)
{
    static const char want[] = {'2', '2', '2', '2', '3', '2', '2'};
    if (line[0] != want[c->step])
        die("unexpected answer", line);
    switch (c->step) {
    case GREETING:
        put(c, "EHLO bench.test\r\n", 17);
        c->step = HELLO;
        break;
    case HELLO:
        begin_message(l, c);
        break;
    case DATA:
        put(c, l->body, l->body_len);
        c->step = END;
        break;
    case END:
        l->accepted++;
        begin_message(l, c);
        break;
    case QUIT:
        close(c->fd);
        c->fd = -1;
        if (l->begun < l->wanted)
            begin_connection(l, c);
        break;
    default:
        c->step++;
    }
}

static void on_input(struct load *l, struct client *c)
{
    ssize_t n = read(c->fd, c->in + c->have, sizeof(c->in) - 1 - c->have);
    if (n <= 0)
        die("read", n ? strerror(errno) : "connection closed");
    c->have += (size_t)n;
    c->in[c->have] = '\0';
    char *line = c->in, *end;
    while ((end = strchr(line, '\n'))) {
        *end = '\0';
        if (end - line > 3 && line[3] != '-')
            on_reply(l, c, line);
        line = end + 1;
        if (c->fd < 0 || c->have == 0)
            return; /* QUIT was the last word */
    }
    c->have -= (size_t)(line - c->in);
    memmove(c->in, line, c->have);
}

static void make_body(struct load *l, size_t size)
{
    l->body = malloc(size + 512);
    int n = sprintf(l->body, "From: <bench@elsewhere.test>\r\nTo: <bench@example.test>\r\n"
                             "Subject: bench\r\nDate: Sat, 21 Nov 2026 02:00:00 +0000\r\n\r\n");
    size_t at = (size_t)n;
    while (at + 72 < size) {
        memset(l->body + at, 'x', 70);
        memcpy(l->body + at + 70, "\r\n", 2);
        at += 72;
    }
    memcpy(l->body + at, "\r\n.\r\n", 5);
    l->body_len = at + 5;
}

int main(int argc, char **argv)
{
    if (argc < 7)
        die("usage", "load PORT CONNECTIONS MESSAGES PER SIZE RECIPIENT...");
    int count = atoi(argv[2]);
    struct load l = {.poll = epoll_create1(0),
        .port = atoi(argv[1]),
        .wanted = atol(argv[3]),
        .per = atol(argv[4]),
        .recipients = argv + 6,
        .nrecipients = argc - 6};
    make_body(&l, (size_t)atol(argv[5]));
    struct client *clients = calloc((size_t)count, sizeof(*clients));
    struct epoll_event events[64];
    double started = now();
    for (int i = 0; i < count; i++)
        begin_connection(&l, &clients[i]);
    while (l.accepted < l.wanted) {
        int n = epoll_wait(l.poll, events, 64, 60000);
        if (n <= 0)
            die("epoll_wait", "nothing happened for 60 s");
        for (int i = 0; i < n; i++)
            on_input(&l, events[i].data.ptr);
    }
    printf("%.6f\n", now() - started);
    return 0;
}
