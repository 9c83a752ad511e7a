/* What local logs. */
#pragma once

#include "libutil/log.h"

#define LOCAL_STORE_FIELDS(F, S) \
    F(S, STR, to, 0)             \
    F(S, STR, mailbox, 0) F(S, U32, uid, 0) F(S, U64, size, 0) F(S, BOOL, again, 0)
#define LOCAL_REFUSE_FIELDS(F, S) \
    F(S, STR, to, 0) F(S, STR, account, 0) F(S, STR, rule, 0) F(S, STR, reason, 0)
#define LOCAL_FORWARD_FIELDS(F, S) F(S, STR, to, 0) F(S, STR, account, 0) F(S, U32, nrcpt, 0)
#define LOCAL_FILED_FIELDS(F, S) F(S, STR, to, 0) F(S, STR, account, 0) F(S, U64, size, 0)
#define LOCAL_EVENTS(E)                                                                        \
    E(local_store, "dlv.store", LOG_INFO, LOCAL_STORE_FIELDS,                                  \
        "A message is in a mailbox; again=yes: it was there already from an attempt before.")  \
    E(local_filed, "dlv.file", LOG_INFO, LOCAL_FILED_FIELDS,                                   \
        "A message is where the account's .forward, or an mbox setting, says, and in no "      \
        "Maildir folder of ours.")                                                             \
    E(local_forward, "dlv.forward", LOG_INFO, LOCAL_FORWARD_FIELDS,                            \
        "A .forward file names so many others, addresses and commands, for the message.")      \
    E(local_refuse, "dlv.store-fail", LOG_WARN, LOCAL_REFUSE_FIELDS,                           \
        "A message could not be put into an account's mailbox. rule: account, uid, rootless, " \
        "forward, loop, home, mailbox, time, child.")
LOG_EVENTS_DECLARE(LOCAL_EVENTS)
extern const struct log_event *const local_events[];
