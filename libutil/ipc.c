#include "libutil/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libutil/ipc_socket.h"
#include "libutil/list.h"
#include "libutil/log.h"
#include "libutil/map.h"

enum {
    BATCHES_PER_WAKE = 8,         /* so that one busy peer does not starve the others */
    QUEUE_MAX = 32 * 1024 * 1024, /* unsent bytes; a peer that far behind is as good as dead */
    IPC_HEADER_ROOM = 32,
    SOCKET_BUFFER = 4 * 1024 * 1024 /* asked for; the kernel may give less */
};

struct call {
    struct ipc *ipc;
    uint32_t id;
    uint16_t reply;
    ipc_reply_fn *cb;
    void *arg;
    struct timer deadline;
};

struct unsent { /* a record: one message, or several that have no descriptor */
    struct list link;
    int fd;
    bool secret;
    struct buf record;
};

struct ipc {
    struct loop *loop;
    int fd;
    const struct ipc_proto *proto;
    enum ipc_side side;
    const struct ipc_ops *ops;
    void *arg;
    struct io *io;
    struct map calls;
    uint32_t next_id;
    struct list queue;
    size_t queued;
    bool greeted, dead, trace, flush_due, pack;
    unsigned busy; /* callbacks under way: freeing waits for them */
    void *decoded;
};

struct orphan { /* a call on a channel that is gone already */
    ipc_reply_fn *cb;
    void *arg;
};

static void on_ready(int fd, unsigned events, void *arg);
static void unsent_free(struct ipc *ipc, struct unsent *u);

static void trace_message(struct ipc *ipc, const char *way, const struct ipc_in *in)
{
    struct buf b;
    buf_init(&b, 4096);
    ipc_print(ipc->proto, in, &b);
    log_event(NULL, log_trace, .what = slice_of(way), .reason = buf_slice(&b));
    buf_clear(&b);
}

static void release(struct ipc *ipc)
{
    if (ipc->busy || !ipc->dead)
        return;
    free(ipc->decoded);
    map_clear(&ipc->calls);
    free(ipc);
}

static void answer(struct ipc *ipc, struct call *call, struct ipc_in *in)
{
    map_remove_id(&ipc->calls, call->id);
    timer_stop(&call->deadline);
    ipc_reply_fn *cb = call->cb;
    void *arg = call->arg;
    free(call);
    cb(in, arg);
}

/* Cuts the connection; every pending call gets NULL. The struct stays until `busy` is 0. */
static void shut(struct ipc *ipc)
{
    io_free(ipc->io);
    ipc->io = NULL;
    fd_close(&ipc->fd);
    loop_cancel(ipc->loop, ipc);
    while (!list_empty(&ipc->queue))
        unsent_free(ipc, LIST_ENTRY(ipc->queue.next, struct unsent, link));
    ipc->dead = true;
    ipc->busy++;
    void *call;
    for (size_t pos = 0; map_next(&ipc->calls, &pos, NULL, &call); pos = 0)
        answer(ipc, call, NULL);
    ipc->busy--;
}

static void fail(struct ipc *ipc, const struct error *err)
{
    if (ipc->dead)
        return;
    ipc->busy++;
    shut(ipc);
    if (err->code != ERR_CLOSED)
        log_event(NULL, log_warning, .what = SLICE_LIT("ipc"), .reason = slice_of(err->text));
    if (ipc->ops->on_close)
        ipc->ops->on_close(ipc, err, ipc->arg);
    ipc->busy--;
    release(ipc);
}

/* Failing from inside a send would call back into the sender: do it from the loop. */
static void fail_closed(void *arg)
{
    struct error err = {ERR_CLOSED, "the peer has gone"};
    fail(arg, &err);
}

static void unsent_free(struct ipc *ipc, struct unsent *u)
{
    ipc->queued -= buf_len(&u->record);
    fd_close(&u->fd);
    if (u->secret)
        buf_wipe(&u->record);
    buf_clear(&u->record);
    list_remove(&u->link);
    free(u);
}

