#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "master/master.h"

enum { BACKLOG = 1024 };

static const struct {
    const char *protocol;
    enum role role;
} owners[] = {{"smtp", ROLE_SMTPD}, {"submission", ROLE_SMTPD}, {"lmtp", ROLE_SMTPD},
    {"submit", ROLE_SMTPD}, {"imap", ROLE_IMAP_LOGIN}, {"pop3", ROLE_POP3_LOGIN}};

static int owner_of(struct slice protocol)
{
    for (size_t i = 0; i < ARRAY_LEN(owners); i++)
        if (slice_is(protocol, owners[i].protocol))
            return (int)owners[i].role;
    return -1;
}

static struct listen_socket *find(struct master *m, struct slice name, struct slice address)
{
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        if (slice_is(name, s->name) && slice_is(address, s->address))
            return s;
    }
    return NULL;
}

static void discard(struct listen_socket *s)
{
    fd_close(&s->fd);
    list_remove(&s->link);
    free(s);
}

static struct listen_socket *add(
    struct master *m, struct slice name, struct slice protocol, struct slice address, int fd)
{
    struct listen_socket *s = NEW(struct listen_socket);
    s->fd = fd;
    s->fresh = s->wanted = true;
    s->role = (enum role)owner_of(protocol);
    s->tls = slice_ends(address, "s");
    if (!slice_to_cstr(name, s->name, sizeof(s->name)) ||
        !slice_to_cstr(protocol, s->protocol, sizeof(s->protocol)) ||
        !slice_to_cstr(address, s->address, sizeof(s->address)))
        s->address[0] = '\0';
    list_append(&m->sockets, &s->link);
    return s;
}

/* Splits "127.0.0.1:465s", "[::1]:25", "*:25". The configuration has been checked. */
static bool split(struct slice address, char host[64], char port[8])
{
    ptrdiff_t colon = slice_rchr(address, ':');
    if (colon < 0)
        return false;
    struct slice h = slice_first(address, (size_t)colon);
    struct slice p = slice_from_index(address, (size_t)colon + 1);
    if (slice_ends(p, "s"))
        p.n--;
    if (slice_starts(h, "[") && slice_ends(h, "]"))
        h = slice_from_index(slice_first(h, h.n - 1), 1);
    return slice_to_cstr(h, host, 64) && slice_to_cstr(p, port, 8);
}

static int open_one(const struct addrinfo *ai)
{
    int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        fd_close(&fd);
    return fd;
}

static const char *hint(void)
{
    if (errno == EADDRINUSE)
        return " (another program, or another instance, listens there: see `ss -ltnp`)";
    if (errno == EACCES)
        return " (ports below 1024 need root)";
    if (errno == EADDRNOTAVAIL)
        return " (no interface of this machine has that address)";
    return "";
}

static int open_address(struct master *m, const struct conf_block *b, struct slice name,
    struct slice address, struct error *err)
{
    char host[64], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                        .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV},
                    *list = NULL;
    if (!split(address, host, port) ||
        getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &list) != 0)
        return error_set(err, ERR_SYNTAX, "%.*s: listen %.*s: %.*s is not ADDRESS:PORT",
            SLICE_FMT(conf_where(b)), SLICE_FMT(name), SLICE_FMT(address));
    int opened = 0, rc = OK;
    for (struct addrinfo *ai = list; ai && rc == OK; ai = ai->ai_next) {
        int fd = open_one(ai);
        if (fd >= 0) {
            add(m, name, conf_string(b, "protocol"), address, fd);
            opened++;
        } else if (!(errno == EAFNOSUPPORT || (errno == EADDRNOTAVAIL && list->ai_next))) {
            const char *why = hint();
            rc = error_sys(err, "%.*s: listen %.*s: port %s on %s cannot be used%s",
                SLICE_FMT(conf_where(b)), SLICE_FMT(name), port, host, why);
        }
    }
    freeaddrinfo(list);
    if (rc == OK && opened == 0)
        rc = error_set(err, ERR_IO, "%.*s: listen %.*s: no address family for %.*s",
            SLICE_FMT(conf_where(b)), SLICE_FMT(name), SLICE_FMT(address));
    return rc;
}

/* The socket of local users: sendmail(1) speaks SMTP over it. Bound through the directory's
 * descriptor, since socket paths are limited to 107 bytes. */
static int open_submit(struct master *m, struct error *err)
{
    static const struct slice name = SLICE_LIT("submit");
    struct listen_socket *s = find(m, name, name);
    if (s) {
        s->wanted = true;
        return OK;
    }
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/submit", m->run_dir);
    unlinkat(m->run_dir, "submit", 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) != 0 ||
        fchmodat(m->run_dir, "submit", 0666, 0) != 0 || listen(fd, BACKLOG) != 0) {
        int rc = error_sys(err, "%s/run/submit", m->directory);
        fd_close(&fd);
        return rc;
    }
    add(m, name, name, name, fd)->tls = false;
    return OK;
}

static int open_block(struct master *m, const struct conf_block *b, struct error *err)
{
    struct slice name = conf_arg(b, 0);
    int rc = OK;
    for (size_t i = 0; i < conf_list_len(b, "on") && rc == OK; i++) {
        struct slice address = conf_list_at(b, "on", i);
        bool there = false;
        LIST_EACH(it, &m->sockets)
        {
            struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
            if (slice_is(name, s->name) && slice_is(address, s->address))
                s->wanted = there = true;
        }
        if (!there)
            rc = open_address(m, b, name, address, err);
    }
    return rc;
}

int listen_open(struct master *m, const struct conf *conf, struct error *err)
{
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        s->wanted = s->fresh = false;
    }
    int rc = open_submit(m, err);
    for (const struct conf_block *b = NULL;
         rc == OK && (b = conf_next(conf_root(conf), "listen", b));)
        rc = open_block(m, b, err);
    if (rc)
        listen_rollback(m);
    return rc;
}

void listen_commit(struct master *m)
{
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        if (!s->wanted)
            discard(s);
    }
}

void listen_rollback(struct master *m)
{
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        if (s->fresh)
            discard(s);
    }
}

void listen_close_all(struct master *m)
{
    LIST_EACH(it, &m->sockets)
    discard(LIST_ENTRY(it, struct listen_socket, link));
    unlinkat(m->run_dir, "submit", 0);
}
