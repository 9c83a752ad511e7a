/*
 * The system's accounts as /etc/passwd lists them, readable inside a sandbox: the directory is
 * kept open and the file reread when it changes. Name services beyond the file are not asked:
 * their libraries load code and open sockets.
 */
#pragma once

#include <sys/types.h>

#include "libutil/error.h"
#include "libutil/slice.h"

struct accounts;

struct account {
    char name[256];
    uid_t uid;
    gid_t gid;
    char home[1024];
};

/* Whether it may have a mailbox: its uid is not lower than min_uid, and is not that of nobody. */
bool account_is_person(const struct account *, int64_t min_uid);

/* directory: "/etc", or another for tests. */
struct accounts *accounts_open(const char *directory, struct error *) MUST_USE;
void accounts_close(struct accounts *);
/* Calls fn for each account in the file's order. A failure is temporary. */
int accounts_each(struct accounts *, void (*fn)(const struct account *, void *arg), void *arg,
    struct error *) MUST_USE;
/* 0, ERR_NOT_FOUND, or a failure to be taken as temporary. Names are compared exactly. */
int accounts_find(struct accounts *, struct slice name, struct account *, struct error *) MUST_USE;
/* Directories that a process that becomes users has to reach: as root, those that hold homes of
 * ordinary users, each perhaps many times; else our own home. */
void accounts_trees(uid_t least, void (*fn)(const char *path, void *arg), void *arg);
