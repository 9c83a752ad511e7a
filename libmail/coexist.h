/*
 * Which virtual mailboxes other programs use too: those of domains with `coexist yes`. Everybody
 * who opens a mailbox has to take it for the same kind (libstore/store.h, docs/store.md).
 */
#pragma once

#include "libutil/conf.h"
#include "libutil/map.h"

struct coexist {
    struct map domains; /* lower case */
};

void coexist_init(struct coexist *, const struct conf *);
void coexist_clear(struct coexist *);
/* For a canonical address of a virtual user, or one that leads to him with a detail. */
bool coexist_has(const struct coexist *, struct slice address);
