#include "brokers/authd/server.h"

#include "brokers/authd/events.h"
#include "brokers/authd/memory.h"
#include "brokers/authd/verify.h"
#include "libmail/proto/auth.h"
#include "libmail/users.h"
#include "libutil/net.h"
#include "libutil/password.h"

enum { NAMES_PAGE = 60000 };

struct server {
    struct daemon *daemon;
    struct users *users;
    struct verifier *verifier;
    struct credentials credentials;
    struct failures failures;
    struct tickets tickets;
    struct list logins; /* under way */
    int64_t delay;
    uint64_t generation;
    unsigned threads;
    char dummy[PASSWORD_HASH_MAX]; /* hashed for users who do not exist */
};

/* One login under way: waiting for its hash, or held back. */
struct login {
    struct list link;
    struct server *server;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    uint64_t trace;
    struct user user;
    struct slice password; /* in memory */
    char *memory;
    char name[256], service[17], client[65];
    bool tls, loopback, known, cached;
    uint32_t code;
    const char *rule;
    char why[256];
    struct timer timer;
};

/* --- start ------------------------------------------------------------------------------------ */
int server_configure(struct daemon *d, struct error *err)
{
    struct server *s = NEW(struct server);
    const struct conf_block *auth = conf_one(d->conf, "auth");
    d->data = s;
    s->daemon = d;
    list_init(&s->logins);
    credentials_init(&s->credentials, conf_int(auth, "cache"));
    failures_init(&s->failures, conf_int(auth, "window"), (unsigned)conf_int(auth, "max-failures"));
    tickets_init(&s->tickets);
    s->delay = conf_int(auth, "delay");
    s->threads = (unsigned)conf_int(auth, "workers");
    s->users = users_new(d->conf, "/etc", err);
    if (!s->users)
        return err->code;
    d->paths.read = users_directories(s->users);
    s->generation = users_generation(s->users);
    /* The cost of hashes differs: a hash of the table itself takes as long as the table's. */
    if (users_any_hash(s->users, s->dummy, sizeof(s->dummy)))
        return OK;
    return password_hash("a password that nobody has", s->dummy, err);
}

int server_start(struct daemon *d, struct error *err)
{
    struct server *s = d->data;
    struct user nobody;
    /* Whether the table can still be read with the rights that are left. */
    int rc = users_login(s->users, SLICE_LIT("nobody@invalid"), &nobody, err);
    if (rc != ERR_NOT_FOUND)
        return rc;
    s->verifier = verifier_new(d->loop, s->threads, err);
    return s->verifier ? OK : ERR_IO;
}

static void login_free(struct login *l)
{
    list_remove(&l->link);
    timer_stop(&l->timer);
    if (l->memory) {
        explicit_bzero(l->memory, l->password.n);
        free(l->memory);
    }
    explicit_bzero(l, sizeof(*l));
    free(l);
}

void server_free(struct daemon *d)
{
    struct server *s = d->data;
    if (!s)
        return;
    verifier_free(s->verifier);
    LIST_EACH(it, &s->logins)
    {
        login_free(LIST_ENTRY(it, struct login, link));
    }
    credentials_clear(&s->credentials);
    failures_clear(&s->failures);
    tickets_clear(&s->tickets);
    users_free(s->users);
    free(s);
    d->data = NULL;
}

void server_peer_down(struct peer *peer)
{
    struct server *s = peer->daemon->data;
    LIST_EACH(it, &s->logins)
    {
        struct login *l = LIST_ENTRY(it, struct login, link);
        if (l->peer == peer)
            l->peer = NULL;
    }
    free(peer->data); /* see tell_mark */
    peer->data = NULL;
}

/* --- login ------------------------------------------------------------------------------------ */
static void answer(void *arg)
{
    struct login *l = arg;
    struct server *s = l->server;
    uint8_t ticket[TICKET_LEN];
    struct auth_verdict verdict = {.code = l->code, .why = slice_of(l->why)};
    if (l->code == AUTH_OK) {
        verdict.user = slice_of(l->user.name);
        bool session = strcmp(l->service, "imap") == 0 || strcmp(l->service, "pop3") == 0;
        if (session && tickets_issue(&s->tickets, l->user.name, slice_of(l->service),
                           loop_now(s->daemon->loop), ticket) == OK)
            verdict.ticket = slice_from(ticket, sizeof(ticket));
        else if (session)
            verdict.code = AUTH_TEMPORARY;
    }
    if (l->peer)
        ipc_reply(l->peer->ipc, l->id, l->trace, auth_verdict_type, &verdict, -1);
    explicit_bzero(ticket, sizeof(ticket));
    login_free(l);
}

