/* AUTH (RFC 4954) with the mechanisms PLAIN (RFC 4616) and LOGIN. Passwords live in one buffer
 * that is wiped, and go to authd, which alone can judge them. */
#include "libmail/base64.h"
#include "libmail/proto/auth.h"
#include "smtpd/events.h"
#include "smtpd/verbs.h"

enum { AUTH_TEXT_MAX = 3072, AUTH_FAILURES_MAX = 5 };

struct mechanism;

/* One exchange: from AUTH to the verdict. */
struct auth_exchange {
    const struct mechanism *mechanism;
    struct buf user; /* LOGIN: the first answer */
    struct buf text; /* the latest answer, decoded */
    bool user_known;
};

struct mechanism {
    const char *name;
    const char *first_challenge; /* base64 */
    /* An answer stands in x->text. */
    void (*step)(struct session *, struct auth_exchange *);
};

void auth_free(struct auth_exchange *x)
{
    if (!x)
        return;
    buf_wipe(&x->user);
    buf_wipe(&x->text);
    free(x);
}

static void auth_end(struct session *s)
{
    auth_free(s->auth);
    s->auth = NULL;
    if (s->state == SESSION_AUTH)
        s->state = SESSION_COMMAND;
}

static void challenge(struct session *s, const char *text)
{
    session_reply(s, 334, NULL, "%s", text);
    s->state = SESSION_AUTH;
}

static void auth_syntax(struct session *s, const char *text)
{
    auth_end(s);
    session_refuse(s, "AUTH", 501, "5.5.2", "auth-syntax", slice_of(text));
}

static void log_verdict(struct session *s, struct slice user, const char *result, struct slice why)
{
    log_event(&s->log, smtp_auth, .client = slice_of(s->client),
        .mechanism = slice_of(s->auth->mechanism->name), .user = user, .result = slice_of(result),
        .reason = why);
}

/* The user as given, for the log: LOGIN's first answer or PLAIN's second part. */
static struct slice given_user(const struct session *s)
{
    struct slice rest = buf_slice(&s->auth->text);
    if (s->auth->user_known)
        return slice_first(buf_slice(&s->auth->user), 255);
    (void)slice_cut(&rest, '\0');
    return slice_first(slice_cut(&rest, '\0'), 255);
}

static void on_verdict(struct ipc_in *in, void *arg)
{
    struct session *s = arg;
    const struct auth_verdict *v = in ? in->msg : NULL;
    if (!session_answered(s))
        return;
    if (v && v->code == AUTH_OK) {
        s->login = xmemdup0(v->user.p, v->user.n);
        log_verdict(s, v->user, "ok", slice_of(NULL));
        session_reply(s, 235, "2.7.0", "Authentication successful");
    } else if (v && v->code != AUTH_TEMPORARY) {
        log_verdict(s, given_user(s), "failed", v->why);
        session_refuse(s, "AUTH", 535, "5.7.8", "auth-failed",
            SLICE_LIT("Authentication credentials invalid"));
        if (++s->auth_failures >= AUTH_FAILURES_MAX && !s->loopback)
            session_hang_up(s, "4.7.0", "too-many-logins", "Too many failed logins");
    } else {
        log_verdict(s, given_user(s), "temporary", v ? v->why : SLICE_LIT("authd is away"));
        session_refuse(s, "AUTH", 454, "4.7.0", "auth-temporary",
            SLICE_LIT("Temporary authentication failure"));
    }
    auth_end(s);
    session_resume(s, SESSION_COMMAND);
}

static void ask(struct session *s, struct slice authzid, struct slice user, struct slice password)
{
    if (user.n == 0 || user.n > 255 || authzid.n > 255 || password.n == 0 || password.n > 1024 ||
        slice_chr(user, '\0') >= 0 || slice_chr(authzid, '\0') >= 0) {
        auth_syntax(s, "Malformed credentials");
        return;
    }
    struct auth_login login = {.user = user,
        .password = password,
        .authzid = authzid,
        .service = SLICE_LIT("smtp"),
        .client = slice_of(s->client),
        .tls = stream_is_tls(s->stream)};
    session_wait(s);
    daemon_call(
        s->server->daemon, CONV_AUTH, -1, auth_login_type, s->sid, &login, -1, on_verdict, s);
}

