/* What house.c and child.c share. */
#pragma once

#include "delivery/house/house.h"
#include "libutil/children.h"

enum { HOUSE_TREES = 64 };

/* Whose turn it is. */
struct house_turn {
    char user[256];
    char mail[1024]; /* below the mail root, or absolute for an account's */
    bool system, coexist;
    uid_t uid;
    gid_t gid;
};

struct house {
    struct daemon *daemon;
    int64_t every, from; /* seconds */
    char root[4096];     /* of the mail */
    int root_fd;
    char *trees[HOUSE_TREES + 1];
    size_t ntrees;
    struct sandbox_filter *filter;
    struct timer timer; /* the next round, or another attempt */

    int64_t last, began; /* when the last round began, and this one; 0: none is under way */
    char *names;         /* a page of them, a line each */
    struct slice rest;   /* those whose turn comes */
    bool more;           /* pages */
    struct house_turn turn;
    uint32_t mailboxes, failed;

    struct children children; /* one at most */
    struct child child;
    struct io *told; /* its socket, while it is listened to */
};

/* Told by the child of each change: an 8-byte sequence, and the folder's name. */
enum { HOUSE_TOLD_MAX = 8 + 1024 };
/* Does one mailbox's chores; fd is the other end. When ours is closed, it leaves the rest. */
_Noreturn void house_child(const struct house *, int fd);