/* A log whose lines carry the session's id. */
static struct log log_of(const struct server *s, uint64_t trace)
{
    struct log log;
    log_set_id(&log, &s->daemon->log, "sid", trace);
    return log;
}

static void refuse(struct login *l, uint32_t code, const char *rule, const char *why)
{
    struct server *s = l->server;
    struct log log = log_of(s, l->trace);
    l->code = code;
    snprintf(l->why, sizeof(l->why), "%s", why);
    log_event(&log, auth_fail, .user = slice_of(l->name), .service = slice_of(l->service),
        .client = slice_of(l->client), .tls = l->tls, .rule = slice_of(rule),
        .reason = slice_of(why));
    bool hold = code != AUTH_TEMPORARY && !l->loopback && s->delay > 0;
    if (code == AUTH_FAILED && !l->loopback && strcmp(rule, "limit") != 0)
        failures_add(
            &s->failures, slice_of(l->client), slice_of(l->name), loop_now(s->daemon->loop));
    if (!hold) {
        answer(l);
        return;
    }
    timer_init(&l->timer, s->daemon->loop, answer, l);
    timer_start(&l->timer, s->delay);
}

static void accept_login(struct login *l)
{
    struct log log = log_of(l->server, l->trace);
    log_event(&log, auth_ok, .user = slice_of(l->user.name), .service = slice_of(l->service),
        .client = slice_of(l->client), .tls = l->tls, .cached = l->cached);
    l->code = AUTH_OK;
    answer(l);
}

static void on_verified(int rc, void *arg)
{
    struct login *l = arg;
    struct server *s = l->server;
    if (!l->known) {
        refuse(l, AUTH_FAILED, "unknown", "no such user");
    } else if (rc == ERR_TEMP) {
        refuse(l, AUTH_TEMPORARY, "memory", "no memory to verify the password");
    } else if (rc || !l->user.hash[0]) {
        refuse(l, AUTH_FAILED, "password", "wrong password");
    } else if (l->user.disabled) {
        refuse(l, AUTH_DISABLED, "disabled", "the account is disabled");
    } else {
        credentials_remember(
            &s->credentials, l->user.name, l->user.hash, l->password, loop_now(s->daemon->loop));
        accept_login(l);
    }
}

static void verify(struct login *l)
{
    struct server *s = l->server;
    int rc = verifier_submit(s->verifier, l->password,
        l->known && l->user.hash[0] ? l->user.hash : s->dummy, on_verified, l);
    if (rc == ERR_BUSY)
        refuse(l, AUTH_TEMPORARY, "busy", "too many logins are waiting");
    else if (rc)
        refuse(l, AUTH_FAILED, "password", "a password no hash can match");
}

/* A changed table may have changed anything: forget what was verified against the old one. */
static void follow_table(struct server *s)
{
    uint64_t generation = users_generation(s->users);
    if (generation == s->generation)
        return;
    int64_t ttl = s->credentials.ttl;
    s->generation = generation;
    credentials_clear(&s->credentials);
    credentials_init(&s->credentials, ttl);
}

static void check_login(struct login *l)
{
    struct server *s = l->server;
    struct error err = {0};
    int64_t now = loop_now(s->daemon->loop);
    if (!l->loopback &&
        failures_too_many(&s->failures, slice_of(l->client), slice_of(l->name), now)) {
        refuse(l, AUTH_FAILED, "limit", "too many failures from this address or to this account");
        return;
    }
    follow_table(s);
    int rc = users_login(s->users, slice_of(l->name), &l->user, &err);
    l->known = rc == OK;
    if (rc == ERR_SYNTAX)
        refuse(l, AUTH_TEMPORARY, "format", err.text);
    else if (rc != OK && rc != ERR_NOT_FOUND)
        refuse(l, AUTH_TEMPORARY, "table", err.text);
    else if (l->known && !l->user.disabled &&
             credentials_known(&s->credentials, l->user.name, l->user.hash, l->password, now)) {
        l->cached = true;
        accept_login(l);
    } else {
        verify(l);
    }
}

