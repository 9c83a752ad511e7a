/*
 * The frame every daemon stands in: configuration from master, warm-up, sandbox, wiring, loop.
 * A daemon's main.c declares one daemon_spec and calls daemon_run.
 *
 * Order: exec by master -> configuration (memfd), listeners and peers arrive -> configure()
 * with the rights master gave -> sandbox -> start() -> on_up() of each peer -> on_listener()
 * of each listener -> loop until drained or master is gone.
 */
#pragma once

#include "libutil/conf.h"
#include "libutil/ipc.h"
#include "libutil/list.h"
#include "libutil/log.h"
#include "libutil/proto/master.h"
#include "libutil/role.h"
#include "libutil/sandbox.h"

struct daemon;

/* One live channel to another process. Given again after a restart of either end. */
struct peer {
    struct daemon *daemon;
    enum conversation conv;
    enum ipc_side side;
    enum role role; /* of the other end; ROLE_CTL for an administrator */
    unsigned worker;
    int64_t uid;     /* of the other end */
    char user[33];   /* its name, of an administrator; empty: it has none */
    struct ipc *ipc; /* NULL for a raw conversation */
    int fd;          /* raw conversations: the descriptor, to be taken by setting this to -1 */
    void *data;      /* the daemon's own, NULL at first */
    struct list link;
};

struct listener {
    int fd;   /* non-blocking */
    bool tls; /* from the first byte */
    char name[64], protocol[16], address[256];
};

/* A conversation this daemon takes part in, on one side. */
struct daemon_conv {
    enum conversation conv;
    enum ipc_side side;
    const struct ipc_proto *proto;
    /* A message the peer began; may be NULL when the peer may begin none. */
    void (*on_message)(struct peer *, struct ipc_in *);
    void (*on_up)(struct peer *);   /* may be NULL */
    void (*on_down)(struct peer *); /* may be NULL; peer is freed afterwards */
    /* The daemon talks over the bare descriptor itself, with ipc_sync or otherwise. */
    bool raw;
};

struct daemon_spec {
    enum role role;
    struct sandbox_profile profile;
    const struct daemon_conv *convs; /* ended by proto == NULL */
    const struct log_event *const *events;
    /* Reads settings, opens what must be opened with master's rights, warms libraries up, and
     * may set d->paths. */
    int (*configure)(struct daemon *, struct error *);
    /* Inside the sandbox, before peers come up (raw ones can be taken already). */
    int (*start)(struct daemon *, struct error *);
    /* A listening socket, at start, after start(). */
    void (*on_listener)(struct daemon *, struct listener *);
    /* The configuration has changed: d->conf is the new one. Only for processes whose state
     * must not pause (qmgr); all others are replaced. */
    void (*reconfigure)(struct daemon *);
    /* Stop accepting, finish what is under way, then daemon_exit. NULL: exit at once. */
    void (*drain)(struct daemon *);
    unsigned (*sessions)(struct daemon *);
    /* Appends packed master_child records; may be NULL. */
    void (*children)(struct daemon *, struct buf *out);
};

struct daemon_boot;

struct daemon {
    const struct daemon_spec *spec;
    struct loop *loop;
    struct conf *conf;
    struct log log;
    unsigned worker;
    bool rootless;
    bool draining;
    char directory[4096];       /* of the instance */
    struct sandbox_paths paths; /* set by configure() */
    struct sandbox_report sandbox;
    void *data; /* the daemon's own */
    struct list peers;
    struct ipc *master;
    struct timer log_timer;   /* while log records wait for logd */
    struct daemon_boot *boot; /* what arrives before `go`; NULL afterwards */
};

/* The body of main: returns the exit status. */
int daemon_run(const struct daemon_spec *, int argc, char **argv);
/* Ends the loop; the process exits with status 0. */
void daemon_exit(struct daemon *);

/* A live channel of this conversation on which we are the client, in turn among several; role
 * -1: any. NULL when there is none (the other end is being restarted). */
struct peer *daemon_peer(struct daemon *, enum conversation, int role);
/* As daemon_peer, but the same channel for the same subject as long as the same processes live. */
struct peer *daemon_peer_for(struct daemon *, enum conversation, int role, struct slice subject);
/* ipc_call on such a channel; without one, cb gets NULL from the loop, never before this
 * returns. To drop interest, keep `arg` alive until cb runs, or use daemon_peer and ipc_cancel. */
void daemon_call(struct daemon *, enum conversation, int role, unsigned type, uint64_t trace,
    const void *msg, int fd, ipc_reply_fn *cb, void *arg);
/* The process at the other end has stopped answering: master kills it and starts another. The
 * channel is closed at once: pending calls get NULL, on_down is called, the peer is freed. */
void daemon_drop_hung(struct peer *, struct slice why);
/* Raw conversations: takes the newest descriptor given for this conversation, or -1. */
int daemon_take_peer_fd(struct daemon *, enum conversation);
