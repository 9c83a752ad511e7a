#include "libmail/loginfront_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libmail/login_events.h"
#include "libmail/proto/auth.h"
#include "libmail/proto/spawn.h"
#include "libutil/file.h"
#include "libutil/proto/sign.h"

enum {
    ACCEPT_BATCH = 16,
    REST_MS = 500,
    PER_ADDRESS = 100, /* connections of one client address, loopback excepted */
    CERT_MAX = 1 << 20
};

const struct daemon_conv login_convs[] = {
    {.conv = CONV_AUTH, .side = IPC_CLIENT, .proto = &auth_proto},
    {.conv = CONV_SPAWN, .side = IPC_CLIENT, .proto = &spawn_proto},
    {.conv = CONV_SIGN, .side = IPC_CLIENT, .proto = &sign_proto, .raw = true}, {0}};

/* --- set-up ---------------------------------------------------------------------------------- */

static int load_tls(struct login_front *f, struct error *err)
{
    const struct conf_block *block = conf_next(conf_root(f->daemon->conf), "tls", NULL);
    if (!block || !conf_isset(block, "cert"))
        return OK;
    char path[4096];
    struct buf pem;
    buf_init(&pem, CERT_MAX);
    int rc = OK;
    if (!slice_to_cstr(conf_string(block, "cert"), path, sizeof(path)))
        rc = error_set(err, ERR_LIMIT, "tls cert: the path is too long");
    if (rc == OK)
        rc = file_read(path, &pem, err);
    if (rc == OK) {
        keysign_install(&f->keysign, f->daemon);
        f->tls = tls_server_new(buf_slice(&pem), err);
        rc = f->tls ? tls_warm_up(f->tls, err) : ERR_SYNTAX;
    }
    buf_clear(&pem);
    return rc;
}

int login_front_configure(
    struct daemon *d, const struct login_protocol *protocol, struct error *err)
{
    struct login_front *f = NEW(struct login_front);
    f->daemon = d;
    f->protocol = protocol;
    list_init(&f->places);
    list_init(&f->logins);
    map_init(&f->addresses);
    login_penalty_init(&f->penalty);
    d->data = f;
    struct slice name = conf_string(conf_root(d->conf), "hostname");
    if (!slice_to_cstr(name, f->hostname, sizeof(f->hostname)))
        return error_set(err, ERR_LIMIT, "hostname is too long");
    return load_tls(f, err);
}

int login_front_start(struct daemon *d, struct error *err)
{
    (void)d;
    (void)err;
    return OK;
}

static const struct conf_block *listen_block(const struct conf *conf, const char *name)
{
    const struct conf_block *root = conf_root(conf), *b = NULL;
    while ((b = conf_next(root, "listen", b)))
        if (conf_args(b) > 0 && slice_is(conf_arg(b, 0), name))
            return b;
    return conf_default_block(conf, "listen");
}

static struct login_place *place_new(struct login_front *f, const char *name)
{
    const struct conf_block *b = listen_block(f->daemon->conf, name);
    struct login_place *p = NEW(struct login_place);
    struct slice plaintext = conf_string(b, "plaintext-auth");
    p->front = f;
    p->fd = -1;
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->tls_offered = f->tls && !slice_is(conf_string(b, "tls"), "none");
    p->tls_required = slice_is(conf_string(b, "tls"), "required");
    p->plaintext = slice_is(plaintext, "always")     ? PLAIN_ALWAYS
                   : slice_is(plaintext, "loopback") ? PLAIN_LOOPBACK
                                                     : PLAIN_NEVER;
    p->timeout = conf_int(b, "timeout");
    p->max_errors = (unsigned)conf_int(b, "max-errors");
    p->max_sessions = (unsigned)conf_int(b, "max-sessions");
    list_append(&f->places, &p->link);
    return p;
}

/* --- accepting ------------------------------------------------------------------------------- */

/* The address as text; IPv4 in IPv6 clothes as IPv4. */
static bool client_address(const struct sockaddr_storage *sa, char *out, size_t size)
{
    bool loopback = true;
    const char *text = NULL;
    if (sa->ss_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *)sa)->sin6_addr;
        loopback = IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
        text = IN6_IS_ADDR_V4MAPPED(a) ? inet_ntop(AF_INET, &a->s6_addr[12], out, (socklen_t)size)
                                       : inet_ntop(AF_INET6, a, out, (socklen_t)size);
    } else if (sa->ss_family == AF_INET) {
        const struct in_addr *a = &((const struct sockaddr_in *)sa)->sin_addr;
        loopback = ntohl(a->s_addr) >> 24 == 127;
        text = inet_ntop(AF_INET, a, out, (socklen_t)size);
    }
    if (!text)
        snprintf(out, size, "local");
    return loopback;
}

