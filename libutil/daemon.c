#include "libutil/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_MAX = 4 * 1024 * 1024, LOG_RETRY_MS = 5, HEAP_SPARE = 1024 * 1024 };

/* What master sends before `go`. */
struct daemon_boot {
    bool gone;
    struct list listeners;
};

struct boot_listener {
    struct list link;
    struct listener listener;
};

/* --- peers ---------------------------------------------------------------------------------- */

static const struct daemon_conv *find_conv(
    const struct daemon *d, enum conversation conv, enum ipc_side side)
{
    for (const struct daemon_conv *c = d->spec->convs; c && c->proto; c++)
        if (c->conv == conv && c->side == side)
            return c;
    return NULL;
}

static const struct daemon_conv *conv_of(const struct peer *peer)
{
    return find_conv(peer->daemon, peer->conv, peer->side);
}

static void peer_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct peer *peer = arg;
    conv_of(peer)->on_message(peer, in);
}

static void peer_closed(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc;
    (void)err;
    struct peer *peer = arg;
    const struct daemon_conv *conv = conv_of(peer);
    list_remove(&peer->link);
    peer->ipc = NULL;
    if (conv->on_down)
        conv->on_down(peer);
    free(peer);
}

static const struct ipc_ops talking_ops = {peer_message, peer_closed};
static const struct ipc_ops quiet_ops = {NULL, peer_closed};

/* Conversations between processes that run a loop. */
static bool may_pack(const struct peer *peer)
{
    static const unsigned convs = 1u << CONV_INJECT | 1u << CONV_ROUTE | 1u << CONV_AUTH |
                                  1u << CONV_DELIVER | 1u << CONV_NOTIFY;
    return convs >> peer->conv & 1 && peer->role != ROLE_CTL;
}

/* Starts the conversation; at boot this waits until the sandbox is entered. */
static void peer_connect(struct peer *peer)
{
    const struct daemon_conv *conv = conv_of(peer);
    if (!conv->raw) {
        peer->ipc = ipc_new(peer->daemon->loop, peer->fd, conv->proto, peer->side,
            conv->on_message ? &talking_ops : &quiet_ops, peer);
        if (may_pack(peer))
            ipc_pack(peer->ipc);
        peer->fd = -1;
    }
    if (conv->on_up)
        conv->on_up(peer);
}

static void free_raw(struct peer *peer)
{
    list_remove(&peer->link);
    fd_close(&peer->fd);
    free(peer);
}

/* A raw conversation keeps only the newest descriptor per process at the other end. */
static void drop_stale_raw(struct daemon *d, const struct master_peer *m)
{
    LIST_EACH(it, &d->peers)
    {
        struct peer *p = LIST_ENTRY(it, struct peer, link);
        if (!p->ipc && !d->boot && p->conv == m->conversation && p->role == m->role &&
            p->worker == m->worker)
            free_raw(p);
    }
}

static void take_peer(struct daemon *d, const struct master_peer *m, int *fd)
{
    if (m->conversation == CONV_LOG && m->side == IPC_CLIENT) {
        log_set_fd(*fd);
        *fd = -1;
        return;
    }
    if (m->conversation >= CONV_COUNT || !find_conv(d, m->conversation, m->side)) {
        log_event(&d->log, log_trouble, .what = SLICE_LIT("wiring"),
            .reason = SLICE_LIT("master offers a conversation this program does not have"));
        return;
    }
    drop_stale_raw(d, m);
    struct peer *peer = NEW(struct peer);
    *peer = (struct peer){.daemon = d,
        .conv = m->conversation,
        .side = m->side,
        .role = m->role,
        .worker = m->worker,
        .uid = m->uid,
        .fd = *fd};
    *fd = -1;
    if (!slice_to_cstr(m->user, peer->user, sizeof(peer->user)))
        peer->user[0] = '\0';
    list_append(&d->peers, &peer->link);
    if (!d->boot)
        peer_connect(peer);
}

struct peer *daemon_peer(struct daemon *d, enum conversation conv, int role)
{
    LIST_EACH(it, &d->peers)
    {
        struct peer *p = LIST_ENTRY(it, struct peer, link);
        if (p->conv == conv && p->side == IPC_CLIENT && p->ipc &&
            (role < 0 || p->role == (enum role)role)) {
            list_remove(it); /* to the end: the next call takes the next process */
            list_append(&d->peers, it);
            return p;
        }
    }
    return NULL;
}

