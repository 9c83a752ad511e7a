/* What the login front's own files share. */
#pragma once

#include <netinet/in.h>

#include "libmail/login_penalty.h"
#include "libmail/loginfront.h"
#include "libutil/keysign.h"
#include "libutil/tls.h"

enum {
    LOGIN_USER_MAX = 255,
    LOGIN_PASSWORD_MAX = 1024,
    LOGIN_TAG_MAX = 127,
    LOGIN_INPUT_MAX = 16384,
    LOGIN_OUTPUT_MAX = 65536
};

enum login_phase { COMMAND, TLS, CHECKING, DELAY, SPAWNING, RELAY, CLOSING };

/* A listen block and its sockets. */
struct login_place {
    struct list link;
    struct login_front *front;
    char name[64];
    int fd;
    bool tls_at_once, tls_offered, tls_required;
    enum { PLAIN_NEVER, PLAIN_LOOPBACK, PLAIN_ALWAYS } plaintext;
    int64_t timeout;
    unsigned max_errors, max_sessions, sessions;
    struct io *io;
    struct timer rest; /* after running out of descriptors */
};

struct login_front {
    struct daemon *daemon;
    const struct login_protocol *protocol;
    struct tls_context *tls;
    struct keysign keysign;
    struct login_penalty penalty;
    struct map addresses; /* connections per address, as a counted pointer */
    struct list places, logins;
    unsigned sessions;
    char hostname[256];
};

struct login {
    struct list link;
    struct login_front *front;
    struct login_place *place;
    struct log log;
    uint64_t id;
    int64_t began;
    char client[INET6_ADDRSTRLEN];
    bool loopback;
    bool counted; /* in front->addresses */
    bool waiting; /* an answer to a call is due: the struct must stay */
    enum login_phase phase;
    enum login_answer verdict; /* to be given after the delay */
    unsigned errors;
    struct stream *stream;  /* the client; NULL while only its descriptor is held */
    struct stream *session; /* the other end of a relay */
    int fd;                 /* the client's descriptor between stream and session */
    int pair;               /* the session's end of a relay until it is started */
    uint64_t received, sent;
    struct timer delay;
    struct timer patience; /* until login */
    login_command_fn *next;
    char user[LOGIN_USER_MAX + 1], tag[LOGIN_TAG_MAX + 1], sasl_user[LOGIN_USER_MAX + 1];
    const char *method, *why;
    max_align_t state[]; /* the protocol's */
};

/* A new connection; takes fd. */
void login_open(struct login_place *, int fd, const char *client, bool loopback);
/* Drops it at once. */
void login_drop(struct login *, const char *why);
/* Verdict ok: starts the session (loginfront_spawn.c). */
void login_spawn(struct login *, struct slice ticket);
/* Makes the stream of a client from its descriptor. */
void login_attach(struct login *, int fd);
/* Back to commands with this answer. */
void login_resume(struct login *, enum login_answer);
/* A call's answer came too late: frees what login_drop had to leave. */
void login_answered(struct login *);
/* Tells a client that has not logged in to come again later. */
void login_going_down(struct login *);

/* The client's stream while phase is RELAY. */
void login_relay(struct login *, struct stream *from);
void login_relay_drained(struct login *, struct stream *drained);
void login_relay_closed(struct login *);

/* Accounting: whether this address may have one more connection; the connection is gone. */
bool login_front_admit(struct login_front *, struct login *);
void login_front_forget(struct login *);
