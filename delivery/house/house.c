#include "delivery/house/house.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "delivery/house/events.h"
#include "delivery/house/parts.h"
#include "libmail/proto/auth.h"
#include "libmail/proto/notify.h"
#include "libutil/accounts.h"

#define STAMP "veredus.housekept"

static void child_ended(struct child *, int status);

/* --- set-up ---------------------------------------------------------------------------------- */

static void add_tree(const char *path, void *arg)
{
    struct house *h = arg;
    bool known = h->ntrees == HOUSE_TREES || access(path, X_OK) != 0;
    for (size_t i = 0; !known && i < h->ntrees; i++)
        known = strcmp(h->trees[i], path) == 0;
    if (!known)
        h->trees[h->ntrees++] = xstrdup(path);
}

/* For this process and its children. Neither the idle class of I/O nor the last step of nice: an
 * index is written while its folder is locked, and who waits for that lock would wait until a busy
 * machine has nothing else to do. */
static void step_back(void)
{
    enum { IOPRIO_WHO_PROCESS = 1, BEST_EFFORT_LAST = 2 << 13 | 7, NICE = 10 };
    setpriority(PRIO_PROCESS, 0, NICE);
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, BEST_EFFORT_LAST);
}

int house_configure(struct daemon *d, struct error *err)
{
    static const struct sandbox_profile child = {
        .name = "house-child", .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE};
    const struct conf_block *block = conf_one(d->conf, "housekeeping");
    struct house *h = NEW(struct house);
    h->daemon = d;
    h->child.fd = -1;
    children_init(&h->children, d, child_ended, NULL, h);
    d->data = h;
    h->every = conf_int(block, "every") / 1000;
    h->from = conf_int(block, "from") / 1000;
    if (conf_int(block, "every") > 0 && h->every == 0)
        h->every = 1;
    if (!slice_to_cstr(conf_string(conf_root(d->conf), "mail-root"), h->root, sizeof(h->root)))
        return error_set(err, ERR_LIMIT, "mail-root is too long");
    if (mkdir(h->root, 0700) < 0 && errno != EEXIST)
        return error_sys(err, "mail-root %s", h->root);
    h->root_fd = open(h->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (h->root_fd < 0)
        return error_sys(err, "mail-root %s", h->root);
    h->filter = sandbox_filter_new(&child, err);
    if (!h->filter)
        return ERR_IO;
    h->trees[h->ntrees++] = h->root;
    accounts_trees(HOUSE_UID_FLOOR, add_tree, h);
    d->paths.write = (const char *const *)h->trees;
    step_back();
    tzset(); /* the zone's file cannot be read later */
    return OK;
}

/* --- when ------------------------------------------------------------------------------------ */

/* 0: there is no note, or none that makes sense. */
static int64_t read_stamp(const struct house *h)
{
    char text[32];
    uint64_t when = 0;
    int fd = openat(h->root_fd, STAMP, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    fd_close(&fd);
    if (n <= 0 || slice_u64(slice_trim(slice_from(text, (size_t)n)), 0, INT32_MAX, &when))
        return 0;
    return (int64_t)when;
}

/* One that is lost or torn costs a round too many or too few. */
static void write_stamp(const struct house *h)
{
    int fd = openat(h->root_fd, STAMP, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "%lld\n", (long long)h->last) < 0)
        log_event(&h->daemon->log, log_warning, .what = SLICE_LIT(STAMP),
            .reason = slice_of(strerror(errno)));
    fd_close(&fd);
}

static void begin_round(struct house *h);

static void look(void *arg)
{
    struct house *h = arg;
    int64_t now = time(NULL);
    if (h->last > now) /* the clock was set back */
        h->last = now;
    int64_t wait = house_next(h->last, h->every, h->from) - now;
    if (wait <= 0)
        begin_round(h);
    else
        timer_start(&h->timer, MIN(wait * 1000, (int64_t)HOUSE_LOOK_MS));
}

static void wait_for_round(struct house *h)
{
    timer_init(&h->timer, h->daemon->loop, look, h);
    timer_start(&h->timer, h->began ? 1000 : 0);
    h->began = 0;
}

/* --- a round --------------------------------------------------------------------------------- */

static void next_turn(void *arg);
static void next_page(void *arg);

static void try_again(struct house *h, timer_fn *what)
{
    timer_init(&h->timer, h->daemon->loop, what, h);
    timer_start(&h->timer, HOUSE_RETRY_MS);
}

static void end_round(struct house *h)
{
    log_event(&h->daemon->log, house_done, .mailboxes = h->mailboxes, .failed = h->failed);
    h->last = h->began;
    write_stamp(h);
    wait_for_round(h);
}

static void on_told(int fd, unsigned events, void *arg)
{
    char told[HOUSE_TOLD_MAX];
    struct house *h = arg;
    struct peer *p = daemon_peer(h->daemon, CONV_NOTIFY, -1);
    struct notify_changed m = {.owner = slice_of(h->turn.mail)};
    (void)events;
    ssize_t n = recv(fd, told, sizeof(told), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* it has closed its end */
        io_set(h->told, 0);
        return;
    }
    if (!p || n < (ssize_t)sizeof(m.sequence))
        return;
    memcpy(&m.sequence, told, sizeof(m.sequence));
    m.mailbox = slice_first(slice_from(told + 8, (size_t)n - 8), 255);
    (void)!ipc_send(p->ipc, notify_changed_type, 0, &m, -1);
}

static void child_ended(struct child *c, int status)
{
    struct house *h = CONTAINER_OF(c, struct house, child);
    while (!h->daemon->draining && c->fd >= 0) { /* what it said last */
        char byte;
        if (recv(c->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) <= 0)
            break;
        on_told(c->fd, IO_READ, h);
    }
    io_free(h->told);
    h->told = NULL;
    fd_close(&c->fd);
    h->mailboxes++;
    h->failed += status != 0;
    if (WIFSIGNALED(status) && !h->daemon->draining)
        log_event(&h->daemon->log, house_fail, .user = slice_of(h->turn.user),
            .reason = SLICE_LIT("its process ended by a signal, or took too long"));
    if (!h->daemon->draining)
        next_turn(h);
}

static bool spawn(struct house *h)
{
    h->child.uid = h->turn.uid;
    h->child.what = h->turn.user;
    pid_t pid = child_fork(&h->children, &h->child, HOUSE_CHILD_MS);
    if (pid == 0)
        house_child(h, h->child.fd);
    if (pid > 0)
        h->told = io_new(h->daemon->loop, h->child.fd, IO_READ, on_told, h);
    return pid > 0;
}

/* What authd says is checked as far as it can do harm. */
static bool take_turn(struct house *h, const struct auth_grant *g)
{
    struct house_turn *t = &h->turn;
    t->system = g->uid >= 0;
    t->coexist = g->coexist;
    t->uid = t->system ? (uid_t)g->uid : geteuid();
    t->gid = t->system ? (gid_t)g->gid : getegid();
    if (!slice_to_cstr(g->user, t->user, sizeof(t->user)) ||
        !slice_to_cstr(g->mail, t->mail, sizeof(t->mail)) || t->system != (t->mail[0] == '/'))
        return false;
    if (t->system &&
        (g->uid < HOUSE_UID_FLOOR || g->gid <= 0 || g->uid >= UINT32_MAX || g->gid >= UINT32_MAX))
        return h->daemon->rootless && g->uid == (int64_t)geteuid();
    return !t->system || !h->daemon->rootless || t->uid == geteuid();
}

static void on_owner(struct ipc_in *in, void *arg)
{
    struct house *h = arg;
    const struct auth_grant *g = in ? in->msg : NULL;
    if (h->daemon->draining)
        return;
    if (!g || g->code == AUTH_TEMPORARY) {
        try_again(h, next_turn);
        return;
    }
    slice_cut(&h->rest, '\n');
    if (g->code != AUTH_OK || !take_turn(h, g)) {
        next_turn(h);
    } else if (!spawn(h)) {
        h->failed++;
        log_event(&h->daemon->log, house_fail, .user = slice_of(h->turn.user),
            .reason = SLICE_LIT("no process for it"));
        try_again(h, next_turn);
    }
}

static void next_turn(void *arg)
{
    struct house *h = arg;
    struct slice rest = h->rest;
    struct auth_owner ask = {.user = slice_cut(&rest, '\n')};
    if (h->rest.n)
        daemon_call(h->daemon, CONV_AUTH, -1, auth_owner_type, 0, &ask, -1, on_owner, h);
    else if (h->more)
        next_page(h);
    else
        end_round(h);
}

static void on_names(struct ipc_in *in, void *arg)
{
    struct house *h = arg;
    const struct auth_names *page = in ? in->msg : NULL;
    if (h->daemon->draining)
        return;
    if (!page || page->code != AUTH_OK) {
        try_again(h, next_page);
        return;
    }
    free(h->names);
    h->names = xmemdup0(page->names.p, page->names.n);
    h->rest = slice_from(h->names, page->names.n);
    h->more = page->more && page->names.n;
    next_turn(h);
}

/* Those behind the last name of the page before. */
static void next_page(void *arg)
{
    struct house *h = arg;
    struct slice names = slice_of(h->names ? h->names : "");
    struct auth_list ask = {.after = SLICE_LIT("")};
    while (names.n)
        ask.after = slice_cut(&names, '\n');
    daemon_call(h->daemon, CONV_AUTH, -1, auth_list_type, 0, &ask, -1, on_names, h);
}

static void begin_round(struct house *h)
{
    h->began = time(NULL);
    h->mailboxes = h->failed = 0;
    free(h->names);
    h->names = NULL;
    h->rest = SLICE_LIT("");
    next_page(h);
}

/* --- the process ------------------------------------------------------------------------------ */

int house_start(struct daemon *d, struct error *err)
{
    struct house *h = d->data;
    (void)err;
    children_watch(&h->children);
    h->last = read_stamp(h);
    if (!h->last) { /* the first round is not on the day of the installation */
        h->last = time(NULL);
        write_stamp(h);
    }
    if (h->every)
        wait_for_round(h);
    return OK;
}

void house_drain(struct daemon *d)
{
    struct house *h = d->data;
    timer_stop(&h->timer);
    io_free(h->told);
    h->told = NULL;
    fd_close(&h->child.fd); /* the child sees that, and comes to an end */
    if (h->child.pid)
        child_allow(&h->child, HOUSE_STOP_MS);
    children_drain(&h->children);
}

unsigned house_sessions(struct daemon *d)
{
    return ((const struct house *)d->data)->children.count;
}

void house_children(struct daemon *d, struct buf *out)
{
    children_list(&((const struct house *)d->data)->children, out);
}
