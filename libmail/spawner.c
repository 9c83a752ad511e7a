#include "libmail/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libmail/proto/auth.h"
#include "libmail/proto/notify.h"
#include "libmail/proto/quota.h"
#include "libmail/proto/share.h"
#include "libmail/proto/spawn.h"
#include "libmail/spawner_parts.h"
#include "libutil/accounts.h"
#include "libutil/net.h"

enum { UID_FLOOR = 1000, PER_USER = 100, TOTAL = 20000, GRACE_MS = 10000 };

SPAWNER_EVENTS(LOG_EVENT_)

static void on_message(struct peer *peer, struct ipc_in *in);
static void on_front_down(struct peer *peer);

const struct daemon_conv spawner_convs[] = {{.conv = CONV_SPAWN,
                                                .side = IPC_SERVER,
                                                .proto = &spawn_proto,
                                                .on_message = on_message,
                                                .on_down = on_front_down},
    {.conv = CONV_AUTH, .side = IPC_CLIENT, .proto = &auth_proto},
    {.conv = CONV_NOTIFY, .side = IPC_CLIENT, .proto = &notify_proto},
    {.conv = CONV_QUOTA, .side = IPC_CLIENT, .proto = &quota_proto},
    {.conv = CONV_SHARE, .side = IPC_CLIENT, .proto = &share_proto}, {0}};

/* --- set-up ---------------------------------------------------------------------------------- */

/* Where homes are, once each. */
static void add_tree(const char *path, void *arg)
{
    struct spawner *s = arg;
    bool known = s->ntrees == SPAWNER_TREES || access(path, X_OK) != 0;
    for (size_t i = 0; !known && i < s->ntrees; i++)
        known = strcmp(s->trees[i], path) == 0;
    if (!known)
        s->trees[s->ntrees++] = xstrdup(path);
}

/* Touches what every session would have to make for itself, or could not open any more. */
static void warm_up(void)
{
    time_t now = time(NULL);
    struct tm tm;
    tzset();
    localtime_r(&now, &tm);
}

int spawner_configure(struct daemon *d, const struct spawner_kind *kind, struct error *err)
{
    static const struct sandbox_profile child = {
        .name = "session", .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE};
    struct spawner *s = NEW(struct spawner);
    s->daemon = d;
    s->kind = kind;
    list_init(&s->children);
    list_init(&s->asking);
    map_init(&s->users);
    d->data = s;
    if (!slice_to_cstr(conf_string(conf_root(d->conf), "mail-root"), s->root, sizeof(s->root)))
        return error_set(err, ERR_LIMIT, "mail-root is too long");
    if (mkdir(s->root, 0700) < 0 && errno != EEXIST)
        return error_sys(err, "mail-root %s", s->root);
    s->root_fd = open(s->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->root_fd < 0)
        return error_sys(err, "mail-root %s", s->root);
    int rc = shares_configure(s, err);
    if (rc)
        return rc;
    s->filter = sandbox_filter_new(&child, err);
    if (!s->filter)
        return ERR_IO;
    s->trees[s->ntrees++] = s->root;
    if (geteuid() == 0)
        accounts_trees(UID_FLOOR, add_tree, s);
    d->paths.write = s->trees;
    warm_up();
    return kind->warm_up ? kind->warm_up(d, err) : OK;
}

/* --- children -------------------------------------------------------------------------------- */

static void reply(
    struct peer *front, uint32_t id, uint64_t trace, int code, pid_t pid, const char *why)
{
    struct spawn_started done = {.code = (uint32_t)code, .pid = pid, .why = slice_of(why)};
    if (front && front->ipc)
        ipc_reply(front->ipc, id, trace, spawn_started_type, &done, -1);
}

static void count_user(struct spawner *s, const char *user, int change)
{
    uintptr_t n = (uintptr_t)map_get(&s->users, slice_of(user)) + (uintptr_t)(intptr_t)change;
    if (n)
        map_set(&s->users, slice_of(user), (void *)n);
    else
        map_remove(&s->users, slice_of(user));
}

