/*
 * The frame of a delivery agent (server of DELIVER) with a child per recipient: the process itself
 * reads no mail; a child becomes the account for good, does what the agent's kind is for, and says
 * over a pair of sockets what came of it. A request is answered when its last recipient is through.
 *
 * A daemon's state begins with struct delivery; its main.c names the functions below.
 */
#pragma once

#include "libmail/proto/deliver.h"
#include "libutil/accounts.h"
#include "libutil/children.h"

enum { DELIVERY_CHILDREN_MAX = 20, DELIVERY_CHILDREN_EACH = 4 };

struct delivery_task;

struct delivery_kind {
    const char *name;
    size_t task_size; /* of the struct that begins with struct delivery_task */
    /* Sets account and limit_ms; true: to be run. False: has called refuse, or concluded. */
    bool (*admit)(struct delivery_task *);
    /* In the child, which is still what the agent is; answer goes to ended. */
    void (*work)(struct delivery_task *, struct buf *answer);
    /* What the child said; empty: it ended without a word. Has to conclude or to refuse. */
    void (*ended)(struct delivery_task *, struct slice answer);
    /* Logs, and concludes. */
    void (*refuse)(struct delivery_task *, enum deliver_status, const char *dsn, const char *rule,
        const char *text);
    /* Makes what was delivered durable; NULL: there is nothing to do. */
    int (*sync)(struct daemon *, struct error *);
    size_t answer_max;
};

struct delivery {
    struct daemon *daemon;
    const struct delivery_kind *kind;
    struct accounts *accounts;
    struct list jobs, waiting;
    struct children children;
    unsigned running; /* of them deliveries */
};

/* A deliver_start under way, with copies of what it said. */
struct delivery_job {
    struct list link;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    uint64_t trace, delivery, size;
    struct buf envelope_bytes, recipient_bytes, body;
    struct envelope envelope; /* into envelope_bytes */
    int fd;                   /* of a body that is not in the request */
    unsigned waiting;         /* recipients without outcome */
    struct buf outcomes;
};

/* One recipient of a job. */
struct delivery_task {
    struct list link; /* while it waits for a child */
    struct child child;
    struct delivery *agent;
    struct delivery_job *job;
    uint32_t index;
    struct recipient to; /* into the job's bytes */
    struct account account;
    int64_t limit_ms;
};

/* The state, zeroed, becomes daemon->data. ERR_IO: the accounts cannot be read. */
int delivery_configure(
    struct daemon *, struct delivery *, const struct delivery_kind *, struct error *) MUST_USE;
void delivery_clear(struct delivery *);
/* Gives the recipient its outcome; index is set here. The task is gone. */
void delivery_conclude(struct delivery_task *, struct outcome *);
/* The id under which a mailbox knows this delivery. */
static inline uint64_t delivery_id(const struct delivery_task *t)
{
    return t->job->delivery + t->index;
}

int delivery_start(struct daemon *, struct error *);
void delivery_message(struct peer *, struct ipc_in *);
void delivery_peer_down(struct peer *);
void delivery_drain(struct daemon *);
unsigned delivery_sessions(struct daemon *);
void delivery_children(struct daemon *, struct buf *out);
