#include "qmgr/admin.h"

enum { PAGE_BYTES = 50000 };

/* As many whole records from byte `from` on as fit; *next is where to go on, or 0. */
static struct slice page_of(struct slice attempts, uint32_t from, uint32_t *next)
{
    struct slice rest = slice_from_index(attempts, MIN((size_t)from, attempts.n));
    struct reader r = reader_of(rest);
    struct queue_attempt a;
    size_t n = 0;
    *next = 0;
    while (r.rest.n && record_get(&r, &queue_attempt_record, &a) == OK) {
        size_t end = rest.n - r.rest.n;
        if (end > PAGE_BYTES) {
            *next = from + (uint32_t)n;
            break;
        }
        n = end;
    }
    return slice_first(rest, n);
}

void admin_history(struct peer *peer, struct ipc_in *in)
{
    const struct queue_history *msg = in->msg;
    struct qmgr *q = peer->daemon->data;
    struct message *m = admin_find(q, msg->qid);
    struct queue_past reply = {.code = ERR_NOT_FOUND, .attempts = SLICE_LIT("")};
    struct slice attempts;
    struct error err;
    if (m)
        reply.code = admin_look_attempts(peer, m, &attempts, &reply.partial, &err);
    if (reply.code == ERR_AGAIN) {
        admin_wait(peer, in, m);
        return;
    }
    if (m && reply.code == OK)
        reply.attempts = page_of(attempts, msg->from, &reply.next);
    ipc_reply(peer->ipc, in->id, msg->qid, queue_past_type, &reply, -1);
}
