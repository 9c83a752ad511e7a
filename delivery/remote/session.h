/*
 * One connection to another server: greeting, EHLO, STARTTLS (session.c), then messages
 * (transaction.c), then a few idle seconds in which the next message for the same next hop may
 * take it over.
 *
 * Commands are sent in groups where the server allows it (RFC 2920); a queue holds the steps
 * whose replies are due, and each reply goes to the handler of the oldest.
 */
#pragma once

#include "delivery/remote/job.h"
#include "libmail/smtp_data.h"
#include "libmail/smtp_reply.h"
#include "libutil/stream.h"

enum step {
    STEP_GREETING,
    STEP_EHLO,
    STEP_HELO,
    STEP_STARTTLS,
    STEP_MAIL,
    STEP_RCPT,
    STEP_DATA,
    STEP_END, /* of the data */
    STEP_RSET,
    STEP_QUIT,
    STEP_COUNT
};

enum feature {
    FEATURE_PIPELINING = 1 << 0,
    FEATURE_SIZE = 1 << 1,
    FEATURE_8BITMIME = 1 << 2,
    FEATURE_DSN = 1 << 3,
    FEATURE_STARTTLS = 1 << 4,
    FEATURE_SMTPUTF8 = 1 << 5,
    FEATURE_MT_PRIORITY = 1 << 6
};

/* Replies due: MAIL, every RCPT, DATA, then one END (LMTP: one a recipient), RSET. */
enum { STEPS_DUE_MAX = DELIVER_RECIPIENTS_MAX * 2 + 8, REASON_MAX = 700 };

struct session {
    struct list link; /* remote->idle, when idle */
    struct remote *remote;
    struct job *job; /* NULL: idle, or saying goodbye */
    struct target target;
    char nexthop[1025]; /* what it may be reused for */
    bool lmtp, mx;
    bool without_tls;
    bool tls_tried;
    bool reused;
    bool closing; /* QUIT is sent */
    bool dead;    /* freed, but for the memory */
    int connect_error;
    unsigned messages;
    struct stream *stream;
    struct io *connecting;
    int fd; /* while connecting */
    struct timer timer;
    struct smtp_reply reply;
    unsigned features; /* of the last EHLO */
    uint64_t max_size;
    enum step due[STEPS_DUE_MAX];
    size_t ndue;

    /* the message under way */
    size_t next; /* command to send: 0 MAIL, 1..n RCPT, n + 1 DATA, n + 2 nothing */
    size_t rcpts[DELIVER_RECIPIENTS_MAX]; /* indices of the job's recipients that are offered */
    size_t nrcpts, replied;               /* RCPTs answered */
    size_t accepted[DELIVER_RECIPIENTS_MAX], naccepted, finished; /* finished: END replies */
    bool utf8; /* the transaction needs SMTPUTF8 */
    bool mail_refused;
    bool sending; /* the body; the loop is told when more has room */
    bool sent;    /* up to the final dot: from here on the message may have been taken */
    uint64_t offset;
    struct smtp_stuff stuff;
};

/* Connects for the job; what goes wrong is told from the loop, never before this returns. */
struct session *session_open(struct job *, const struct target *, bool without_tls);
/* Takes an idle connection of the same next hop, if there is one. The job may be finished (and
 * gone) when this returns true. */
bool session_reuse(struct job *);
/* Drops the connection; the job is not told. */
void session_abandon(struct session *);
/* The same of the same MX host, whatever domain it was used for. */
bool session_reuse_host(struct job *, const struct target *);
void session_close_idle(struct remote *);

/* --- between session.c and transaction.c --------------------------------------------------- */

/* Ends the session: the job's host has failed (before the message was handed over). */
void session_failed(struct session *, const char *dsn, const char *text);
/* The message is dealt with: goes idle, or closes when the connection is no longer usable. */
void session_ready(struct session *, bool usable);
void session_expect(struct session *, enum step);
/* "host[ip] said: 550 5.1.1 no such user (in reply to RCPT TO)" */
void session_quote(const struct session *, enum step, char *out, size_t size);
/* The reply's enhanced code if it fits its class, else "4.0.0" or "5.0.0". */
const char *session_dsn(struct session *);

typedef void step_fn(struct session *);
step_fn transaction_mail_reply, transaction_rcpt_reply, transaction_data_reply,
    transaction_end_reply;
/* Fails a recipient for a reason of ours, named by rule. */
void transaction_refuse(
    struct session *, size_t recipient, const char *dsn, const char *rule, const char *text);
/* Offers the job's recipients that have no outcome yet. */
void transaction_start(struct session *);
/* The server answers before it has seen the end of the body. */
void transaction_early_reply(struct session *);
/* Sends more of the body. */
void transaction_drained(struct session *);
/* The connection broke while a message was under way. */
void transaction_lost(struct session *, const char *why);