/* Sends the first IPC_BATCH records of the queue. Returns false when no more can be sent now. */
static bool flush_batch(struct ipc *ipc)
{
    struct ipc_record records[IPC_BATCH];
    unsigned n = 0;
    for (struct list *it = ipc->queue.next; it != &ipc->queue && n < IPC_BATCH; it = it->next) {
        struct unsent *u = LIST_ENTRY(it, struct unsent, link);
        struct slice s = buf_slice(&u->record);
        records[n] = (struct ipc_record){.data = (char *)(uintptr_t)s.p, .n = s.n, .fd = u->fd};
        n++;
    }
    int sent = ipc_socket_send(ipc->fd, records, n);
    if (sent < 0) {
        loop_defer(ipc->loop, fail_closed, ipc);
        return false;
    }
    for (int i = 0; i < sent; i++)
        unsent_free(ipc, LIST_ENTRY(ipc->queue.next, struct unsent, link));
    return (unsigned)sent == n;
}

void ipc_flush(struct ipc *ipc)
{
    if (ipc->dead)
        return;
    while (!list_empty(&ipc->queue) && flush_batch(ipc))
        continue;
    io_set(ipc->io, IO_READ | (list_empty(&ipc->queue) ? 0u : IO_WRITE));
}

static void flush_deferred(void *arg)
{
    struct ipc *ipc = arg;
    ipc->flush_due = false;
    ipc_flush(ipc);
}

/* A descriptor belongs to the caller: what carries one is sent before this returns, or gets a
 * copy. All else is sent at the end of this turn of the loop, many records with one call. */
static int send_later(struct ipc *ipc, struct unsent *u)
{
    if (u->fd < 0) {
        if (!ipc->flush_due)
            loop_defer(ipc->loop, flush_deferred, ipc);
        ipc->flush_due = true;
        return OK;
    }
    int fd = u->fd, copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        u->fd = -1;
        unsent_free(ipc, u);
        return ERR_CLOSED;
    }
    u->fd = copy;
    ipc_flush(ipc);
    return OK;
}

static bool has_secret(const struct ipc *ipc, unsigned type)
{
    const struct record *rec = type ? &ipc->proto->msgs[type - 1].rec : NULL;
    for (size_t i = 0; rec && i < rec->nfields; i++)
        if (rec->fields[i].kind == FIELD_SECRET)
            return true;
    return false;
}

/* The record that waits last, when another message may go behind what it holds. */
static struct unsent *open_record(struct ipc *ipc, int fd)
{
    if (!ipc->pack || !ipc->greeted || fd >= 0 || list_empty(&ipc->queue))
        return NULL;
    struct unsent *u = LIST_ENTRY(ipc->queue.prev, struct unsent, link);
    return u->fd < 0 && buf_len(&u->record) < IPC_MAX_RECORD ? u : NULL;
}

static struct unsent *new_record(struct ipc *ipc, int fd)
{
    struct unsent *u = NEW(struct unsent);
    list_append(&ipc->queue, &u->link);
    u->fd = fd;
    buf_init(&u->record, IPC_MAX_RECORD);
    return u;
}

/* At once for the whole message, and when there is a second for all that may follow. */
static void make_room(struct ipc *ipc, struct buf *b, const struct record *rec, const void *msg)
{
    size_t n = IPC_HEADER_ROOM + record_space(rec, msg), len = buf_len(b);
    if (len > 0 && ipc->pack && b->cap - b->len < n)
        (void)buf_reserve(b, b->max - len);
    else if (n <= b->max - len)
        (void)buf_reserve(b, n);
}

/* Puts the message behind what u holds, or leaves u as it was. */
static int put_message(struct ipc *ipc, struct unsent *u, const struct ipc_in *in)
{
    size_t before = buf_len(&u->record);
    if (in->type)
        make_room(ipc, &u->record, &ipc->proto->msgs[in->type - 1].rec, in->msg);
    int rc = ipc_encode(ipc->proto, in->type, in->id, in->trace, in->msg, &u->record);
    size_t added = buf_len(&u->record) - before;
    if (!rc && ipc->queued + added > QUEUE_MAX) {
        rc = ERR_CLOSED;
        loop_defer(ipc->loop, fail_closed, ipc);
    }
    if (rc) {
        u->record.failed = false;
        buf_truncate(&u->record, before);
        return rc;
    }
    u->secret |= has_secret(ipc, in->type);
    ipc->queued += added;
    return OK;
}

