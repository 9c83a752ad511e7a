#include "brokers/logd/channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD_MAX = 16384, BATCH = 32, BATCHES_PER_WAKE = 8 };

struct channel {
    struct list link; /* among those of the writer */
    struct writer *writer;
    struct loop *loop;
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

/* Reads one batch; false when there is nothing left or the channel has ended. */
static bool receive(struct channel *c, bool *ended)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control[BATCH] = {0};
    struct mmsghdr msgs[BATCH] = {0};
    struct iovec iov[BATCH];
    char *room = loop_scratch(c->loop, (size_t)BATCH * RECORD_MAX);
    for (size_t i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){room + i * RECORD_MAX, RECORD_MAX};
        msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i],
            .msg_iovlen = 1,
            .msg_control = control[i].space,
            .msg_controllen = sizeof(control[i].space)};
    }
    int n = recvmmsg(c->fd, msgs, BATCH, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
    *ended = n < 0 && errno != EAGAIN && errno != EINTR;
    for (int i = 0; i < n && !*ended; i++) {
        *ended = msgs[i].msg_len == 0;
        if (!*ended)
            writer_add(c->writer, role_info(c->role)->program, sender_pid(&msgs[i].msg_hdr),
                slice_from(iov[i].iov_base, msgs[i].msg_len));
    }
    return n == BATCH && !*ended;
}

static void on_ready(int fd, unsigned events, void *arg)
{
    (void)fd;
    (void)events;
    struct channel *c = arg;
    bool ended = false;
    for (int i = 0; i < BATCHES_PER_WAKE && receive(c, &ended); i++)
        continue;
    if (ended)
        channel_close(c);
}

static void channel_add(struct daemon *d, enum role role, int fd)
{
    struct channel *c = NEW(struct channel);
    c->writer = d->data;
    c->loop = d->loop;
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
