/* What the parts of queue administration share. */
#pragma once

#include "qmgr/qmgr.h"

/* A message with content for looking at: the one in the queue, or a copy read from its file.
 * peek_end after use. */
struct peek {
    struct message *m, *copy;
};

bool peek_begin(struct qmgr *, struct message *, struct peek *, struct error *);
void peek_end(struct peek *);
/* NULL: unknown, or deleted. */
struct message *admin_find(struct qmgr *, uint64_t qid);
/* Nothing is under way with it, so it may be settled or changed. */
bool admin_idle(const struct message *);

/* m with its content, for one page of what a peer's command looks at, until the loop runs again;
 * anew: the first page. NULL: it cannot be read. */
struct message *admin_look(struct peer *, struct message *m, bool anew, struct error *);
/* All attempts so far, packed queue_attempt, oldest first; valid as long. */
int admin_look_attempts(
    struct peer *, struct message *m, bool anew, struct slice *attempts, struct error *) MUST_USE;
void admin_look_down(struct peer *);

/* What a listing calls the message's state. */
const char *admin_state(const struct message *);

/* queue_shape. */
void admin_shape(struct peer *, struct ipc_in *);
/* queue_history. */
void admin_history(struct peer *, struct ipc_in *);
/* queue_act. */
void admin_act(struct peer *, struct ipc_in *);
/* Everything that waits for the domain is due now (ETRN); answers the peer's request when it has
 * gone through the queue. */
void admin_etrn(struct peer *, uint32_t id, struct slice domain);

/* All were looked at, or qmgr stops. */
struct sweep_end {
    struct qmgr *q;
    struct peer *peer; /* NULL: it has gone */
    uint32_t id;       /* of its request */
    int64_t uid;
    struct slice argument;
    uint64_t count; /* act said true */
    void *arg;
};

/* Something to be done with every message. */
struct sweep_ops {
    bool (*act)(struct qmgr *, struct message *, struct slice argument, void *arg);
    void (*done)(const struct sweep_end *);
    void *arg;
};
void admin_sweep(
    struct qmgr *, struct peer *, uint32_t id, struct slice argument, const struct sweep_ops *);
void admin_sweep_peer_down(struct peer *);
/* Who acts: a user, or (uid -1) something with a name. act: of one command, or 0. */
struct actor {
    int64_t uid;
    uint64_t act;
    const char *by;
};
void actor_log(struct qmgr *, const struct log *, const struct actor *, struct slice verb,
    struct slice argument, const char *result, uint64_t count, struct slice qids);
/* One line about who did what, with what result; m NULL: all messages. */
void admin_log(struct qmgr *, const struct log *, int64_t uid, struct slice verb,
    struct slice argument, const char *result, uint64_t count);

/* Routes the recipients of a parked message that still wait again (address empty), or to this
 * address instead. Answers the request `id` of the peer and logs when it is over. An error: not
 * begun, nothing was answered. */
int admin_route(
    struct peer *, uint32_t id, struct message *, const struct queue_act *, struct error *);