static void place_watch(struct login_place *p)
{
    bool room = p->sessions < p->max_sessions && !p->front->daemon->draining;
    if (p->io)
        io_set(p->io, room && !timer_active(&p->rest) ? IO_READ : 0);
}

static void rested(void *arg)
{
    place_watch(arg);
}

static void on_connection(int listener, unsigned events, void *arg)
{
    (void)events;
    struct login_place *p = arg;
    for (int i = 0; i < ACCEPT_BATCH && p->sessions < p->max_sessions; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof(sa);
        int fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            char client[INET6_ADDRSTRLEN];
            bool loopback = client_address(&sa, client, sizeof(client));
            login_open(p, fd, client, loopback);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            log_event(&p->front->daemon->log, log_warning, .what = SLICE_LIT("accept"),
                .reason = slice_of(strerror(errno)));
            timer_start(&p->rest, REST_MS); /* a level-triggered listener would spin */
        }
        if (errno != EINTR && errno != ECONNABORTED)
            break;
    }
    place_watch(p);
}

void login_front_listener(struct daemon *d, struct listener *l)
{
    struct login_place *p = place_new(d->data, l->name);
    p->fd = l->fd;
    p->tls_at_once = l->tls;
    timer_init(&p->rest, d->loop, rested, p);
    p->io = io_new(d->loop, l->fd, IO_READ, on_connection, p);
}

/* Connections per address are counted in the pointer's value. */
bool login_front_admit(struct login_front *f, struct login *l)
{
    if (l->loopback)
        return true;
    uintptr_t n = (uintptr_t)map_get(&f->addresses, slice_of(l->client));
    if (n >= PER_ADDRESS)
        return false;
    map_set(&f->addresses, slice_of(l->client), (void *)(n + 1));
    l->counted = true;
    return true;
}

void login_front_forget(struct login *l)
{
    struct login_front *f = l->front;
    if (l->counted) {
        uintptr_t n = (uintptr_t)map_get(&f->addresses, slice_of(l->client));
        if (n > 1)
            map_set(&f->addresses, slice_of(l->client), (void *)(n - 1));
        else
            map_remove(&f->addresses, slice_of(l->client));
    }
    l->place->sessions--;
    f->sessions--;
    place_watch(l->place);
    if (f->daemon->draining && f->sessions == 0)
        daemon_exit(f->daemon);
}

/* --- the end --------------------------------------------------------------------------------- */

void login_front_drain(struct daemon *d)
{
    struct login_front *f = d->data;
    LIST_EACH(it, &f->places)
    {
        struct login_place *p = LIST_ENTRY(it, struct login_place, link);
        io_free(p->io);
        p->io = NULL;
        fd_close(&p->fd);
    }
    LIST_EACH(it, &f->logins)
    login_going_down(LIST_ENTRY(it, struct login, link));
    if (f->sessions == 0)
        daemon_exit(d);
}

unsigned login_front_sessions(struct daemon *d)
{
    return ((struct login_front *)d->data)->sessions;
}

void login_front_free(struct login_front *f)
{
    LIST_EACH(it, &f->logins)
    login_drop(LIST_ENTRY(it, struct login, link), "the process ends");
    LIST_EACH(it, &f->places)
    {
        struct login_place *p = LIST_ENTRY(it, struct login_place, link);
        io_free(p->io);
        if (p->rest.loop)
            timer_stop(&p->rest);
        fd_close(&p->fd);
        free(p);
    }
    tls_context_free(f->tls);
    login_penalty_clear(&f->penalty);
    map_clear(&f->addresses);
    free(f);
}

void login_front_serve(struct login_front *f, int fd, const char *client, const char *listener)
{
    struct login_place *place = NULL;
    LIST_EACH(it, &f->places)
    if (strcmp(LIST_ENTRY(it, struct login_place, link)->name, listener) == 0)
        place = LIST_ENTRY(it, struct login_place, link);
    login_open(place ? place : place_new(f, listener), fd, client,
        slice_starts(slice_of(client), "127.") || slice_is(slice_of(client), "::1"));
}
