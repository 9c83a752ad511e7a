/*
 * The way of a message over one connection, with no work done on it: a client sends as much as for
 * MAIL, RCPT and DATA, gets an answer, and sends a message of SIZE bytes; a server hands it over a
 * Unix socket to a third process, which appends RECORD bytes to a file in DIR that was written in
 * full before and syncs it; the answers go back. What is left of a message's time is ours to save.
 * Prints microseconds a message, of MESSAGES.
 *
 *     hops DIR SIZE RECORD MESSAGES
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LOG_SIZE = 64 << 20, COMMANDS = 90, REPLIES = 60, ANSWER = 30, BLOCK = 4096 };

static char zeros[1 << 20] __attribute__((aligned(BLOCK)));
static size_t size, record;

static void die(const char *what)
{
    fprintf(stderr, "hops: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* An epoll for one descriptor: our processes wait so, too. */
static int watch(int fd)
{
    int poll = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &ev))
        die("epoll");
    return poll;
}

/* Reads n bytes; the other side has gone: ends the process. */
static void take(int poll, int fd, size_t n)
{
    static char into[1 << 20];
    struct epoll_event ev;
    while (n > 0) {
        if (epoll_wait(poll, &ev, 1, -1) != 1)
            die("epoll_wait");
        ssize_t got = read(fd, into, n < sizeof(into) ? n : sizeof(into));
        if (got <= 0)
            exit(0);
        n -= (size_t)got;
    }
}

static void give(int fd, size_t n)
{
    if (write(fd, zeros, n) != (ssize_t)n)
        die("write");
}

static int open_log(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/hops-log", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die(path);
    unlink(path);
    for (off_t at = 0; at < LOG_SIZE; at += (off_t)sizeof(zeros))
        if (pwrite(fd, zeros, sizeof(zeros), at) != (ssize_t)sizeof(zeros))
            die(path);
    if (fsync(fd))
        die(path);
    fcntl(fd, F_SETFL, O_DIRECT); /* where there is such a thing */
    return fd;
}

static void store(int log, int in)
{
    size_t n = (record + BLOCK - 1) / BLOCK * BLOCK;
    int poll = watch(in);
    for (off_t at = 0;; at = at + 2 * (off_t)n > LOG_SIZE ? 0 : at + (off_t)n) {
        take(poll, in, record);
        if (pwrite(log, zeros, n, at) != (ssize_t)n || fdatasync(log))
            die("writing");
        give(in, ANSWER);
    }
}

static void serve(int listener, int out)
{
    int one = 1, client = accept(listener, NULL, NULL);
    if (client < 0)
        die("accept");
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int from_client = watch(client), from_store = watch(out);
    for (;;) {
        take(from_client, client, COMMANDS);
        give(client, REPLIES);
        take(from_client, client, size);
        give(out, record);
        take(from_store, out, ANSWER);
        give(client, ANSWER);
    }
}

static int listen_somewhere(struct sockaddr_in *at)
{
    socklen_t len = sizeof(*at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || bind(fd, (struct sockaddr *)at, len) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)at, &len))
        die("listening");
    return fd;
}

static double send_messages(const struct sockaddr_in *to, long messages)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int poll = watch(fd);
    double begun = now();
    for (long i = 0; i < messages; i++) {
        give(fd, COMMANDS);
        take(poll, fd, REPLIES);
        give(fd, size);
        take(poll, fd, ANSWER);
    }
    return (now() - begun) / (double)messages;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at;
    int pair[2];
    if (argc != 5)
        die("usage: hops DIR SIZE RECORD MESSAGES");
    size = strtoul(argv[2], NULL, 10);
    record = strtoul(argv[3], NULL, 10);
    long messages = atol(argv[4]);
    if (size > sizeof(zeros) / 4 || record > sizeof(zeros) / 4 || messages < 1)
        die("too large, or no messages");
    int log = open_log(argv[1]), listener = listen_somewhere(&at);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        die("socketpair");
    for (int i = 0; i < 2; i++) {
        if (fork() != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[1 - i]);
        if (i == 0)
            store(log, pair[0]);
        else
            serve(listener, pair[1]);
    }
    close(pair[0]);
    close(pair[1]);
    printf("%.0f\n", 1e6 * send_messages(&at, messages));
    return 0;
}
