#include "smtpd/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "libutil/file.h"
#include "smtpd/events.h"
#include "smtpd/session.h"

enum { ACCEPT_BATCH = 64, ACCEPT_PAUSE_MS = 500, CERT_MAX = 256 * 1024, ENVELOPE_ROOM = 8 * 1024 };

/* --- settings -------------------------------------------------------------------------------- */

static int choice(struct slice value, const char *first, const char *second)
{
    return slice_is(value, first) ? 0 : slice_is(value, second) ? 1 : 2;
}

void service_settings(struct service *v, const struct conf *conf, const char *protocol)
{
    static const char *const names[] = {"smtp", "submission", "lmtp", "submit"};
    const struct conf_block *b = NULL;
    while ((b = conf_next(conf_root(conf), "listen", b)))
        if (slice_is(conf_arg(b, 0), v->name))
            break;
    bool listed = b != NULL;
    if (!listed)
        b = conf_default_block(conf, "listen");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(protocol, names[i]) == 0)
            v->protocol = (enum smtp_protocol)i;
    v->tls =
        listed ? (enum smtp_demand)choice(conf_string(b, "tls"), "none", "optional") : DEMAND_NONE;
    v->auth =
        listed ? (enum smtp_demand)choice(conf_string(b, "auth"), "none", "optional") : DEMAND_NONE;
    v->plaintext_auth =
        (enum smtp_plaintext)choice(conf_string(b, "plaintext-auth"), "never", "loopback");
    v->etrn = (enum etrn_policy)choice(conf_string(b, "etrn"), "none", "trusted");
    v->future_release = conf_int(b, "future-release");
    v->timeout = conf_int(b, "timeout");
    v->max_errors = (unsigned)conf_int(b, "max-errors");
    v->max_recipients = (unsigned)conf_int(b, "max-recipients");
    v->max_sessions = (unsigned)conf_int(b, "max-sessions");
    v->max_client_sessions = (unsigned)conf_int(b, "max-client-sessions");
}

/* Packed recipients that qmgr can write with their message in one record of its log, so that a
 * client is told at RCPT that there are too many, and sends the others behind (RFC
 * 5321 4.5.3.1.10). */
static size_t recipients_size(const struct conf *conf)
{
    size_t record = (size_t)conf_int(conf_one(conf, "queue"), "segment-size") / 2;
    return MIN(record - INJECT_INLINE_BODY - ENVELOPE_ROOM, (size_t)TXN_RECIPIENTS_MAX);
}

int server_settings(struct server *s, struct daemon *d, struct error *err)
{
    const struct conf_block *root = conf_root(d->conf);
    size_t n = conf_list_len(root, "networks");
    s->daemon = d;
    d->data = s;
    list_init(&s->services);
    list_init(&s->sessions);
    map_init(&s->clients);
    verdicts_init(&s->verdicts);
    s->hostname = conf_string(root, "hostname");
    s->message_size = (uint64_t)conf_int(root, "message-size");
    s->recipients_size = recipients_size(d->conf);
    s->networks = xcalloc(n + 1, sizeof(*s->networks));
    for (; s->nnetworks < n; s->nnetworks++) {
        struct slice word = conf_list_at(root, "networks", s->nnetworks);
        int rc = net_block_parse(word, &s->networks[s->nnetworks], err);
        if (rc)
            return rc;
    }
    return OK;
}

static int load_certificate(struct server *s, struct error *err)
{
    const struct conf_block *tls = conf_one(s->daemon->conf, "tls");
    char path[4096];
    struct buf pem;
    if (!conf_isset(tls, "cert"))
        return OK;
    if (!slice_to_cstr(conf_string(tls, "cert"), path, sizeof(path)))
        return error_set(err, ERR_LIMIT, "the path of the certificate is too long");
    buf_init(&pem, CERT_MAX);
    int rc = file_read(path, &pem, err);
    if (rc == OK) {
        keysign_install(&s->keys, s->daemon);
        s->tls = tls_server_new(buf_slice(&pem), err);
        rc = s->tls ? tls_warm_up(s->tls, err) : err->code;
    }
    buf_clear(&pem);
    return rc;
}

int server_configure(struct daemon *d, struct error *err)
{
    struct server *s = NEW(struct server);
    tzset(); /* reads the time zone while files can still be read */
    int rc = server_settings(s, d, err);
    return rc ? rc : load_certificate(s, err);
}

bool server_trusts(const struct server *s, const struct net_addr *addr)
{
    for (size_t i = 0; i < s->nnetworks; i++)
        if (net_block_contains(&s->networks[i], addr))
            return true;
    return false;
}

static bool covers(struct slice domain, struct slice name)
{
    if (!slice_starts(domain, "."))
        return slice_ieq(domain, name);
    return slice_ieq(slice_from_index(domain, 1), name) ||
           (name.n > domain.n && slice_ieq(slice_from_index(name, name.n - domain.n), domain));
}

bool server_relays(const struct server *s, struct slice domain)
{
    const struct conf *conf = s->daemon->conf;
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; conf_isset(b, "relay") && i < conf_args(b); i++)
            if (covers(domain, conf_arg(b, i)))
                return true;
    return false;
}

/* --- accepting ------------------------------------------------------------------------------- */

static uintptr_t client_count(const struct server *s, struct slice client)
{
    return (uintptr_t)map_get(&s->clients, client);
}

static void client_count_set(struct server *s, struct slice client, uintptr_t n)
{
    if (n)
        (void)map_set(&s->clients, client, (void *)n);
    else
        (void)map_remove(&s->clients, client);
}

