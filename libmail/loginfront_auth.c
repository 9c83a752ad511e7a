/* Credentials to authd, its verdict back, and the two SASL mechanisms that carry passwords. */
#include "libmail/base64.h"
#include "libmail/login_events.h"
#include "libmail/loginfront_parts.h"
#include "libmail/proto/auth.h"

enum { SASL_MAX = LOGIN_PASSWORD_MAX + 2 * LOGIN_USER_MAX + 2 };

static void fail(struct login *l, enum login_answer answer, const char *rule, struct slice why)
{
    struct login_front *f = l->front;
    int64_t delay = 0;
    if (answer == LOGIN_REFUSED && !l->loopback)
        delay = login_penalty_add(
            &f->penalty, slice_of(l->client), slice_of(l->user), loop_now(f->daemon->loop));
    log_event(&l->log, login_fail, .user = slice_of(l->user), .client = slice_of(l->client),
        .method = slice_of(l->method), .rule = slice_of(rule), .why = why, .delay_ms = delay);
    if (!delay) {
        login_resume(l, answer);
        return;
    }
    l->phase = DELAY;
    l->verdict = answer;
    timer_start(&l->delay, delay);
}

static void on_verdict(struct ipc_in *in, void *arg)
{
    struct login *l = arg;
    const struct auth_verdict *v = in ? in->msg : NULL;
    if (l->phase != CHECKING) {
        login_answered(l);
        return;
    }
    l->waiting = false;
    if (!v) {
        fail(l, LOGIN_TEMPORARY, "authd", SLICE_LIT("no answer"));
    } else if (v->code == AUTH_OK) {
        if (v->user.n && !slice_to_cstr(v->user, l->user, sizeof(l->user)))
            l->user[0] = '\0';
        login_penalty_forgive(&l->front->penalty, slice_of(l->user));
        login_spawn(l, v->ticket);
    } else if (v->code == AUTH_TEMPORARY) {
        fail(l, LOGIN_TEMPORARY, "authd", v->why);
    } else {
        fail(l, LOGIN_REFUSED, v->code == AUTH_DISABLED ? "disabled" : "password", v->why);
    }
}

/* At once and without asking anyone. */
static void refuse(struct login *l, enum login_answer answer)
{
    l->front->protocol->answer(l, answer);
    login_mistake(l);
}

static bool acceptable(struct slice s, size_t max)
{
    return s.n > 0 && s.n <= max && slice_chr(s, '\0') < 0;
}

void login_password(struct login *l, struct slice user, struct slice password, struct slice authzid,
    const char *method, struct slice tag)
{
    if (!login_offers_auth(l)) {
        log_event(&l->log, login_fail, .client = slice_of(l->client), .method = slice_of(method),
            .rule = SLICE_LIT("plaintext-auth"));
        refuse(l, LOGIN_NEEDS_TLS);
        return;
    }
    l->method = method;
    bool fits = acceptable(user, LOGIN_USER_MAX) && acceptable(password, LOGIN_PASSWORD_MAX) &&
                (!authzid.n || acceptable(authzid, LOGIN_USER_MAX)) &&
                slice_to_cstr(user, l->user, sizeof(l->user)) &&
                slice_to_cstr(tag, l->tag, sizeof(l->tag));
    if (!fits) {
        refuse(l, LOGIN_MALFORMED);
        return;
    }
    struct auth_login ask = {.user = user,
        .password = password,
        .authzid = authzid,
        .service = slice_of(l->front->protocol->service),
        .client = slice_of(l->client),
        .tls = login_has_tls(l)};
    l->phase = CHECKING;
    l->waiting = true;
    stream_pause(l->stream, true);
    daemon_call(l->front->daemon, CONV_AUTH, -1, auth_login_type, l->id, &ask, -1, on_verdict, l);
}

/* --- SASL ------------------------------------------------------------------------------------ */

/* Decodes a response; false: answered already. The buffer holds a password: wipe it. */
static bool sasl_decode(struct login *l, struct slice text, struct buf *out)
{
    buf_init(out, SASL_MAX);
    if (slice_is(text, "*")) {
        refuse(l, LOGIN_CANCELLED);
        return false;
    }
    if (base64_decode(text, out) == OK)
        return true;
    refuse(l, LOGIN_MALFORMED);
    buf_wipe(out);
    return false;
}

static void plain_response(struct login *l, struct slice text)
{
    struct buf b;
    if (!sasl_decode(l, text, &b))
        return;
    /* RFC 4616: [authzid] NUL authcid NUL passwd */
    struct slice rest = buf_slice(&b);
    struct slice authzid = slice_cut(&rest, '\0');
    struct slice user = slice_cut(&rest, '\0');
    if (!rest.p)
        refuse(l, LOGIN_MALFORMED);
    else
        login_password(l, user, rest, authzid, "plain", slice_of(l->tag));
    buf_wipe(&b);
}

static void challenge(struct login *l, const char *text, login_command_fn *then)
{
    buf_printf(login_out(l), "+ %s\r\n", text);
    login_expect(l, then);
}

static void login_pass_response(struct login *l, struct slice text)
{
    struct buf b;
    if (!sasl_decode(l, text, &b))
        return;
    login_password(
        l, slice_of(l->sasl_user), buf_slice(&b), SLICE_LIT(""), "login", slice_of(l->tag));
    buf_wipe(&b);
}

static void login_user_response(struct login *l, struct slice text)
{
    struct buf b;
    if (!sasl_decode(l, text, &b))
        return;
    if (slice_to_cstr(buf_slice(&b), l->sasl_user, sizeof(l->sasl_user)))
        challenge(l, "UGFzc3dvcmQ6", login_pass_response); /* "Password:" */
    else
        refuse(l, LOGIN_MALFORMED);
    buf_wipe(&b);
}

static const struct {
    const char *name;
    const char *first; /* challenge */
    login_command_fn *response;
} mechanisms[] = {
    {"PLAIN", "", plain_response},
    {"LOGIN", "VXNlcm5hbWU6" /* "Username:" */, login_user_response},
};

void login_sasl(struct login *l, struct slice mechanism, struct slice initial, struct slice tag)
{
    if (!slice_to_cstr(tag, l->tag, sizeof(l->tag))) {
        refuse(l, LOGIN_MALFORMED);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
        if (!slice_iis(mechanism, mechanisms[i].name))
            continue;
        if (!login_offers_auth(l)) /* before the client shows anything */
            login_password(l, initial, initial, initial, mechanisms[i].name, tag);
        else if (!initial.p)
            challenge(l, mechanisms[i].first, mechanisms[i].response);
        else
            mechanisms[i].response(l, slice_is(initial, "=") ? SLICE_LIT("") : initial);
        return;
    }
    refuse(l, LOGIN_MECHANISM);
}
