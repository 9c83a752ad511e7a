#include "libutil/ipc_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/error.h"

union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(4 * sizeof(int))];
};

int ipc_socket_send(int sock, struct slice record, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)record.p, record.n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control = {0};
    if (fd >= 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return OK;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
        return ERR_AGAIN;
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

int ipc_socket_receive(int sock, char *data, size_t size, size_t *n, int *fd)
{
    union control control;
    struct iovec iov = {data, size};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space)};
    *fd = -1;
    ssize_t got;
    do
        got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? ERR_AGAIN : ERR_CLOSED;
    int count = take_fds(&msg, fd);
    if (count > 1 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        fd_close(fd);
        return ERR_SYNTAX;
    }
    if (got == 0) {
        fd_close(fd);
        return ERR_CLOSED;
    }
    *n = (size_t)got;
    return OK;
}
