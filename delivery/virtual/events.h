/* What virtual logs. */
#pragma once

#include "libutil/log.h"

#define DLV_STORE_FIELDS(F, S) \
    F(S, STR, to, 0)           \
    F(S, STR, mailbox, 0)      \
    F(S, U32, uid, 0) F(S, U64, size, 0) F(S, BOOL, again, 0)
#define DLV_STORE_FAIL_FIELDS(F, S) \
    F(S, STR, to, 0) F(S, STR, mailbox, 0) F(S, STR, rule, 0) F(S, STR, reason, 0)
#define DLV_SHARE_FIELDS(F, S)                          \
    F(S, STR, user, 0)                                  \
    F(S, STR, path, 0) /* the owner's mail directory */ \
    F(S, STR, verb, 0) F(S, STR, mailbox, 0) F(S, STR, other, 0) F(S, STR, result, 0)
#define VIRTUAL_EVENTS(E)                                                                      \
    E(dlv_store, "dlv.store", LOG_INFO, DLV_STORE_FIELDS,                                      \
        "A message is in a mailbox; again=yes: it was there already from an attempt before.")  \
    E(dlv_store_fail, "dlv.store-fail", LOG_WARN, DLV_STORE_FAIL_FIELDS,                       \
        "A message could not be put into a mailbox; rule names the kind of error.")            \
    E(dlv_share, "dlv.share", LOG_INFO, DLV_SHARE_FIELDS,                                      \
        "Somebody with the right (RFC 4314) had a folder of another user created, deleted or " \
        "renamed (other: its new name), or its list changed (other: whose entry).")
LOG_EVENTS_DECLARE(VIRTUAL_EVENTS)
extern const struct log_event *const virtual_events[];