static void child_ended(struct spawner *s, struct spawner_child *c, int status)
{
    struct log log;
    log_set_id(&log, &s->daemon->log, "sid", c->trace);
    if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0)
        log_event(&log, session_died, .user = slice_of(c->user), .pid = c->pid,
            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            .status = WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    count_user(s, c->user, -1);
    room_close(c);
    list_remove(&c->link);
    free(c->user);
    free(c->mail);
    free(c);
    s->nchildren--;
}

static void on_child(int signo, void *arg)
{
    (void)signo;
    struct spawner *s = arg;
    int status;
    pid_t pid;
    shares_read(s);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        LIST_EACH(it, &s->children)
        {
            struct spawner_child *c = LIST_ENTRY(it, struct spawner_child, link);
            if (c->pid == pid) {
                child_ended(s, c, status);
                break;
            }
        }
    }
    if (s->daemon->draining && s->nchildren == 0)
        daemon_exit(s->daemon);
}

/* A channel to notifyd that may watch this owner only. -1: notifyd is away, and the session
 * polls. */
static int open_notify(struct spawner *s, struct slice owner)
{
    struct peer *p = daemon_peer(s->daemon, CONV_NOTIFY, -1);
    struct notify_admit admit = {.owner = owner};
    int pair[2];
    if (!p || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    if (ipc_send(p->ipc, notify_admit_type, 0, &admit, pair[0]) != OK)
        fd_close(&pair[1]);
    fd_close(&pair[0]);
    return pair[1];
}

static void child_note(struct spawner *s, const struct spawner_ask *a, pid_t pid,
    const struct spawner_place *place, int room)
{
    struct spawner_child *c = NEW(struct spawner_child);
    c->spawner = s;
    c->pid = pid;
    c->uid = place->uid;
    c->trace = a->trace;
    c->started = time(NULL);
    c->user = xstrdup(place->user);
    c->mail = place->below_root ? xstrdup(place->mail) : NULL;
    room_serve(c, room);
    list_append(&s->children, &c->link);
    s->nchildren++;
    count_user(s, place->user, 1);
}

/* Clients on this host are exempt from limits. */
static bool is_local(const char *client)
{
    struct net_addr addr;
    return net_addr_parse(slice_of(client), &addr) != OK || net_addr_is_loopback(&addr);
}

/* Checks what authd granted; NULL: fine, else why not. */
static const char *check_grant(struct spawner *s, const struct spawner_ask *a,
    const struct auth_grant *g, struct spawner_place *place)
{
    bool system = g->uid >= 0;
    place->uid = system ? (uid_t)g->uid : geteuid();
    place->gid = system ? (gid_t)g->gid : getegid();
    place->below_root = !system;
    place->coexist = g->coexist;
    place->chroot = !s->daemon->rootless;
    if (!slice_to_cstr(g->user, place->user, sizeof(place->user)) || !g->user.n ||
        !slice_to_cstr(g->mail, place->mail, sizeof(place->mail)) ||
        !slice_to_cstr(g->quota, place->quota, sizeof(place->quota)))
        return "authd's grant is malformed";
    if (system && (g->uid == 0 || g->gid <= 0 || g->uid > UINT32_MAX || g->gid > UINT32_MAX))
        return "authd names an account that may not have sessions";
    if (system != (place->mail[0] == '/'))
        return "authd names no proper mail directory";
    if (s->daemon->rootless && place->uid != geteuid())
        return "started without root: only virtual users can log in";
    if (s->nchildren >= TOTAL)
        return "too many sessions";
    if (!is_local(a->client) && (uintptr_t)map_get(&s->users, g->user) >= PER_USER)
        return "too many sessions of this user";
    return NULL;
}

static void start_session(struct spawner *s, struct spawner_ask *a, const struct auth_grant *g)
{
    struct spawner_place place;
    const char *why = check_grant(s, a, g, &place);
    if (why) {
        struct log log;
        log_set_id(&log, &s->daemon->log, "sid", a->trace);
        log_event(&log, session_refuse, .user = g->user, .rule = SLICE_LIT("grant"),
            .why = slice_of(why));
        reply(a->front, a->id, a->trace, ERR_DENIED, 0, why);
        return;
    }
    int notify = open_notify(s, g->mail), room[2] = {-1, -1};
    pid_t pid = place.below_root && room_open(s, room) ? -1 : fork();
    if (pid == 0)
        spawner_child_main(s, a, &place, notify, room[1]);
    if (pid < 0) {
        reply(a->front, a->id, a->trace, ERR_TEMP, 0, strerror(errno));
        fd_close(&room[0]);
    } else {
        child_note(s, a, pid, &place, room[0]);
        reply(a->front, a->id, a->trace, OK, pid, "");
    }
    fd_close(&notify);
    fd_close(&room[1]);
}

/* --- requests -------------------------------------------------------------------------------- */

static void ask_free(struct spawner_ask *a)
{
    list_remove(&a->link);
    fd_close(&a->fd);
    free(a->input);
    free(a);
}

static void on_grant(struct ipc_in *in, void *arg)
{
    struct spawner_ask *a = arg;
    struct spawner *s = a->spawner;
    const struct auth_grant *g = in ? in->msg : NULL;
    if (!g)
        reply(a->front, a->id, a->trace, ERR_TEMP, 0, "authd does not answer");
    else if (g->code != AUTH_OK)
        reply(a->front, a->id, a->trace, g->code == AUTH_TEMPORARY ? ERR_TEMP : ERR_DENIED, 0,
            "authd refuses the ticket");
    else if (a->front) /* nobody is left to be told otherwise, and the client has gone */
        start_session(s, a, g);
    ask_free(a);
}

static void on_message(struct peer *peer, struct ipc_in *in)
{
    struct spawner *s = peer->daemon->data;
    const struct spawn_start *m = in->msg;
    if (s->daemon->draining) {
        reply(peer, in->id, in->trace, ERR_TEMP, 0, "shutting down");
        return;
    }
    struct spawner_ask *a = NEW(struct spawner_ask);
    a->spawner = s;
    a->front = peer;
    a->id = in->id;
    a->trace = in->trace;
    a->tls = m->tls;
    a->fd = in->fd;
    in->fd = -1;
    a->input = xmemdup0(m->input.p, m->input.n);
    a->input_len = m->input.n;
    list_append(&s->asking, &a->link);
    if (!slice_to_cstr(m->client, a->client, sizeof(a->client)) ||
        !slice_to_cstr(m->tag, a->tag, sizeof(a->tag))) {
        reply(peer, in->id, in->trace, ERR_LIMIT, 0, "malformed");
        ask_free(a);
        return;
    }
    struct auth_redeem redeem = {.ticket = m->ticket, .service = slice_of(s->kind->service)};
    daemon_call(s->daemon, CONV_AUTH, -1, auth_redeem_type, in->trace, &redeem, -1, on_grant, a);
}

static void on_front_down(struct peer *peer)
{
    struct spawner *s = peer->daemon->data;
    LIST_EACH(it, &s->asking)
    {
        struct spawner_ask *a = LIST_ENTRY(it, struct spawner_ask, link);
        if (a->front == peer)
            a->front = NULL;
    }
}

/* --- the frame ------------------------------------------------------------------------------- */

static void signal_all(struct spawner *s, int signo)
{
    LIST_EACH(it, &s->children)
    kill(LIST_ENTRY(it, struct spawner_child, link)->pid, signo);
}

static void grace_over(void *arg)
{
    signal_all(arg, SIGKILL);
}

int spawner_start(struct daemon *d, struct error *err)
{
    (void)err;
    struct spawner *s = d->data;
    s->pid = getpid();
    timer_init(&s->grace, d->loop, grace_over, s);
    loop_signal(d->loop, SIGCHLD, on_child, s);
    shares_start(s);
    return OK;
}

void spawner_drain(struct daemon *d)
{
    struct spawner *s = d->data;
    if (s->nchildren == 0) {
        daemon_exit(d);
        return;
    }
    signal_all(s, SIGTERM);
    timer_start(&s->grace, GRACE_MS);
}

unsigned spawner_sessions(struct daemon *d)
{
    return ((struct spawner *)d->data)->nchildren;
}

void spawner_children(struct daemon *d, struct buf *out)
{
    struct spawner *s = d->data;
    LIST_EACH(it, &s->children)
    {
        struct spawner_child *c = LIST_ENTRY(it, struct spawner_child, link);
        struct master_child row = {
            .pid = c->pid, .uid = c->uid, .started = c->started, .what = slice_of(c->user)};
        if (record_put(out, &master_child_record, &row) != OK)
            break; /* a page full: enough for a status */
    }
}