struct peer *daemon_peer_for(
    struct daemon *d, enum conversation conv, int role, struct slice subject)
{
    struct peer *best = NULL;
    uint64_t hash = slice_hash(subject), most = 0;
    LIST_EACH(it, &d->peers)
    {
        struct peer *p = LIST_ENTRY(it, struct peer, link);
        uint64_t weight = (hash ^ (p->worker + 1) * UINT64_C(0x9e3779b97f4a7c15));
        weight *= UINT64_C(0xff51afd7ed558ccd); /* the highest bits depend on all others */
        if (p->conv == conv && p->side == IPC_CLIENT && p->ipc &&
            (role < 0 || p->role == (enum role)role) && (!best || weight > most)) {
            best = p;
            most = weight;
        }
    }
    return best;
}

struct failed_call {
    ipc_reply_fn *cb;
    void *arg;
};

static void fail_call(void *arg)
{
    struct failed_call f = *(struct failed_call *)arg;
    free(arg);
    f.cb(NULL, f.arg);
}

void daemon_call(struct daemon *d, enum conversation conv, int role, unsigned type, uint64_t trace,
    const void *msg, int fd, ipc_reply_fn *cb, void *arg)
{
    struct peer *peer = daemon_peer(d, conv, role);
    if (peer) {
        ipc_call(peer->ipc, type, trace, msg, fd, cb, arg);
        return;
    }
    struct failed_call *f = NEW(struct failed_call);
    *f = (struct failed_call){cb, arg};
    loop_defer(d->loop, fail_call, f);
}

void daemon_drop_hung(struct peer *peer, struct slice why)
{
    struct daemon *d = peer->daemon;
    const struct daemon_conv *conv = conv_of(peer);
    struct master_hung hung = {
        .role = peer->role, .worker = peer->worker, .reason = slice_first(why, 255)};
    if (d->master)
        (void)!ipc_send(d->master, master_hung_type, 0, &hung, -1);
    list_remove(&peer->link); /* what its failed calls lead to goes elsewhere */
    ipc_free(peer->ipc);
    peer->ipc = NULL;
    if (conv->on_down)
        conv->on_down(peer);
    free(peer);
}

int daemon_take_peer_fd(struct daemon *d, enum conversation conv)
{
    int fd = -1;
    LIST_EACH(it, &d->peers)
    {
        struct peer *p = LIST_ENTRY(it, struct peer, link);
        if (p->conv != conv || p->ipc || p->fd < 0)
            continue;
        fd_close(&fd);
        fd = p->fd;
        p->fd = -1;
        free_raw(p);
    }
    return fd;
}

/* --- what master says ----------------------------------------------------------------------- */

static struct conf *read_config(int fd, struct error *err)
{
    struct stat st;
    struct conf *conf = NULL;
    if (fstat(fd, &st) != 0 || st.st_size < 0 || st.st_size > CONFIG_MAX)
        return error_set(err, ERR_LIMIT, "the configuration from master is malformed"), NULL;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_WRITE))
        return error_set(err, ERR_DENIED, "the configuration from master is not sealed"), NULL;
    size_t n = (size_t)st.st_size;
    char *text = xcalloc(1, n + 1);
    ssize_t got = pread(fd, text, n, 0);
    if (got == (ssize_t)n)
        conf = conf_parse("veredus.conf", slice_from(text, n), &conf_root_schema, NULL, err);
    else
        error_sys(err, "reading the configuration from master");
    free(text);
    return conf;
}

static void give_up(struct daemon *d, const struct error *err)
{
    struct master_failed failed = {.text = slice_of(err->text)};
    log_event(&d->log, log_trouble, .what = SLICE_LIT("start"), .reason = failed.text);
    ipc_send(d->master, master_failed_type, 0, &failed, -1);
    ipc_flush(d->master);
    _exit(1);
}