static bool is_loopback(struct slice client)
{
    struct net_addr addr;
    return client.n == 0 || (net_addr_parse(client, &addr) == OK && net_addr_is_loopback(&addr));
}

static void on_login(struct server *s, struct peer *peer, struct ipc_in *in)
{
    const struct auth_login *ask = in->msg;
    struct login *l = NEW(struct login);
    list_append(&s->logins, &l->link);
    l->server = s;
    l->peer = peer;
    l->id = in->id;
    l->trace = in->trace;
    l->tls = ask->tls;
    l->loopback = is_loopback(ask->client);
    l->memory = xmemdup0(ask->password.p, ask->password.n);
    l->password = slice_from(l->memory, ask->password.n);
    bool fits = slice_to_cstr(ask->user, l->name, sizeof(l->name)) &&
                slice_to_cstr(ask->service, l->service, sizeof(l->service)) &&
                slice_to_cstr(ask->client, l->client, sizeof(l->client));
    if (!fits || ask->user.n == 0)
        refuse(l, AUTH_FAILED, "unknown", "no user name");
    else if (ask->authzid.n && !slice_ieq(ask->authzid, ask->user))
        refuse(l, AUTH_FAILED, "authzid", "asks to act for another user");
    else
        check_login(l);
}

/* --- tickets and users ------------------------------------------------------------------------ */
static void log_refused(
    struct peer *peer, const struct ipc_in *in, const char *rule, const char *reason)
{
    struct log log = log_of(peer->daemon->data, in->trace);
    log_event(&log, auth_refused,
        .peer = slice_of(peer->role < ROLE_ANY_COUNT ? role_info(peer->role)->program : ""),
        .rule = slice_of(rule), .reason = slice_of(reason));
}

/* Whose mail is where; `session`: for one who may log in. The grant points into `user`. */
static struct auth_grant grant_of(
    struct server *s, struct slice name, bool session, struct user *user, struct error *err)
{
    struct auth_grant grant = {.code = AUTH_OK, .uid = -1, .gid = -1};
    int rc =
        session ? users_login(s->users, name, user, err) : users_owner(s->users, name, user, err);
    bool gone = rc == ERR_NOT_FOUND || (session && user->disabled);
    if (rc == OK && !user->mail[0])
        rc = error_set(err, ERR_UNSUPPORTED, "the mail of accounts is in mbox files");
    if (rc || gone) {
        if (gone)
            error_set(err, ERR_NOT_FOUND, "the user has gone meanwhile");
        grant.code = gone ? AUTH_FAILED : AUTH_TEMPORARY;
        return grant;
    }
    grant.user = slice_of(user->name);
    grant.uid = user->uid;
    grant.gid = user->gid;
    grant.mail = slice_of(user->mail);
    grant.coexist = user->coexist;
    grant.quota = slice_of(user->quota);
    return grant;
}

static void on_redeem(struct server *s, struct peer *peer, struct ipc_in *in)
{
    const struct auth_redeem *ask = in->msg;
    struct auth_grant grant = {.code = AUTH_FAILED, .uid = -1, .gid = -1};
    struct error err = {0};
    struct user user = {0};
    char name[256];
    if (!tickets_redeem(&s->tickets, ask->ticket, ask->service, loop_now(s->daemon->loop), name,
            sizeof(name))) {
        log_refused(
            peer, in, "ticket", "no such ticket, or its time is over, or of another service");
    } else {
        grant = grant_of(s, slice_of(name), true, &user, &err);
        if (grant.code != AUTH_OK)
            log_refused(peer, in, "user", err.text);
    }
    ipc_reply(peer->ipc, in->id, in->trace, auth_grant_type, &grant, -1);
    user_wipe(&user);
}

/* The mail of those who may not log in is there all the same. */
static void on_owner(struct server *s, struct peer *peer, struct ipc_in *in)
{
    const struct auth_owner *ask = in->msg;
    struct error err = {0};
    struct user user = {0};
    struct auth_grant grant = grant_of(s, ask->user, false, &user, &err);
    if (err.code == ERR_SYNTAX || err.code == ERR_UNSUPPORTED)
        grant.code = AUTH_FAILED; /* nothing that time heals */
    ipc_reply(peer->ipc, in->id, in->trace, auth_grant_type, &grant, -1);
    user_wipe(&user);
}

