/*
 * Doing the same for one user, the users of a domain, or all: each in a process of its own that
 * has become the owner of that user's mail before it reads any (ctl/mailuser.h).
 */
#pragma once

#include "ctl/mailuser.h"

struct people {
    char **names; /* canonical, sorted, each once */
    size_t n;
};

/* who: an address or account, a domain, or NULL for all. A single user need not have mail yet.
 * ERR_NOT_FOUND: nobody is called so. */
int people_find(struct ctl *, const char *who, struct people *, struct error *) MUST_USE;
void people_clear(struct people *);

/* The child's work, as the owner. Returns the exit status. */
typedef int people_fn(struct store *, const char *name, int fd, void *arg);

struct people_child {
    int pid, fd; /* fd: a stream socket, whose other end `fn` has */
};
/* Starts fn for this user; with `create` a mail directory is made when there is none. Without
 * mail the child ends at once with status PEOPLE_NO_MAIL. Of the caller's descriptors it keeps
 * only 0 to 2. */
enum { PEOPLE_NO_MAIL = 100 };
int people_start(struct ctl *, const char *name, bool create, people_fn *, void *arg,
    struct people_child *, struct error *) MUST_USE;
/* Its exit status; CTL_NO when it was killed. Closes fd. */
int people_wait(struct people_child *);
/* Starts one after the other and waits. Returns the worst status; no mail is fine. */
int people_each(struct ctl *, const struct people *, people_fn *, void *arg);
