/*
 * The login front: what imap-login and pop3-login share. It accepts connections, speaks TLS and
 * the few commands before login, asks authd, and hands the connection to the session spawner:
 * the bare descriptor without TLS, one end of a socket pair with it, whose bytes the front then
 * relays. It holds no files and no keys.
 *
 * A protocol is a table (struct login_protocol) of small functions over complete commands.
 *
 *     COMMAND --STARTTLS--> TLS --> COMMAND
 *     COMMAND --credentials--> CHECKING --refused--> DELAY --> COMMAND
 *     CHECKING --accepted--> SPAWNING --failed--> COMMAND
 *     SPAWNING --started--> RELAY (TLS) or gone (plain)
 *     any --error, QUIT, time--> CLOSING --> gone
 */
#pragma once

#include "libutil/daemon.h"
#include "libutil/stream.h"

struct login;

/* What the front has to tell a client; each protocol says it in its own words. */
enum login_answer {
    LOGIN_REFUSED,     /* wrong user or password */
    LOGIN_TEMPORARY,   /* authd could not say */
    LOGIN_UNAVAILABLE, /* no session could be started */
    LOGIN_NEEDS_TLS,   /* passwords are not accepted like this */
    LOGIN_CANCELLED,   /* the client gave up a SASL exchange */
    LOGIN_MALFORMED,   /* of SASL data */
    LOGIN_MECHANISM,   /* unknown */
    LOGIN_TOO_LONG,    /* then closed */
    LOGIN_TOO_MANY,    /* errors; then closed */
    LOGIN_TOO_SLOW,    /* then closed */
    LOGIN_GOING_DOWN,  /* then closed */
    LOGIN_CROWDED,     /* at connection; then closed */
    LOGIN_ANSWERS
};

/* Takes one complete command, which it may overwrite; it is gone when this returns. */
typedef void login_command_fn(struct login *, struct slice command);

struct login_protocol {
    const char *service; /* "imap": in listen blocks and tickets */
    size_t command_max;  /* with literals */
    size_t state_size;   /* of the protocol's own, zeroed at start and after STARTTLS */
    void (*greet)(struct login *);
    /* Length of the complete command at the beginning of the input, 0: there is more to come,
     * negative: hopeless. May write continuation requests. NULL: lines. */
    ptrdiff_t (*frame)(struct login *, struct slice input);
    login_command_fn *command;
    void (*answer)(struct login *, enum login_answer);
};

struct login_front;
extern const struct daemon_conv login_convs[];

#define LOGIN_PROFILE(program)                                                     \
    {                                                                              \
        .name = (program), .account = "veredus-login", .root = SANDBOX_ROOT_EMPTY, \
        .calls = SANDBOX_ACCEPT | SANDBOX_SOCKETPAIR                               \
    }

/* For the daemon_spec; daemon->data is the front. */
int login_front_configure(struct daemon *, const struct login_protocol *, struct error *) MUST_USE;
int login_front_start(struct daemon *, struct error *) MUST_USE;
void login_front_listener(struct daemon *, struct listener *);
void login_front_drain(struct daemon *);
unsigned login_front_sessions(struct daemon *);
/* Ends all connections and frees the front. */
void login_front_free(struct login_front *);

/* A connection by hand, as tests do; takes fd. */
void login_front_serve(struct login_front *, int fd, const char *client, const char *listener);

/* --- for protocols ------------------------------------------------------------------------ */

void *login_state(struct login *);
/* Flushed when the command returns. */
struct buf *login_out(struct login *);
const char *login_hostname(const struct login *);
bool login_has_tls(const struct login *);
bool login_offers_tls(const struct login *);
/* Whether passwords are accepted on this connection as it stands. */
bool login_offers_auth(const struct login *);
/* After the acceptance has been written to login_out. */
void login_start_tls(struct login *);
/* After the farewell has been written. */
void login_finish(struct login *, const char *why);
/* Counts a client's mistake; past the limit, answers LOGIN_TOO_MANY and closes. */
void login_mistake(struct login *);
/* The next command goes to fn instead, once. */
void login_expect(struct login *, login_command_fn *fn);

/* Checks a password and goes on from there; answers come through protocol->answer, success by
 * the session. `tag` is for the session (imap). The slices may be forgotten at once. */
void login_password(struct login *, struct slice user, struct slice password, struct slice authzid,
    const char *method, struct slice tag);
/* A SASL exchange: PLAIN (RFC 4616) and LOGIN. initial.p NULL: none was sent; "=": empty
 * (RFC 4959, RFC 5034). Challenges are written as "+ data". */
void login_sasl(struct login *, struct slice mechanism, struct slice initial, struct slice tag);
