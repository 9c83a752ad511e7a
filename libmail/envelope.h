/*
 * The envelope of a message: what SMTP says beside the content. These records travel in IPC
 * messages and stand in the spool, each encoded with record_put (libutil/field.h).
 */
#pragma once

#include "libutil/error.h"
#include "libutil/field.h"

enum { ENVELOPE_ADDRESS_MAX = 320 }; /* 64 + @ + 255, RFC 5321 §4.5.3.1 */

enum envelope_body { BODY_7BIT, BODY_8BITMIME };
enum envelope_ret { RET_UNSET, RET_FULL, RET_HDRS }; /* RFC 3461 §4.3 */
enum { PRIORITY_MIN = -9, PRIORITY_MAX = 9 };        /* RFC 6710 §4.1 */
enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 }; /* §4.1 */

#define ENVELOPE_FIELDS(F, S)                                                                 \
    F(S, STR, sender, 320)     /* reverse-path without <>; empty: null sender */              \
    F(S, STR, envid, 100)      /* ENVID, decoded from xtext */                                \
    F(S, U32, ret, 0)          /* enum envelope_ret */                                        \
    F(S, U32, body, 0)         /* enum envelope_body */                                       \
    F(S, BOOL, smtputf8, 0)    /* RFC 6531: addresses or header fields may hold UTF-8 */      \
    F(S, BOOL, utf8_header, 0) /* with smtputf8: its header does hold some */                 \
    F(S, BOOL, bulk, 0)        /* its header says that it is a list's or a machine's */       \
    F(S, I64, priority, 0)     /* -9..9, RFC 6710; 0: normal */                               \
    F(S, I64, hold_until, 0)   /* RFC 4865: ms since 1970; not delivered before; 0: none */   \
    F(S, STR, hold, 64)        /* the rule that puts it on hold when accepted; empty: none */ \
    F(S, I64, received, 0)     /* ms since 1970 */                                            \
    F(S, U64, session, 0)      /* sid of the SMTP session */                                  \
    F(S, STR, client, 64)      /* its address, text */                                        \
    F(S, STR, client_name, 255)                                                               \
    F(S, STR, helo, 255)                                                                      \
    F(S, STR, login, 255) /* authenticated user, or empty */                                  \
    F(S, STR, listener, 64)                                                                   \
    F(S, STR, message_id, 255)                                                                \
    F(S, U64, about, 0)         /* a report of ours: the message it tells about; 0: none */   \
    F(S, U32, about_serial, 0)  /* which one of the reports about that message */             \
    F(S, U32, about_kind, 0)    /* enum report_kind */                                        \
    F(S, U32, about_group, 0)   /* of recipients, see below */                                \
    F(S, U64, about_indexes, 0) /* the message is not parked: bit i says recipient i */
RECORD_DECLARE(envelope, ENVELOPE_FIELDS)

/* A recipient with the route lookupd gave it. `transport` is the agent's program name;
 * `nexthop` means for virtual the mailbox directory relative to the mail root, for local the
 * account name, both with an optional folder (libmail/nexthop.h), for remote the domain or
 * [host]:port. The transport TRANSPORT_EXPANDED has no agent: the entry stands for an alias whose
 * recipients are entries of their own, and is reported as expanded (RFC 3461 §5.2.7.2 (c)), or with
 * this nexthop for a list, which has it delivered (§5.2.7.3). */
#define TRANSPORT_EXPANDED "expanded"
#define EXPANDED_LIST "list"
/* The agent remote again, for mail that is handed to another node: what that node refuses for good
 * stays in the queue. */
#define TRANSPORT_DRAIN "drain"
#define RECIPIENT_FIELDS(F, S)                                                          \
    F(S, STR, address, 320)                                                             \
    F(S, STR, original, 320) /* as given in RCPT */                                     \
    F(S, STR, orcpt, 500)    /* ORCPT: addr-type;addr, decoded */                       \
    F(S, U32, notify, 0)     /* NOTIFY_ set; 0: not given */                            \
    F(S, STR, transport, 32)                                                            \
    F(S, STR, nexthop, 1024)                                                            \
    F(S, STR, via, 2000) /* addresses it was expanded from, first to last, see below */ \
    F(S, STR, owner, 320)
RECORD_DECLARE(recipient, RECIPIENT_FIELDS)

/* recipient.owner: the recipient stands in a list that has an owner, who is the sender of what the
 * list sends on and gets the reports about it (RFC 5321 §3.9). The list's message is a new one: the
 * wishes of the first sender (NOTIFY, ORCPT, ENVID, RET) do not go along (RFC 3461 §5.2.7.3). Mail
 * of the null sender keeps it. */

/* A number for all recipients with the same sender; 0: that of the message. */
uint32_t recipient_group(bool null_sender, const struct recipient *);
/* The sender as whom a message goes to this recipient. */
struct slice recipient_sender(const struct envelope *, const struct recipient *);
/* The same message's envelope for this recipient; slices are those of the arguments. */
struct envelope recipient_envelope(const struct envelope *, const struct recipient *);

/* Addresses in recipient.via are separated by newlines, which no address holds. An agent writes a
 * Delivered-To line for each, and does not expand an address again that is among them. */
bool via_holds(struct slice via, struct slice address);
/* Appends the via of those that `from` is expanded to. ERR_LIMIT when it becomes too long, as in
 * a loop. */
int via_extend(struct buf *, const struct recipient *from) MUST_USE;
