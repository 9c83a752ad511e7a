/*
 * One client connection. session.c does input and output; the commands live in cmd_*.c and are
 * listed in verbs.c.
 *
 *     GREETING  TLS from the first byte: the handshake is under way
 *     COMMAND   the next line is a command
 *     AUTH      the next line is an answer to an AUTH challenge
 *     DATA      content of the transaction arrives
 *     CHUNK     content announced by BDAT arrives
 *     WAITING   another process is asked; input stays where it is, so replies keep their order
 *     TLS       STARTTLS was answered, the handshake is under way
 *     CLOSING   the last reply was given
 *     CLOSED    the connection is gone; answers still under way keep the memory alive
 *
 * A session is freed by session.c alone, when it is CLOSED and nothing is pending.
 */
#pragma once

#include "libutil/stream.h"
#include "smtpd/server.h"
#include "smtpd/transaction.h"

enum session_state {
    SESSION_GREETING,
    SESSION_COMMAND,
    SESSION_AUTH,
    SESSION_DATA,
    SESSION_CHUNK,
    SESSION_WAITING,
    SESSION_TLS,
    SESSION_CLOSING,
    SESSION_CLOSED
};

enum { SESSION_LINE_MAX = 4096, SESSION_IN_MAX = 65536, SESSION_OUT_MAX = 262144 };

struct auth_exchange;

struct session {
    struct server *server;
    struct service *service;
    struct list link;
    struct stream *stream;
    struct timer timer;
    struct log log; /* sid= */
    uint64_t sid;
    enum session_state state;
    struct transaction *txn; /* NULL outside of MAIL..content */
    struct auth_exchange *auth;
    char *helo;         /* NULL: not said yet */
    char *login;        /* NULL: not authenticated */
    char *client_name;  /* verified name from DNS, or NULL */
    char *claimed_name; /* being verified */
    char *etrn_name;    /* what ETRN asks for, while qmgr is asked */
    const char *close_reason;
    int64_t started;
    int64_t uid; /* of a local submitter; -1 */
    unsigned pending;
    unsigned errors, auth_failures, messages, recipients;
    uint64_t chunk_left; /* octets of a BDAT that are still to come */
    bool chunk_last;
    struct smtp_refusal chunk_refusal; /* code 0: it is taken; else what to say after it */
    const char *chunk_rule;
    bool esmtp;     /* EHLO or LHLO, not HELO */
    bool loopback;  /* the client is on this host */
    bool trusted;   /* in `networks` */
    size_t skipped; /* octets of an over-long line dropped so far; 0: none */
    bool congested; /* replies pile up: no commands until they are written */
    char client[64];
};

/* Takes fd. client: the address in text, or "uid:N" of a local submitter. */
struct session *session_new(struct service *, int fd, struct slice client, int64_t uid);
enum { SESSION_GRACE_MS = 2000 };
/* Ends all talk: 421 where a reply may be sent now, to a client that has sent no message yet
 * SESSION_GRACE_MS after it came. */
void session_shut_down(struct session *);

/* --- for the commands --- */

/* A reply with its enhanced status code (NULL: none). */
void session_reply(struct session *, unsigned code, const char *dsn, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* A 4xx or 5xx reply, logged with its rule; text is sanitised. Too many 5xx end the session. */
void session_refuse(struct session *, const char *verb, unsigned code, const char *dsn,
    const char *rule, struct slice text);
/* A 421 reply, then the end. */
void session_hang_up(struct session *, const char *dsn, const char *rule, const char *text);
/* The reply to QUIT, then the end. */
void session_quit(struct session *);
/* Nothing is read until session_resume; the pending callback must call session_done_waiting. */
void session_wait(struct session *);
/* First call of every answer's callback. False: the client has gone and the session with it. */
bool session_answered(struct session *);
/* Back to the given state, going on with what the client sent meanwhile. */
void session_resume(struct session *, enum session_state);
/* Forgets the transaction, whatever its state, and what qmgr holds of it. */
void session_reset(struct session *);
/* Forgets everything a client has said (RFC 3207 §4.2). */
void session_forget_hello(struct session *);
bool session_is_lmtp(const struct session *);
/* Whether a password may travel on this connection as it is. */
bool session_may_auth(const struct session *);
bool session_offers_tls(const struct session *);
/* Whether this client may send mail to anywhere. */
bool session_may_relay(const struct session *);
struct slice session_login(const struct session *);
/* How far in the future its mail may be delivered, ms; 0: FUTURERELEASE is not offered. */
int64_t session_future_release(const struct session *);
/* Whether ETRN is offered. */
bool session_may_etrn(const struct session *);

/* verbs.c: one command line. */
void verbs_run(struct session *, struct slice line);
/* verbs.c: names of the commands of this protocol, for HELP. */
void verbs_list(const struct session *, struct buf *out);
/* cmd_auth.c: an answer to a challenge. */
void auth_line(struct session *, struct slice line);
void auth_free(struct auth_exchange *);
/* cmd_data.c: content; consumes what it can from the stream's input. */
void data_arrived(struct session *);
/* cmd_data.c: content for the transaction; end: the last chunk of it. */
void data_take(struct session *, struct slice content, bool end);
/* cmd_bdat.c: the same for a chunk. */
void chunk_arrived(struct session *);
/* cmd_bdat.c: goes on after qmgr has lent a file. */
void chunk_resume(struct session *);
/* client_name.c: begins to find the client's name. */
void client_name_start(struct session *);
/* commit.c: hands the finished message to qmgr: the session waits afterwards, or is back in
 * COMMAND with the refusal given. */
void commit_start(struct session *);
/* commit.c: lets qmgr forget what it holds of the transaction. */
void commit_drop(struct session *);
