#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "libutil/ipc.h"
#include "libutil/ipc_socket.h"

int ipc_sync_open(struct ipc_sync *s, int fd, const struct ipc_proto *proto, enum ipc_side side,
    struct error *err)
{
    *s = (struct ipc_sync){.fd = fd, .side = side, .proto = proto};
    s->rx = xrealloc(NULL, IPC_MAX_RECORD, 1);
    s->decoded = xcalloc(1, ipc_proto_max_size(proto));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    int rc = ipc_sync_send(s, 0, 0, 0, NULL, -1, err);
    if (rc)
        ipc_sync_close(s);
    return rc;
}

void ipc_sync_close(struct ipc_sync *s)
{
    fd_close(&s->fd);
    if (s->rx)
        explicit_bzero(s->rx, IPC_MAX_RECORD);
    free(s->rx);
    free(s->decoded);
    s->rx = NULL;
    s->decoded = NULL;
}

static int send_one(struct ipc_sync *s, struct slice record, int fd, struct error *err)
{
    struct ipc_record r = {.data = (char *)(uintptr_t)record.p, .n = record.n, .fd = fd};
    int sent = ipc_socket_send(s->fd, &r, 1);
    if (sent == 1)
        return OK;
    return error_set(err, sent < 0 ? sent : ERR_AGAIN, "%s: the peer %s", s->proto->name,
        sent < 0 ? "has gone" : "does not read");
}

int ipc_sync_send(struct ipc_sync *s, unsigned type, uint64_t trace, uint32_t id, const void *msg,
    int fd, struct error *err)
{
    struct buf b;
    buf_init(&b, IPC_MAX_RECORD);
    int rc = ipc_encode(s->proto, type, id, trace, msg, &b);
    if (rc)
        error_set(err, rc, "%s: a message is over its limits", s->proto->name);
    else
        rc = send_one(s, buf_slice(&b), fd, err);
    buf_wipe(&b);
    return rc;
}

/* Waits until the socket is readable or the time is over. */
static int wait_readable(struct ipc_sync *s, int64_t until, struct error *err)
{
    for (;;) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        int64_t left = until < 0 ? -1 : until - monotonic_ms();
        int n = poll(&p, 1, until < 0 ? -1 : (int)MIN(MAX(left, 0), 3600000));
        if (n > 0)
            return OK;
        if (n == 0)
            return error_set(err, ERR_TIMEOUT,
                "%s: no answer in time: the process hangs, or has very much to do", s->proto->name);
        if (errno != EINTR)
            return error_sys(err, "poll");
    }
}

static int receive_until(struct ipc_sync *s, int64_t until, struct ipc_in *in, struct error *err)
{
    for (;;) {
        int rc = wait_readable(s, until, err);
        if (rc)
            return rc;
        struct ipc_record r = {.data = s->rx, .n = IPC_MAX_RECORD, .fd = -1};
        int n = ipc_socket_receive(s->fd, &r, 1);
        if (n == 0)
            continue;
        if (n < 0 || r.code != OK)
            return error_set(err, n < 0 ? n : r.code, "%s: the peer has gone", s->proto->name);
        rc = ipc_decode(s->proto, s->side, slice_from(r.data, r.n), r.fd >= 0, in, s->decoded, err);
        if (rc)
            fd_close(&r.fd);
        in->fd = r.fd;
        if (rc || in->type != 0)
            return rc;
    }
}

int ipc_sync_receive(struct ipc_sync *s, int timeout_ms, struct ipc_in *in, struct error *err)
{
    return receive_until(s, timeout_ms < 0 ? -1 : monotonic_ms() + timeout_ms, in, err);
}

int ipc_sync_call(struct ipc_sync *s, unsigned type, uint64_t trace, const void *msg, int fd,
    struct ipc_in *in, struct error *err)
{
    const struct ipc_msg *m = &s->proto->msgs[type - 1];
    uint32_t id = ++s->next_id ? s->next_id : ++s->next_id;
    int rc = ipc_sync_send(s, type, trace, id, msg, fd, err);
    int64_t until = m->deadline_ms ? monotonic_ms() + m->deadline_ms : -1;
    while (rc == OK) {
        rc = receive_until(s, until, in, err);
        if (rc == OK && in->type == m->reply && in->id == id)
            return OK;
        if (rc == OK)
            fd_close(&in->fd);
    }
    return rc;
}
