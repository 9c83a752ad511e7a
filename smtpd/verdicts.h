/*
 * Verdicts of lookupd that are used again: recipients of addresses that were accepted lately. Each
 * use looks whether the tables they were found in are what they were (libutil/filemark.h), so a
 * change counts from the moment it is made, as if lookupd had been asked.
 */
#pragma once

#include "libmail/proto/route.h"
#include "libutil/map.h"

struct verdicts {
    struct filemark marks[ROUTE_SOURCES];
    struct map kept; /* key -> struct kept */
};

void verdicts_init(struct verdicts *);
/* Forgets everything; lookupd is another. */
void verdicts_reset(struct verdicts *);
/* Takes a mark and its descriptor. */
void verdicts_mark(struct verdicts *, const struct route_mark *, int *fd);
/* The packed recipients, until the next call of this module; p NULL: lookupd has to be asked. */
struct slice verdicts_find(struct verdicts *, const struct route_check *);
/* Remembers a verdict, when it says that it may be kept. */
void verdicts_keep(
    struct verdicts *, struct slice address, bool may_relay, const struct route_verdict *);
