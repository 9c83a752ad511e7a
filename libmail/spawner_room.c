/* What sessions ask about folders of others, and have done with them. A session is not believed:
 * what it may ask about is read from the owner's summary, as at a login. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmail/proto/room.h"
#include "libmail/spawner_parts.h"

/* A question that an agent is answering. */
struct question {
    struct list link;            /* in spawner_child.questions */
    struct spawner_child *child; /* NULL: it has ended */
    uint32_t id;
    struct spawner *spawner; /* of a change: */
    char *owner;
};

/* NULL: nobody can tell. */
static void answer(struct spawner_child *c, uint32_t id, const struct quota_answer *a)
{
    struct room_answer m = {.verdict = QUOTA_UNKNOWN};
    if (a)
        m = (struct room_answer){
            a->verdict, a->used_bytes, a->used_messages, a->max_bytes, a->max_messages};
    (void)!ipc_reply(c->room, id, c->trace, room_answer_type, &m, -1);
}

static void on_verdict(struct ipc_in *in, void *arg)
{
    struct question *q = arg;
    const struct quota_answer *m = in ? in->msg : NULL;
    if (q->child) {
        list_remove(&q->link);
        answer(q->child, q->id, m);
    }
    free(q);
}

static struct question *question_new(struct spawner_child *c, uint32_t id)
{
    struct question *q = NEW(struct question);
    q->child = c;
    q->id = id;
    list_append(&c->questions, &q->link);
    return q;
}

static void ask_room(struct spawner_child *c, uint32_t id, const struct room_ask *m)
{
    struct buf mail;
    buf_init(&mail, 16384);
    if (!shares_allow(c->spawner, c->user, m->owner, m->directory, &mail)) {
        answer(c, id, NULL);
    } else {
        const struct quota_ask ask = {.mail = buf_slice(&mail),
            .folder = m->folder,
            .size = m->bytes,
            .messages = m->messages,
            .append = true};
        daemon_call(c->spawner->daemon, CONV_QUOTA, ROLE_VIRTUAL, quota_ask_type, c->trace, &ask,
            -1, on_verdict, question_new(c, id));
    }
    buf_clear(&mail);
}

static void answer_change(struct spawner_child *c, uint32_t id, int64_t code, uint64_t mailbox)
{
    const struct room_changed m = {code, mailbox};
    (void)!ipc_reply(c->room, id, c->trace, room_changed_type, &m, -1);
}

static void on_done(struct ipc_in *in, void *arg)
{
    struct question *q = arg;
    const struct share_done *m = in ? in->msg : NULL;
    if (m && m->code == OK)
        shares_renew(q->spawner, slice_of(q->owner));
    if (q->child) {
        list_remove(&q->link);
        answer_change(q->child, q->id, m ? m->code : ERR_TEMP, m ? m->mailbox : 0);
    }
    free(q->owner);
    free(q);
}

/* Whose session it is, the session does not say. */
static void ask_change(struct spawner_child *c, uint32_t id, const struct room_change *m)
{
    struct buf mail;
    buf_init(&mail, 16384);
    if (!shares_allow(c->spawner, c->user, m->owner, m->directory, &mail)) {
        answer_change(c, id, ERR_NOT_FOUND, 0);
    } else {
        const struct share_ask ask = {.mail = buf_slice(&mail),
            .user = slice_of(c->user),
            .verb = m->verb,
            .folder = m->folder,
            .other = m->other,
            .how = m->how,
            .rights = m->rights};
        struct question *q = question_new(c, id);
        q->spawner = c->spawner;
        q->owner = xmemdup0(m->owner.p, m->owner.n);
        daemon_call(c->spawner->daemon, CONV_SHARE, ROLE_VIRTUAL, share_ask_type, c->trace, &ask,
            -1, on_done, q);
    }
    buf_clear(&mail);
}

static void on_question(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    if (in->type == room_ask_type)
        ask_room(arg, in->id, in->msg);
    else
        ask_change(arg, in->id, in->msg);
}

static void forget_questions(struct spawner_child *c)
{
    LIST_EACH(it, &c->questions)
    {
        struct question *q = LIST_ENTRY(it, struct question, link);
        list_remove(&q->link);
        q->child = NULL;
    }
}

static void on_close(struct ipc *ipc, const struct error *why, void *arg)
{
    struct spawner_child *c = arg;
    (void)ipc;
    (void)why;
    c->room = NULL;
    forget_questions(c);
}

int room_open(const struct spawner *s, int ends[2])
{
    struct stat st;
    ends[0] = ends[1] = -1;
    /* Without shares nobody has questions. */
    if (s->wake[1] < 0 || fstatat(s->root_fd, SHARES_REGISTRY, &st, AT_SYMLINK_NOFOLLOW))
        return OK;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) ? ERR_IO : OK;
}

void room_serve(struct spawner_child *c, int fd)
{
    static const struct ipc_ops ops = {on_question, on_close};
    list_init(&c->questions);
    c->room =
        fd < 0 ? NULL : ipc_new(c->spawner->daemon->loop, fd, &room_proto, IPC_SERVER, &ops, c);
}

void room_close(struct spawner_child *c)
{
    if (c->room)
        ipc_free(c->room);
    c->room = NULL;
    forget_questions(c);
}
