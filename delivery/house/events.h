/* What house logs. */
#pragma once

#include "libutil/log.h"

#define EXPIRE_DONE_FIELDS(F, S) F(S, STR, user, 0) F(S, STR, mailbox, 0) F(S, U64, messages, 0)
#define PURGE_DONE_FIELDS(F, S) F(S, STR, user, 0) F(S, U64, messages, 0)
#define STORE_COMPACT_FIELDS(F, S) F(S, STR, user, 0) F(S, STR, mailbox, 0)
#define HOUSE_DONE_FIELDS(F, S) F(S, U32, mailboxes, 0) F(S, U32, failed, 0)
#define HOUSE_FAIL_FIELDS(F, S) F(S, STR, user, 0) F(S, STR, reason, 0)
#define HOUSE_EVENTS(E)                                                                         \
    E(expire_done, "expire.done", LOG_INFO, EXPIRE_DONE_FIELDS,                                 \
        "So many messages were expunged from a folder, older than an expire rule allows.")      \
    E(purge_done, "purge.done", LOG_INFO, PURGE_DONE_FIELDS,                                    \
        "So many expunged messages, kept as long as keep-deleted says, are gone for good.")     \
    E(store_compacted, "store.compact", LOG_INFO, STORE_COMPACT_FIELDS,                         \
        "A folder's index was written anew, without what was old.")                             \
    E(house_done, "house.done", LOG_INFO, HOUSE_DONE_FIELDS,                                    \
        "A round of housekeeping has been through all mailboxes; in so many something failed.") \
    E(house_fail, "house.fail", LOG_WARN, HOUSE_FAIL_FIELDS,                                    \
        "Housekeeping could not finish a mailbox, or not begin with it; the next round will try.")
LOG_EVENTS_DECLARE(HOUSE_EVENTS)
extern const struct log_event *const house_events[];
