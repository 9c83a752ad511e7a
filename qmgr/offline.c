#include "qmgr/offline.h"

#include <fcntl.h>
#include <unistd.h>

#include "libmail/proto/queue.h"
#include "qmgr/qmgr.h"

static void found_message(struct spool_found *found, void *arg)
{
    struct qmgr *q = arg;
    struct message *m = message_new(found->qid, found->accept.size);
    struct error err;
    if (message_load_found(m, found, &err) != OK || queue_add(q, m) != OK) {
        fprintf(stderr, "qmgr: an accepted message with a malformed envelope\n");
        message_free(m);
    }
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct message *m = message_new(qid, size);
    m->parked = true;
    m->held = due == 0;
    m->due_wall = due;
    if (queue_add(arg, m) != OK)
        message_free(m);
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    (void)arg;
    fprintf(stderr, "qmgr: %s: %s\n", what, reason);
}

static void on_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    admin_message(arg, in);
}

static void on_close(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc, (void)err;
    struct peer *peer = arg;
    loop_stop(peer->daemon->loop);
}

static void serve(struct qmgr *q, int fd)
{
    static const struct ipc_ops ops = {on_message, on_close};
    struct peer peer = {
        .daemon = q->daemon, .conv = CONV_QUEUE, .side = IPC_SERVER, .role = ROLE_CTL, .fd = -1};
    peer.ipc = ipc_new(q->loop, fd, &queue_proto, IPC_SERVER, &ops, &peer);
    loop_run(q->loop);
}

static void forget_all(struct qmgr *q)
{
    void *value;
    for (size_t pos = 0; map_next(&q->messages, &pos, NULL, &value);)
        message_free(value);
    map_clear(&q->messages);
}

int offline_serve(const char *directory, int fd)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    struct error err = {.text = ""};
    struct daemon daemon = {.loop = loop_new()};
    struct qmgr q = {.daemon = &daemon, .loop = daemon.loop, .log = &daemon.log};
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    daemon.data = &q;
    map_init(&q.messages);
    list_init(&q.all);
    list_init(&q.awaited);
    int rc = OK;
    if (dir < 0) {
        rc = error_sys(&err, "%s", directory);
    } else {
        q.disk = disk_posix_read_only(dir);
        rc = spool_peek(q.disk, &ops, &q, &err);
        if (rc == OK)
            serve(&q, fd);
        disk_posix_free(q.disk);
    }
    if (rc != OK)
        fprintf(stderr, "qmgr: %s\n", err.text);
    forget_all(&q);
    loop_free(q.loop);
    return rc != OK;
}