/* Made anew for each page: what changed meanwhile does no harm, and nothing is kept. */
static void on_list(struct server *s, struct peer *peer, struct ipc_in *in)
{
    const struct auth_list *ask = in->msg;
    struct auth_names answer = {.code = AUTH_OK};
    struct error err = {0};
    struct buf page;
    char **names = NULL;
    size_t n = 0;
    buf_init(&page, NAMES_PAGE);
    int rc = users_names(s->users, &names, &n, &err);
    for (size_t i = 0; !rc && i < n && !answer.more; i++) {
        if (slice_cmp(slice_of(names[i]), ask->after) <= 0)
            continue;
        answer.more = buf_len(&page) + strlen(names[i]) + 1 > NAMES_PAGE;
        if (!answer.more)
            buf_printf(&page, "%s\n", names[i]);
    }
    answer.names = buf_slice(&page);
    if (rc) {
        answer = (struct auth_names){.code = AUTH_TEMPORARY};
        log_event(&s->daemon->log, log_trouble, .what = SLICE_LIT("users table"),
            .reason = slice_of(err.text));
    }
    ipc_reply(peer->ipc, in->id, in->trace, auth_names_type, &answer, -1);
    users_names_free(names, n);
    buf_clear(&page);
}

/* Which state of the users table the peer may keep answers from; 0: of none. */
static uint64_t tell_mark(struct server *s, struct peer *peer)
{
    struct filemark mark;
    struct error err;
    uint64_t generation = users_generation(s->users), *told = peer->data;
    if (!told)
        told = peer->data = xcalloc(1, sizeof(*told));
    if (generation == *told || users_mark(s->users, generation, &mark, &err))
        return generation == *told ? generation : 0;
    const struct auth_mark m = {.generation = generation, FILEMARK_VALUES(&mark)};
    if (ipc_send(peer->ipc, auth_mark_type, 0, &m, mark.fd) == OK)
        *told = generation;
    filemark_clear(&mark);
    return *told == generation ? generation : 0;
}

static void on_user(struct server *s, struct peer *peer, struct ipc_in *in)
{
    const struct auth_user *ask = in->msg;
    struct auth_known known = {.code = AUTH_OK};
    struct error err = {0};
    struct user user;
    uint64_t generation = tell_mark(s, peer);
    int rc = users_mailbox(s->users, ask->user, &user, &err);
    known.mail = slice_of(user.mail);
    known.quota = slice_of(user.quota);
    known.coexist = user.coexist;
    known.generation = users_generation(s->users) == generation ? generation : 0;
    if (rc) {
        known = (struct auth_known){.code = rc == ERR_NOT_FOUND ? AUTH_FAILED : AUTH_TEMPORARY};
        if (rc != ERR_NOT_FOUND)
            log_event(&s->daemon->log, log_trouble, .what = SLICE_LIT("users table"),
                .reason = slice_of(err.text));
    }
    ipc_reply(peer->ipc, in->id, in->trace, auth_known_type, &known, -1);
    user_wipe(&user);
}

/* Which process may ask what (I2): a login front cannot redeem what it was given. */
static const struct {
    unsigned type;
    uint64_t roles;
    void (*handle)(struct server *, struct peer *, struct ipc_in *);
} requests[] = {
    {auth_login_type, ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_IMAP_LOGIN) | ROLE_BIT(ROLE_POP3_LOGIN),
        on_login},
    {auth_redeem_type, ROLE_BIT(ROLE_IMAP_SESSION) | ROLE_BIT(ROLE_POP3_SESSION), on_redeem},
    {auth_user_type, ROLE_BIT(ROLE_LOOKUPD), on_user},
    {auth_list_type, ROLE_BIT(ROLE_HOUSE), on_list},
    {auth_owner_type, ROLE_BIT(ROLE_HOUSE), on_owner},
};

void server_message(struct peer *peer, struct ipc_in *in)
{
    for (size_t i = 0; i < ARRAY_LEN(requests); i++)
        if (requests[i].type == in->type && (requests[i].roles & ROLE_BIT(peer->role))) {
            requests[i].handle(peer->daemon->data, peer, in);
            return;
        }
    log_refused(peer, in, "role", "this process may not ask that");
}
