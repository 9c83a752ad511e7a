#include "brokers/logd/channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD_MAX = 16384, RECORDS_PER_WAKE = 256 };

struct channel {
    struct list link; /* among those of the writer */
    struct writer *writer;
    enum role role;
    int fd;
    struct io *io;
};

/* The sender as the kernel saw it (SO_PASSCRED), or 0. */
static int sender_pid(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        struct ucred cred;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS)
            continue;
        memcpy(&cred, CMSG_DATA(c), sizeof(cred));
        return cred.pid;
    }
    return 0;
}

static void channel_close(struct channel *c)
{
    list_remove(&c->link);
    io_free(c->io);
    fd_close(&c->fd);
    free(c);
}

/* Reads one record; false when there is none left or the channel has ended. */
static bool receive(struct channel *c, bool *ended)
{
    char data[RECORD_MAX] __attribute__((uninitialized));
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec iov = {data, sizeof(data)};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        *ended = n == 0 || (errno != EAGAIN && errno != EINTR);
        return false;
    }
    writer_add(
        c->writer, role_info(c->role)->program, sender_pid(&msg), slice_from(data, (size_t)n));
    return true;
}

static void on_ready(int fd, unsigned events, void *arg)
{
    (void)fd;
    (void)events;
    struct channel *c = arg;
    bool ended = false;
    for (int i = 0; i < RECORDS_PER_WAKE && receive(c, &ended); i++)
        continue;
    if (ended)
        channel_close(c);
}

static void channel_add(struct daemon *d, enum role role, int fd)
{
    struct channel *c = NEW(struct channel);
    c->writer = d->data;
    c->role = role;
    c->fd = fd;
    c->io = io_new(d->loop, fd, IO_READ, on_ready, c);
    list_append(writer_channels(c->writer), &c->link);
}

void channel_read_all(struct daemon *d)
{
    bool ended;
    LIST_EACH(it, writer_channels(d->data))
    while (receive(LIST_ENTRY(it, struct channel, link), &ended))
        continue;
}

void channel_up(struct peer *peer)
{
    channel_add(peer->daemon, peer->role, peer->fd);
    peer->fd = -1;
}

int channel_own(struct daemon *d, struct error *err)
{
    int pair[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_sys(err, "socketpair");
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
    channel_add(d, ROLE_LOGD, pair[1]);
    log_set_fd(pair[0]);
    return OK;
}
