/*
 * What time does to a mailbox, in one call: expire rules, compaction, the end of mail that was kept
 * after expunging. Housekeeping does it by itself, veredus(1) when asked.
 */
#pragma once

#include "libstore/store.h"
#include "libutil/conf.h"

struct chore_done {
    struct slice folder; /* empty: what is kept of all folders */
    uint64_t expired, purged;
    bool compacted;
};

struct chores {
    const struct conf *conf; /* expire, domain.expire, mailbox.keep-deleted */
    bool expire, compact, purge;
    bool dry;   /* only count */
    bool force; /* compact what has little to be won, too */
    int64_t now;
    void (*report)(void *arg, const struct chore_done *); /* of each folder with something done */
    bool (*stop)(void *arg); /* asked between folders: leave the rest; may be NULL */
    void *arg;
};

/* All folders of one user; `user` is the canonical name, whose domain may have rules of its own. */
int store_chores(struct store *, const char *user, const struct chores *, struct error *) MUST_USE;
