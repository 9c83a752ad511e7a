/* What STATUS tells, which LIST can tell too (RFC 5819). */
#pragma once

#include "imapd/session/place.h"

/* " (ITEM ITEM)" as a set. */
bool take_status_items(struct args *, unsigned *items);
/* The untagged response. */
int status_put(struct session *, struct slice name, const struct place *, unsigned items,
    struct error *) MUST_USE;
