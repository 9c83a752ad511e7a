#include "libutil/ipc_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/error.h"

union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(4 * sizeof(int))];
};

static void attach(struct msghdr *msg, union control *control, int fd)
{
    memset(control, 0, sizeof(*control));
    msg->msg_control = control->space;
    msg->msg_controllen = CMSG_SPACE(sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
}

int ipc_socket_send(int sock, const struct ipc_record *records, unsigned n)
{
    struct mmsghdr msgs[IPC_BATCH];
    struct iovec iov[IPC_BATCH];
    union control control[IPC_BATCH] __attribute__((uninitialized));
    n = MIN(n, (unsigned)IPC_BATCH);
    memset(msgs, 0, n * sizeof(*msgs));
    for (unsigned i = 0; i < n; i++) {
        iov[i] = (struct iovec){records[i].data, records[i].n};
        msgs[i].msg_hdr.msg_iov = &iov[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
        if (records[i].fd >= 0)
            attach(&msgs[i].msg_hdr, &control[i], records[i].fd);
    }
    int sent;
    do
        sent = sendmmsg(sock, msgs, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
        return 0;
    return errno == EMSGSIZE ? ERR_LIMIT : ERR_CLOSED;
}

/* Takes the first descriptor and closes the others; returns how many there were. */
static int take_fds(struct msghdr *msg, int *fd)
{
    int count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (count++ == 0)
                *fd = got;
            else
                close(got);
        }
    }
    return count;
}

static void take_record(struct ipc_record *r, struct mmsghdr *m)
{
    r->fd = -1;
    r->n = m->msg_len;
    r->code = OK;
    int count = take_fds(&m->msg_hdr, &r->fd);
    if (count > 1 || (m->msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        fd_close(&r->fd);
        r->code = ERR_SYNTAX;
    }
}

int ipc_socket_receive(int sock, struct ipc_record *records, unsigned n)
{
    struct mmsghdr msgs[IPC_BATCH];
    struct iovec iov[IPC_BATCH];
    union control control[IPC_BATCH] __attribute__((uninitialized));
    n = MIN(n, (unsigned)IPC_BATCH);
    memset(msgs, 0, n * sizeof(*msgs));
    for (unsigned i = 0; i < n; i++) {
        iov[i] = (struct iovec){records[i].data, records[i].n};
        msgs[i].msg_hdr.msg_iov = &iov[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
        msgs[i].msg_hdr.msg_control = control[i].space;
        msgs[i].msg_hdr.msg_controllen = sizeof(control[i].space);
    }
    int got;
    do
        got = recvmmsg(sock, msgs, n, MSG_CMSG_CLOEXEC, NULL);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : ERR_CLOSED;
    int taken = 0;
    /* An empty record is the end of the stream: nobody sends one on purpose. */
    while (taken < got && msgs[taken].msg_len > 0) {
        take_record(&records[taken], &msgs[taken]);
        taken++;
    }
    return taken == 0 && got > 0 ? ERR_CLOSED : taken;
}
