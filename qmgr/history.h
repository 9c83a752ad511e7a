/* What happened to a message so far. A parked file tells: every update repeats the states of all
 * recipients, so what differs from the block before is an attempt. */
#pragma once

#include "qmgr/message.h"

/* Calls fn for each attempt, oldest first, after it: index, attempts, state, dsn, text, mta, last
 * are of then. The slices live until fn returns. The message has its content. A young message knows
 * its last attempts only. ERR_LIMIT: the file tells more than `most` bytes. With HISTORY_MOST it
 * never does: what a longer one began with is left out. */
enum { HISTORY_MOST = 64 * 1024 * 1024 };
typedef void history_fn(const struct parked_state *, void *arg);
int history_each(struct message *, size_t most, struct disk *, history_fn *fn, void *arg,
    struct error *) MUST_USE;