/* Names the peer in text; uid is -1 unless it is a local submitter. False: it has gone already. */
static bool name_client(int fd, const struct sockaddr_storage *ss, char text[64], int64_t *uid)
{
    struct ucred cred;
    socklen_t n = sizeof(cred);
    *uid = -1;
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)ss;
        return inet_ntop(AF_INET, &in->sin_addr, text, 64) != NULL;
    }
    if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)ss;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        return inet_ntop(mapped ? AF_INET : AF_INET6, in6->sin6_addr.s6_addr + (mapped ? 12 : 0),
                   text, 64) != NULL;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) != 0 || n != sizeof(cred))
        return false;
    *uid = (int64_t)cred.uid;
    snprintf(text, 64, "uid:%u", (unsigned)cred.uid);
    return true;
}

/* NULL: welcome; otherwise the rule against it. */
static const char *over_limit(const struct service *v, struct slice client, bool exempt)
{
    if (v->sessions >= v->max_sessions)
        return "max-sessions";
    if (!exempt && client_count(v->server, client) >= v->max_client_sessions)
        return "max-client-sessions";
    return NULL;
}

static void turn_away(struct service *v, int fd, struct slice client, const char *rule)
{
    static const char reply[] = "421 4.7.0 Too many connections, try again later\r\n";
    log_event(&v->server->daemon->log, smtp_reject, .client = client, .code = 421,
        .dsn = SLICE_LIT("4.7.0"), .rule = slice_of(rule));
    if (!v->implicit_tls)
        (void)!send(fd, reply, sizeof(reply) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void welcome(struct service *v, int fd, const struct sockaddr_storage *ss)
{
    struct server *s = v->server;
    char text[64];
    int64_t uid;
    struct net_addr addr;
    if (!name_client(fd, ss, text, &uid)) {
        fd_close(&fd);
        return;
    }
    struct slice client = slice_of(text);
    bool exempt = uid >= 0 || (net_addr_parse(client, &addr) == OK && net_addr_is_loopback(&addr));
    const char *rule = over_limit(v, client, exempt);
    if (rule) {
        turn_away(v, fd, client, rule);
        fd_close(&fd);
        return;
    }
    if (uid < 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (!exempt)
        client_count_set(s, client, client_count(s, client) + 1);
    v->sessions++;
    s->nsessions++;
    (void)session_new(v, fd, client, uid);
}

static void on_accept(int listen_fd, unsigned events, void *arg)
{
    struct service *v = arg;
    (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage ss = {.ss_family = AF_UNIX};
        socklen_t n = sizeof(ss);
        int fd = accept4(listen_fd, (struct sockaddr *)&ss, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(v, fd, &ss);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno != EAGAIN) { /* out of descriptors or memory: others may end meanwhile */
            log_event(&v->server->daemon->log, log_trouble, .what = SLICE_LIT("accept"),
                .reason = slice_of(strerror(errno)));
            io_set(v->io, 0);
            timer_start(&v->again, ACCEPT_PAUSE_MS);
        }
        return;
    }
}

static void accept_again(void *arg)
{
    struct service *v = arg;
    io_set(v->io, IO_READ);
}

void server_on_listener(struct daemon *d, struct listener *l)
{
    struct server *s = d->data;
    struct service *v = NEW(struct service);
    v->server = s;
    memcpy(v->name, l->name, sizeof(v->name));
    memcpy(v->address, l->address, sizeof(v->address));
    v->implicit_tls = l->tls;
    service_settings(v, d->conf, l->protocol);
    if (v->implicit_tls && !s->tls) {
        log_event(&d->log, log_trouble, .what = slice_of(v->address),
            .reason = SLICE_LIT("TLS without a certificate: not served"));
        fd_close(&l->fd);
        free(v);
        return;
    }
    v->fd = l->fd;
    timer_init(&v->again, d->loop, accept_again, v);
    v->io = io_new(d->loop, v->fd, IO_READ, on_accept, v);
    list_append(&s->services, &v->link);
    log_event(&d->log, smtp_listen, .listener = slice_of(v->name), .address = slice_of(v->address));
}

void server_qmgr_up(struct peer *peer)
{
    struct server *s = peer->daemon->data;
    s->qmgr_epoch++;
}

void server_lookupd(struct peer *peer, struct ipc_in *in)
{
    struct server *s = peer->daemon->data;
    if (in->type == route_mark_type)
        verdicts_mark(&s->verdicts, in->msg, &in->fd);
}

void server_lookupd_change(struct peer *peer)
{
    struct server *s = peer->daemon->data;
    verdicts_reset(&s->verdicts);
}

/* --- the end --------------------------------------------------------------------------------- */

void server_forget(struct server *s, struct service *v, struct slice client, bool loopback)
{
    v->sessions--;
    s->nsessions--;
    if (!loopback)
        client_count_set(s, client, client_count(s, client) - 1);
    if (s->daemon->draining && s->nsessions == 0)
        daemon_exit(s->daemon);
}

void server_drain(struct daemon *d)
{
    struct server *s = d->data;
    LIST_EACH(it, &s->services)
    {
        struct service *v = LIST_ENTRY(it, struct service, link);
        timer_stop(&v->again);
        io_free(v->io);
        v->io = NULL;
        fd_close(&v->fd);
    }
    LIST_EACH(it, &s->sessions)
    session_shut_down(LIST_ENTRY(it, struct session, link));
    if (s->nsessions == 0)
        daemon_exit(d);
}

unsigned server_sessions(struct daemon *d)
{
    const struct server *s = d->data;
    return s->nsessions;
}