static void use_config(struct daemon *d, struct conf *conf)
{
    struct conf *before = d->conf;
    d->conf = conf;
    log_setup(role_info(d->spec->role)->program,
        log_level_of(conf_string(conf_one(conf, "log"), "level")));
    if (!d->boot && d->spec->reconfigure)
        d->spec->reconfigure(d);
    conf_free(before);
}

static void take_config(struct daemon *d, const struct master_config *m, int fd)
{
    struct error err = {0};
    struct conf *conf = read_config(fd, &err);
    d->worker = m->worker;
    d->rootless = m->rootless;
    if (!slice_to_cstr(m->directory, d->directory, sizeof(d->directory)))
        error_set(&err, ERR_LIMIT, "the directory's name is too long");
    if (err.code || !conf)
        give_up(d, &err);
    use_config(d, conf);
}

static void take_listener(struct daemon *d, const struct master_listen *m, int *fd)
{
    struct boot_listener *b = NEW(struct boot_listener);
    struct listener *l = &b->listener;
    bool fits = slice_to_cstr(m->name, l->name, sizeof(l->name)) &&
                slice_to_cstr(m->protocol, l->protocol, sizeof(l->protocol)) &&
                slice_to_cstr(m->address, l->address, sizeof(l->address));
    if (!fits || !d->boot) {
        free(b);
        return;
    }
    l->tls = m->tls;
    l->fd = *fd;
    *fd = -1;
    list_append(&d->boot->listeners, &b->link);
}

static void send_figures(struct daemon *d, struct ipc_in *in)
{
    struct buf children;
    buf_init(&children, 60000);
    if (d->spec->children)
        d->spec->children(d, &children);
    struct master_figures figures = {
        .sessions = d->spec->sessions ? d->spec->sessions(d) : 0, .children = buf_slice(&children)};
    ipc_reply(d->master, in->id, 0, master_figures_type, &figures, -1);
    buf_clear(&children);
}

static void send_selftest(struct daemon *d, struct ipc_in *in)
{
    struct buf text;
    buf_init(&text, 16384);
    struct master_selftested done = {
        .failures = (uint32_t)sandbox_selftest(&d->spec->profile, &text)};
    done.text = buf_slice(&text);
    ipc_reply(d->master, in->id, 0, master_selftested_type, &done, -1);
    buf_clear(&text);
}

static void start_drain(struct daemon *d)
{
    if (d->draining)
        return;
    d->draining = true;
    if (d->spec->drain && !d->boot)
        d->spec->drain(d);
    else
        daemon_exit(d);
}

static void master_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct daemon *d = arg;
    switch (in->type) {
    case master_config_type:
        take_config(d, in->msg, in->fd);
        break;
    case master_listen_type:
        take_listener(d, in->msg, &in->fd);
        break;
    case master_peer_type:
        take_peer(d, in->msg, &in->fd);
        break;
    case master_go_type:
        if (d->boot) {
            d->boot->gone = true;
            loop_stop(d->loop);
        }
        break;
    case master_drain_type:
        start_drain(d);
        break;
    case master_ask_type:
        send_figures(d, in);
        break;
    case master_selftest_type:
        send_selftest(d, in);
        break;
    default:
        break;
    }
}

static void master_gone(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc;
    (void)err;
    (void)arg;
    _exit(0); /* nobody is left to serve; what is acknowledged is on disk */
}

static const struct ipc_ops master_ops = {master_message, master_gone};

/* --- start ---------------------------------------------------------------------------------- */

static void on_term(int signo, void *arg)
{
    (void)signo;
    start_drain(arg);
}

static void hand_listeners(struct daemon *d)
{
    LIST_EACH(it, &d->boot->listeners)
    {
        struct boot_listener *b = LIST_ENTRY(it, struct boot_listener, link);
        fcntl(b->listener.fd, F_SETFL, fcntl(b->listener.fd, F_GETFL) | O_NONBLOCK);
        if (d->spec->on_listener)
            d->spec->on_listener(d, &b->listener);
        list_remove(it);
        free(b);
    }
}

static void connect_peers(struct daemon *d)
{
    struct list waiting;
    list_init(&waiting);
    LIST_EACH(it, &d->peers)
    {
        list_remove(it);
        list_append(&waiting, it);
    }
    LIST_EACH(it, &waiting)
    {
        list_remove(it);
        list_append(&d->peers, it);
        peer_connect(LIST_ENTRY(it, struct peer, link));
    }
}

