/*
 * Child processes of a daemon, forked without exec, each for one thing: with a time limit, a pair
 * of sockets to say things over, and a row in the status. When the daemon drains, it exits after
 * the last of them.
 */
#pragma once

#include "libutil/daemon.h"

struct child;

/* Its process has ended; status is wait(2)'s. The socket is still open: what it said can be read.
 * The child is in no list any more, and may be freed. */
typedef void child_ended_fn(struct child *, int status);

/* Embedded in what the child works at. */
struct child {
    struct list link;
    pid_t pid;             /* 0: none */
    int fd;                /* our end; in the child, its own */
    uid_t uid;             /* for the status, as what is */
    const char *what;      /* lives as long as the child */
    child_ended_fn *ended; /* NULL: that of all; else it is something aside */
    int64_t started;       /* seconds since 1970 */
    int64_t begun;         /* by the loop's clock; 0: it never was */
    bool late;             /* was killed because it took too long */
    struct timer limit;
};

struct children {
    struct daemon *daemon;
    struct list list;
    unsigned count;
    child_ended_fn *ended;
    void (*rest)(void *arg); /* after one or more have ended; may be NULL */
    void *arg;
};

/* From the daemon's configure(); starts to watch with children_watch, from start(). */
void children_init(
    struct children *, struct daemon *, child_ended_fn *, void (*rest)(void *), void *arg);
void children_watch(struct children *);

/* 0 in the child, its pid in the parent; ERR_TEMP: there is no socket or no process. After limit_ms
 * the child is killed. uid and what are to be set before. */
pid_t child_fork(struct children *, struct child *, int64_t limit_ms);
/* Gives it so much time from now. */
void child_allow(struct child *, int64_t limit_ms);

/* In the child, first of all: closes all descriptors but the standard ones and these (sorted in
 * place; -1 counts not), and does away with what the parent has arranged for signals. */
void child_reset(int *keep, size_t n);
/* Its first half. */
void child_close_others(int *keep, size_t n);

/* How many of an account run, without those aside. */
unsigned children_of(const struct children *, uid_t);
/* For daemon_spec.children. */
void children_list(const struct children *, struct buf *out);
/* For daemon_spec.drain. */
void children_drain(struct children *);