/* Encodes and queues one message. On ERR_CLOSED the channel fails from the loop. */
static int transmit(
    struct ipc *ipc, unsigned type, uint32_t id, uint64_t trace, const void *msg, int fd)
{
    if (ipc->dead)
        return ERR_CLOSED;
    struct ipc_in in = {(uint16_t)type, id, trace, msg, fd};
    struct unsent *u = open_record(ipc, fd);
    int rc = u ? put_message(ipc, u, &in) : ERR_LIMIT;
    if (rc == ERR_LIMIT) {
        u = new_record(ipc, fd);
        rc = put_message(ipc, u, &in);
        if (rc) {
            u->fd = -1;
            unsent_free(ipc, u);
        }
    }
    if (rc && rc != ERR_CLOSED)
        log_event(NULL, log_trouble, .what = slice_of(ipc->proto->name),
            .reason = SLICE_LIT("a message over its limits was not sent"));
    if (rc)
        return rc;
    if (ipc->trace)
        trace_message(ipc, "ipc send", &in);
    return send_later(ipc, u);
}

void ipc_pack(struct ipc *ipc)
{
    ipc->pack = true;
}

struct ipc *ipc_new(struct loop *loop, int fd, const struct ipc_proto *proto, enum ipc_side side,
    const struct ipc_ops *ops, void *arg)
{
    struct ipc *ipc = NEW(struct ipc);
    int size = SOCKET_BUFFER;
    ipc->loop = loop;
    ipc->fd = fd;
    ipc->proto = proto;
    ipc->side = side;
    ipc->ops = ops;
    ipc->arg = arg;
    ipc->trace = log_tracing("ipc");
    ipc->decoded = xcalloc(1, ipc_proto_max_size(proto));
    map_init(&ipc->calls);
    list_init(&ipc->queue);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    ipc->io = io_new(loop, fd, IO_READ, on_ready, ipc);
    transmit(ipc, 0, 0, 0, NULL, -1);
    return ipc;
}

void ipc_free(struct ipc *ipc)
{
    if (!ipc || ipc->dead)
        return;
    shut(ipc);
    release(ipc);
}

/* --- receiving ------------------------------------------------------------------------------ */

static int take_reply(struct ipc *ipc, struct ipc_in *in, struct error *err)
{
    struct call *call = map_get_id(&ipc->calls, in->id);
    if (!call)
        return OK; /* cancelled, or its deadline has passed */
    if (call->reply != in->type)
        return error_set(
            err, ERR_SYNTAX, "%s: reply of the wrong type %u", ipc->proto->name, in->type);
    answer(ipc, call, in);
    return OK;
}

static bool is_reply(const struct ipc_proto *proto, uint16_t type)
{
    for (size_t i = 0; i < proto->nmsgs; i++)
        if (proto->msgs[i].reply == type)
            return true;
    return false;
}

static int dispatch(struct ipc *ipc, struct ipc_in *in, struct error *err)
{
    if (ipc->trace)
        trace_message(ipc, "ipc receive", in);
    if (in->type == 0) {
        ipc->greeted = true;
        return OK;
    }
    if (!ipc->greeted)
        return error_set(err, ERR_SYNTAX, "%s: message before greeting", ipc->proto->name);
    if (is_reply(ipc->proto, in->type))
        return take_reply(ipc, in, err);
    if (!ipc->ops->on_message)
        return error_set(err, ERR_DENIED, "%s: nothing is expected here", ipc->proto->name);
    ipc->ops->on_message(ipc, in, ipc->arg);
    return OK;
}

/* One message of a record that holds nothing else, or no descriptor. */
static int handle(struct ipc *ipc, struct slice message, int *fd, struct error *err)
{
    struct ipc_in in = {0};
    int rc = ipc_decode(ipc->proto, ipc->side, message, *fd >= 0, &in, ipc->decoded, err);
    if (rc)
        return rc;
    in.fd = *fd;
    rc = dispatch(ipc, &in, err);
    *fd = in.fd;
    if (has_secret(ipc, in.type))
        explicit_bzero((char *)(uintptr_t)message.p, message.n);
    return rc;
}