static void report_ready(struct daemon *d)
{
    struct buf text;
    buf_init(&text, 1024);
    sandbox_report_print(&d->spec->profile, &d->sandbox, &text);
    struct master_ready ready = {.sandbox = buf_slice(&text)};
    ipc_send(d->master, master_ready_type, 0, &ready, -1);
    buf_clear(&text);
}

/* configure -> sandbox -> peers -> start -> listeners. */
static int enter(struct daemon *d, struct error *err)
{
    /* It comes as a descriptor, which master may have been unable to make or to send. */
    if (!d->conf)
        return error_set(
            err, ERR_IO, "no configuration came from master: is the limit of open files too low?");
    int rc = d->spec->configure ? d->spec->configure(d, err) : OK;
    if (rc == OK)
        rc = sandbox_enter(&d->spec->profile, &d->paths, &d->sandbox, err);
    if (rc)
        return rc;
    struct daemon_boot *boot = d->boot;
    rc = d->spec->start ? d->spec->start(d, err) : OK;
    if (rc)
        return rc;
    connect_peers(d);
    hand_listeners(d);
    d->boot = NULL;
    free(boot);
    malloc_trim(0); /* the warm-up's garbage: an idle process is small */
    report_ready(d);
    return OK;
}

/* Tries the program's row in children, death included. */
static int probe_sandbox(const struct daemon_spec *spec)
{
    static const char *const trees[] = {"/tmp", NULL};
    const struct sandbox_paths paths = {.root = trees[0], .write = trees};
    struct buf out;
    buf_init(&out, 65536);
    int bad = sandbox_probe(&spec->profile, &paths, &out);
    printf("%.*s", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
    return bad != 0;
}

static void flush_log(void *arg)
{
    struct daemon *d = arg;
    if (!log_send_waiting())
        timer_start(&d->log_timer, LOG_RETRY_MS);
}

/* Sends what this turn of the loop logs at its end. */
static void log_waits(void *arg)
{
    struct daemon *d = arg;
    if (!timer_active(&d->log_timer))
        loop_defer_last(d->loop, flush_log, d);
}

static void boot(struct daemon *d)
{
    d->boot = NEW(struct daemon_boot);
    list_init(&d->boot->listeners);
    list_init(&d->peers);
    d->loop = loop_new();
    timer_init(&d->log_timer, d->loop, flush_log, d);
    log_on_waiting(log_waits, d);
    log_gather();
    d->master = ipc_new(d->loop, MASTER_FD, &master_proto, IPC_CLIENT, &master_ops, d);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at the limit of its size is an error like a full disk */
    signal(SIGINT, SIG_IGN);  /* Ctrl-C reaches the whole group; master decides */
    signal(SIGHUP, SIG_IGN);
    loop_signal(d->loop, SIGTERM, on_term, d);
    loop_run(d->loop);
}

int daemon_run(const struct daemon_spec *spec, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--events") == 0)
        return log_print_events(spec->events);
    if (argc == 2 && strcmp(argv[1], "--selftest-sandbox") == 0)
        return probe_sandbox(spec);
    struct stat st;
    const char *program = role_info(spec->role)->program;
    if (argc != 1 || fstat(MASTER_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        fprintf(
            stderr, "%s is started by the Veredus master, not by hand; see veredus(1)\n", program);
        return 2;
    }
    struct daemon d = {.spec = spec};
    struct error err = {0};
    log_setup(program, LOG_INFO);
    /* Buffers of a message's size come and go all the time: not with a page fault for each page. */
    mallopt(M_TRIM_THRESHOLD, HEAP_SPARE);
    mallopt(M_MMAP_THRESHOLD, HEAP_SPARE);
    /* Small pieces are merged when they are freed, and not all of them at the next big one. */
    mallopt(M_MXFAST, 0);
    boot(&d);
    if (!d.draining && enter(&d, &err) != OK)
        give_up(&d, &err);
    if (!d.draining)
        loop_run(d.loop);
    (void)log_send_waiting();
    _exit(0);
}

void daemon_exit(struct daemon *d)
{
    d->draining = true;
    loop_stop(d->loop);
}