/* RFC 4616 §2: [authzid] NUL authcid NUL passwd. */
static void plain_step(struct session *s, struct auth_exchange *x)
{
    struct slice rest = buf_slice(&x->text);
    struct slice authzid = slice_cut(&rest, '\0');
    struct slice user = slice_cut(&rest, '\0');
    if (!rest.p || slice_chr(rest, '\0') >= 0)
        auth_syntax(s, "Malformed PLAIN message");
    else
        ask(s, authzid, user, rest);
}

static void login_step(struct session *s, struct auth_exchange *x)
{
    if (x->user_known) {
        ask(s, slice_of(NULL), buf_slice(&x->user), buf_slice(&x->text));
        return;
    }
    (void)buf_put(&x->user, buf_slice(&x->text));
    x->user_known = true;
    challenge(s, "UGFzc3dvcmQ6"); /* Password: */
}

static const struct mechanism mechanisms[] = {
    {"PLAIN", "", plain_step}, {"LOGIN", "VXNlcm5hbWU6", login_step}, /* Username: */
};

static void take_answer(struct session *s, struct slice encoded)
{
    struct auth_exchange *x = s->auth;
    buf_wipe(&x->text);
    if (base64_decode(encoded, &x->text))
        auth_syntax(s, "Invalid base64");
    else
        x->mechanism->step(s, x);
}

void auth_line(struct session *s, struct slice line)
{
    if (slice_is(line, "*")) { /* RFC 4954 §4: the client cancels */
        auth_end(s);
        session_refuse(
            s, "AUTH", 501, "5.7.0", "auth-cancelled", SLICE_LIT("Authentication cancelled"));
        return;
    }
    take_answer(s, line);
}

static const struct mechanism *find_mechanism(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++)
        if (slice_iis(name, mechanisms[i].name))
            return &mechanisms[i];
    return NULL;
}

/* False when AUTH is out of place; then it has been answered. */
static bool auth_permitted(struct session *s, struct slice name, const struct mechanism *m)
{
    if (s->service->auth == DEMAND_NONE)
        session_refuse(s, "AUTH", 502, "5.5.1", "auth-off", SLICE_LIT("AUTH is not available"));
    else if (!session_may_auth(s))
        session_refuse(s, "AUTH", 538, "5.7.11", "auth-plaintext",
            SLICE_LIT("Encryption is required for authentication"));
    else if (s->login || s->txn)
        session_refuse(s, "AUTH", 503, "5.5.1", "sequence",
            s->login ? SLICE_LIT("Already authenticated")
                     : SLICE_LIT("AUTH is not permitted during a mail transaction"));
    else if (name.n == 0)
        session_refuse(s, "AUTH", 501, "5.5.4", "syntax", SLICE_LIT("Syntax: AUTH mechanism"));
    else if (!m)
        session_refuse(
            s, "AUTH", 504, "5.5.4", "auth-mechanism", SLICE_LIT("Unrecognized mechanism"));
    else
        return true;
    return false;
}

void cmd_auth(struct session *s, struct slice args)
{
    struct slice initial = args, name = slice_cut(&initial, ' ');
    const struct mechanism *m = find_mechanism(name);
    if (!auth_permitted(s, name, m))
        return;
    s->auth = NEW(struct auth_exchange);
    s->auth->mechanism = m;
    buf_init(&s->auth->user, AUTH_TEXT_MAX);
    buf_init(&s->auth->text, AUTH_TEXT_MAX);
    initial = slice_trim(initial);
    if (initial.n == 0)
        challenge(s, m->first_challenge);
    else if (slice_is(initial, "=")) /* RFC 4954 §4: an initial response of no bytes */
        take_answer(s, slice_of(""));
    else
        take_answer(s, initial);
}
