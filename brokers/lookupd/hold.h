/* The table of held mail: which key of it fits a message. */
#pragma once

#include "brokers/lookupd/maps.h"

enum { HOLD_TEXT = 65 };

struct hold_case {
    struct slice client;    /* address; empty: our own, which is never held */
    struct slice sender;    /* empty: the null sender */
    struct slice recipient; /* as given */
};

/* OK with "client=KEY", "sender=KEY" or "recipient=KEY" in out, ERR_NOT_FOUND, or a failure to be
 * taken as temporary. */
int hold_find(
    struct maps *, const struct hold_case *, char out[HOLD_TEXT], struct error *) MUST_USE;
