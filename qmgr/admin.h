/* What the parts of queue administration share. */
#pragma once

#include "qmgr/qmgr.h"

/* A message with content for looking at: the one in the queue, or a copy read from its file.
 * peek_end after use. */
struct peek {
    struct message *m, *copy; /* copy: to be freed */
    uint64_t read;            /* bytes, for that */
};

/* again: an administrator for whom it has been read before, for an earlier page of the same; NULL:
 * only what was read just now will do. False: err says why; ERR_AGAIN: the file is so large that it
 * has to be read beside the loop (admin_wait). */
bool peek_begin(
    struct qmgr *, struct message *, const struct peer *again, struct peek *, struct error *);
void peek_end(struct peek *);
/* Puts the request off until the message has been read beside the loop; it is looked at again then,
 * whatever has become of the message. */
void admin_wait(struct peer *, const struct ipc_in *, struct message *);
/* The same for something else. */
void admin_wait_for(struct qmgr *, struct message *, void (*resume)(void *), void *arg);
/* The same until it has been loaded (qmgr/large.c). */
void admin_load(struct peer *, const struct ipc_in *, struct message *);
void admin_load_for(struct qmgr *, struct message *, void (*resume)(void *), void *arg);
/* Whether that is needed before it is loaded in full, or (copy) looked at. */
bool admin_must_wait(struct qmgr *, const struct message *, bool copy);
/* NULL: unknown, or deleted. */
struct message *admin_find(struct qmgr *, uint64_t qid);
/* Nothing is under way with it, so it may be settled or changed. */
bool admin_idle(const struct message *);

/* m with its content, for one page of what a peer's command looks at, until the loop runs again;
 * anew: the first page. NULL: it cannot be read, or (ERR_AGAIN) see peek_begin. */
struct message *admin_look(struct peer *, struct message *m, bool anew, struct error *);
/* All attempts so far, packed queue_attempt, oldest first; valid as long; partial: of a very long
 * history, the latest part. ERR_AGAIN as above. */
int admin_look_attempts(struct peer *, struct message *m, struct slice *attempts, bool *partial,
    struct error *) MUST_USE;
void admin_look_down(struct peer *);

/* One answer is made of no more messages, nor of more bytes that are read for it: then others have
 * their turn. */
enum { PAGE_MESSAGES = 400, PAGE_READ = 1024 * 1024 };

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

enum { SWEEP_LOOK = -1, SWEEP_LOAD = -2 };

/* Something to be done with every message. */
struct sweep_ops {
    /* Negative: it has to be read, or loaded, beside the loop, and the same is asked again then. */
    int (*act)(struct qmgr *, struct message *, struct slice argument, void *arg);
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
