/* What imap-session logs. */
#pragma once

#include "libutil/log.h"

#define IMAP_START_FIELDS(F, S) F(S, STR, user, 0) F(S, STR, client, 0) F(S, BOOL, tls, 0)
#define IMAP_END_FIELDS(F, S) \
    F(S, STR, user, 0)        \
    F(S, STR, why, 0) F(S, U64, commands, 0) F(S, U64, received, 0) F(S, U64, sent, 0)
#define IMAP_APPEND_FIELDS(F, S) F(S, STR, mailbox, 0) F(S, U64, uid, 0) F(S, U64, size, 0)
#define IMAP_EXPUNGE_FIELDS(F, S) F(S, STR, mailbox, 0) F(S, STR, uids, 0)

#define IMAP_EVENTS(E)                                                                        \
    E(imap_start, "imap.start", LOG_INFO, IMAP_START_FIELDS, "A session began after login.")  \
    E(imap_end, "imap.end", LOG_INFO, IMAP_END_FIELDS, "A session ended, and why.")           \
    E(imap_append, "imap.append", LOG_INFO, IMAP_APPEND_FIELDS, "A client stored a message.") \
    E(imap_expunge, "imap.expunge", LOG_INFO, IMAP_EXPUNGE_FIELDS,                            \
        "Messages were removed for good; uids may be cut.")
LOG_EVENTS_DECLARE(IMAP_EVENTS)
extern const struct log_event *const imap_events[];
