/* Which messages an administrator means (struct queue_filter, libmail/proto/queue.h). */
#pragma once

#include "libmail/proto/queue.h"
#include "qmgr/message.h"

/* Reads a packed filter; empty bytes mean every message. */
int filter_read(struct slice packed, struct queue_filter *) MUST_USE;
/* Whether nothing is asked for. */
bool filter_is_empty(const struct queue_filter *);
/* seen is the message's content, or NULL when it cannot be read: then only its state can fit. now:
 * ms since 1970. */
bool filter_fits(
    const struct queue_filter *, const struct content *seen, struct slice state, int64_t now);
/* Whether an address is in a domain (in any case of letters), or with a leading dot in that domain
 * or one below it. */
bool filter_in_domain(struct slice address, struct slice domain);
