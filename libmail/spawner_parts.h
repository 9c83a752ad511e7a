/* What the spawner's parent and child sides share. */
#pragma once

#include "libmail/coexist.h"
#include "libmail/spawner.h"
#include "libmail/spawner_events.h"
#include "libutil/map.h"

#define SHARES_REGISTRY "veredus.shares"
enum { SPAWNER_TREES = 16, SHARES_MAX = 200, SHARE_TREES = 4 };

struct spawner {
    struct daemon *daemon;
    const struct spawner_kind *kind;
    struct sandbox_filter *filter; /* of the children */
    struct list children, asking;
    struct map users; /* sessions per user, as a counted pointer */
    unsigned nchildren;
    struct timer grace;
    pid_t pid; /* of the parent */
    const char *trees[SPAWNER_TREES + 1];
    size_t ntrees;
    char root[4096]; /* mail-root, for messages */
    int root_fd;     /* opened while its parents could be walked */
    struct coexist coexist;
    int wake[2]; /* pipe: trace ids of sessions whose user changed what he shares; -1: off */
};

struct spawner_child {
    struct list link;
    struct spawner *spawner;
    pid_t pid;
    uid_t uid;
    uint64_t trace;
    int64_t started;
    char *user;
    char *mail;       /* below the mail root; NULL: an account's */
    struct ipc *room; /* its questions about folders of others; NULL: no channel */
    struct list questions;
};

/* A request whose ticket is being redeemed. */
struct spawner_ask {
    struct list link;
    struct spawner *spawner;
    struct peer *front; /* NULL: it has died */
    uint32_t id;
    uint64_t trace;
    int fd;
    bool tls;
    char client[65], tag[129];
    char *input;
    size_t input_len;
};

/* Who the child becomes, and where. */
struct spawner_place {
    uid_t uid;
    gid_t gid;
    bool below_root; /* mail is relative to mail-root, and ours to make */
    bool chroot, coexist;
    char user[256], mail[1025], quota[1025];
};

struct shares {
    struct session_share list[SHARES_MAX];
    size_t n;
    int trees[1 + SHARES_MAX * SHARE_TREES]; /* the first is the user's own */
    size_t ntrees;
};

/* --- spawner_shares.c --- */
int shares_configure(struct spawner *, struct error *) MUST_USE;
void shares_start(struct spawner *);
/* Takes what sessions told; before any of them is forgotten. */
void shares_read(struct spawner *);
/* In the child, before it is closed in: opens what others share with this user, and adds the trees
 * that have to be open to it. */
void shares_gather(struct spawner *, const char *user, struct shares *);
/* Whether this owner shares the folder in this directory with the user; his mail directory. */
bool shares_allow(const struct spawner *, const char *user, struct slice owner,
    struct slice directory, struct buf *mail);

/* What this owner shares was changed by somebody else: renews his entry in the register. */
void shares_renew(struct spawner *, struct slice owner);

/* --- spawner_room.c: a channel for each session, when anybody shares anything (or -1) --- */
int room_open(const struct spawner *, int ends[2]) MUST_USE;
void room_serve(struct spawner_child *, int fd);
void room_close(struct spawner_child *);

/* The child: becomes the owner, closes itself in, runs the session. */
_Noreturn void spawner_child_main(struct spawner *, const struct spawner_ask *,
    const struct spawner_place *, int notify, int room);
