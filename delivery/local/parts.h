/* Inside local: the spawner's state, and what the child does. */
#pragma once

#include "delivery/local/forward.h"
#include "delivery/local/local.h"
#include "libmail/users.h"
#include "libstore/deliver.h"

enum { LOCAL_TREES = 64, LOCAL_ROOMS_MAX = 50 /* questions at a time */ };

struct local {
    struct delivery agent;
    char mailbox[256]; /* a Maildir relative to home, or behind the spool: FILE with {user} */
    char *spool;       /* the directory of mbox files; NULL: mailboxes are Maildirs */
    gid_t spool_gid;   /* may make files there, as on Debian (root:mail 2775); 0: none */
    uid_t least_uid;
    char limits[USERS_LIMITS];     /* what an account may keep; empty: no limits */
    struct sandbox_filter *filter; /* for children */
    const char *read[2];
    const char *trees[LOCAL_TREES + 1]; /* where homes are */
    /* File systems that deliver_sync can reach; a delivery to any other is synced at once. */
    struct {
        dev_t device;
        int fd;
        bool dirty;
    } systems[LOCAL_TREES];
    size_t ntrees, nsystems;
    struct list rooms; /* room.c: questions that children are answering */
    unsigned nrooms;
};

static inline struct local *local_of(const struct delivery_task *t)
{
    return (struct local *)t->agent;
}

/* What the child tells; it is the recipient's process by then, so nothing in it is believed
 * beyond its own delivery. */
struct local_result {
    uint32_t status; /* enum deliver_status */
    char dsn[16];
    char rule[16];
    char text[400];
    char folder[256];
    uint32_t stored; /* whether a mailbox or file has it; uid 0: a file */
    uint32_t uid;
    uint32_t again;
    uint64_t sequence;
    uint32_t system; /* index in systems, or LOCAL_TREES: synced */
};

/* What follows a result: addresses and commands of .forward, packed by buf_lv. They are the
 * recipient's own words: qmgr has lookupd judge them, nothing here does. */
enum { LOCAL_ANSWER_MAX = sizeof(struct local_result) + DELIVER_TARGETS_MAX };

/* NULL when a child may be started for this account, else why not. */
const char *local_not_allowed(const struct local *, const struct account *);

/* A home that is the account's, or root's: not one that was another's before, or is by mistake in
 * the table of accounts. */
bool local_is_own(int home);
/* What .forward says. */
int local_read_plan(
    const struct delivery_task *, int home, struct forward_plan *, struct error *) MUST_USE;
/* The account's file in the directory of mbox files. */
int local_spool_name(
    const struct delivery_task *, char *name, size_t size, struct error *) MUST_USE;

/* The child's side. */
void local_child(struct delivery_task *, struct buf *answer);
