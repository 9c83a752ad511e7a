/*
 * Mail directories kept open between deliveries: opening one costs more than a delivery. One may be
 * moved away or removed at any moment, so that its path is looked at again now and then. Also
 * remembers which file systems have unsynced deliveries.
 */
#pragma once

#include <sys/types.h>

#include "libstore/store.h"

enum {
    STORES_KEPT = 2048,
    STORES_FILES = 8,       /* descriptors that one may have, with room for others */
    STORES_AGE_MS = 60000,  /* closed when nobody wanted it for so long */
    STORES_CHECK_MS = 1000, /* believed to be where it was */
    STORES_FILE_SYSTEMS = 16,
    STORES_PATH = 1025
};

struct stores;

struct stores_entry {
    struct stores *all;
    struct store *store;
    char path[STORES_PATH];
    dev_t device;
    ino_t inode;
    int64_t checked;
    bool coexist;
};

struct stores {
    int root;   /* not owned */
    size_t max; /* how many are kept */
    struct stores_entry *kept[STORES_KEPT];
    /* Of each that is open, apart from it so that looking through all is quick. */
    struct {
        uint64_t hash; /* of the path, never 0; 0: free */
        int64_t used;
        bool written; /* since stores_flush */
    } keys[STORES_KEPT];
    /* One descriptor for each file system written to since the last sync. */
    struct {
        dev_t device;
        int fd;
    } dirty[STORES_FILE_SYSTEMS];
    size_t ndirty;
    /* Told of each change in a directory opened here. */
    void (*changed)(void *arg, struct slice path, struct slice folder, uint64_t sequence);
    void *arg;
};

void stores_init(struct stores *, int root,
    void (*changed)(void *, struct slice path, struct slice folder, uint64_t), void *arg);
void stores_clear(struct stores *);
/* The store of this mail directory, made when it is not there. It is expected to be written to.
 * coexist: other programs use it too. */
int stores_get(struct stores *, struct slice path, bool coexist, int64_t now, struct store **,
    struct error *) MUST_USE;
/* Forgets an open directory, after an error in it. */
void stores_drop(struct stores *, struct slice path);
/* Writes what stores have gathered since the last time: what can wait, for one write. */
void stores_flush(struct stores *);
/* Closes those that nobody wanted for STORES_AGE_MS. Returns whether any are left. */
bool stores_expire(struct stores *, int64_t now);
/* Descriptors of the file systems with deliveries that were not synced yet; the caller's until
 * stores_give_back. synced: they need no further sync for what they had been taken for. */
size_t stores_take_dirty(struct stores *, int fds[STORES_FILE_SYSTEMS]);
void stores_give_back(struct stores *, int *fds, size_t n, bool synced);
