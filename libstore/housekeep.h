/*
 * Work on a mailbox that nobody waits for: expiring messages, folding logs in, dropping what
 * died processes left. Each step holds a folder's lock for a short moment only.
 */
#pragma once

#include "libstore/store.h"

/* Messages saved longer ago than `age` seconds go from the folders whose name matches: '*'
 * stands for anything, '%' for anything but '/'. INBOX matches in any case. */
struct store_expire_rule {
    struct slice pattern;
    int64_t age;
};

bool store_expire_matches(struct slice pattern, struct slice folder);
/* The shortest age of all rules that match; 0: none does. */
int64_t store_expire_age(const struct store_expire_rule *, size_t n, struct slice folder);

/* Expunges (or with `dry` counts) what is older than `age` at `now`. */
int store_expire(struct store *, struct slice folder, int64_t age, int64_t now, bool dry,
    uint64_t *expired, struct error *) MUST_USE;

/* Writes the index anew and with it drops old transactions, tombstones and texts of messages that
 * are gone, when there is enough to be won or `force` is set; removes files in tmp/ that are older
 * than 36 hours. *done tells whether the index was written. */
int store_compact(
    struct store *, struct slice folder, bool force, bool *done, struct error *) MUST_USE;