static int handle_record(struct ipc *ipc, struct ipc_record *r, struct error *err)
{
    if (r->code != OK)
        return error_set(err, r->code, "%s: malformed record", ipc->proto->name);
    struct slice rest = slice_from(r->data, r->n);
    int rc = OK;
    while (rc == OK && rest.n && !ipc->dead) {
        struct slice message = ipc_cut(&rest);
        if (rest.n && r->fd >= 0)
            return error_set(
                err, ERR_SYNTAX, "%s: a descriptor with several messages", ipc->proto->name);
        rc = handle(ipc, message, &r->fd, err);
    }
    return rc;
}

/* Receives and handles one batch; *more: there may be others. */
static int receive_batch(struct ipc *ipc, char *room, bool *more, struct error *err)
{
    struct ipc_record records[IPC_BATCH];
    for (unsigned i = 0; i < IPC_BATCH; i++)
        records[i] = (struct ipc_record){
            .data = room + (size_t)i * IPC_MAX_RECORD, .n = IPC_MAX_RECORD, .fd = -1};
    int n = ipc_socket_receive(ipc->fd, records, IPC_BATCH);
    if (n < 0)
        return error_set(err, n, "%s: the peer has gone", ipc->proto->name);
    int rc = OK;
    for (int i = 0; i < n; i++) {
        if (rc == OK && !ipc->dead)
            rc = handle_record(ipc, &records[i], err);
        fd_close(&records[i].fd);
    }
    *more = n == IPC_BATCH;
    return rc;
}

static void on_ready(int fd, unsigned events, void *arg)
{
    struct ipc *ipc = arg;
    struct error err = {0};
    int rc = OK;
    bool more = true;
    (void)fd;
    ipc->busy++;
    if (events & IO_WRITE)
        ipc_flush(ipc);
    if (events & IO_READ) {
        char *room = loop_scratch(ipc->loop, (size_t)IPC_BATCH * IPC_MAX_RECORD);
        for (int i = 0; i < BATCHES_PER_WAKE && more && rc == OK && !ipc->dead; i++)
            rc = receive_batch(ipc, room, &more, &err);
    }
    if (rc != OK)
        fail(ipc, &err);
    ipc->busy--;
    release(ipc);
}

/* --- calls ---------------------------------------------------------------------------------- */

static void call_timed_out(void *arg)
{
    struct call *call = arg;
    struct ipc *ipc = call->ipc;
    ipc->busy++;
    answer(ipc, call, NULL);
    ipc->busy--;
    release(ipc);
}

static void answer_orphan(void *arg)
{
    struct orphan o = *(struct orphan *)arg;
    free(arg);
    o.cb(NULL, o.arg);
}

uint32_t ipc_call(struct ipc *ipc, unsigned type, uint64_t trace, const void *msg, int fd,
    ipc_reply_fn *cb, void *arg)
{
    if (ipc->dead) {
        struct orphan *o = NEW(struct orphan);
        *o = (struct orphan){cb, arg};
        loop_defer(ipc->loop, answer_orphan, o);
        return 0;
    }
    const struct ipc_msg *m = &ipc->proto->msgs[type - 1];
    assert(m->reply && (m->from & ipc->side));
    struct call *call = NEW(struct call);
    *call = (struct call){.ipc = ipc, .reply = m->reply, .cb = cb, .arg = arg};
    do
        call->id = ++ipc->next_id;
    while (call->id == 0 || map_get_id(&ipc->calls, call->id));
    map_set_id(&ipc->calls, call->id, call);
    timer_init(&call->deadline, ipc->loop, call_timed_out, call);
    uint32_t id = call->id;
    int rc = transmit(ipc, type, id, trace, msg, fd);
    if (rc != OK)
        timer_start(&call->deadline, 0);
    else if (m->deadline_ms)
        timer_start(&call->deadline, m->deadline_ms);
    return id;
}

size_t ipc_pending(const struct ipc *ipc)
{
    return map_count(&ipc->calls);
}

void ipc_cancel(struct ipc *ipc, uint32_t id)
{
    struct call *call = map_remove_id(&ipc->calls, id);
    if (!call)
        return;
    timer_stop(&call->deadline);
    free(call);
}

int ipc_send(struct ipc *ipc, unsigned type, uint64_t trace, const void *msg, int fd)
{
    return transmit(ipc, type, 0, trace, msg, fd);
}

int ipc_reply(struct ipc *ipc, uint32_t id, uint64_t trace, unsigned type, const void *msg, int fd)
{
    return transmit(ipc, type, id, trace, msg, fd);
}
