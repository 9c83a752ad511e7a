/* The child's side of the spawner, from fork to the session's end. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmail/spawner_parts.h"
#include "libutil/children.h"
#include "libutil/spread.h"

/* For the signal handler, which is given nothing else. Set once, in the child. */
static struct {
    volatile sig_atomic_t stopping;
    int fd;
} self;

/* Ends the input, so that a session waiting anywhere in a read or poll comes back. */
static void on_term(int signo)
{
    (void)signo;
    int saved = errno;
    self.stopping = 1;
    shutdown(self.fd, SHUT_RD);
    errno = saved;
}

static void reset_signals(int fd)
{
    sigset_t none;
    struct sigaction term = {.sa_handler = on_term};
    self.fd = fd;
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &term, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Makes every level below the mail root, never following a link or leaving it. Returns the last
 * level's descriptor. */
static int open_below_root(const struct spawner *s, const char *path, struct error *err)
{
    int dir = fcntl(s->root_fd, F_DUPFD_CLOEXEC, 3);
    struct slice rest = slice_of(path);
    while (dir >= 0 && rest.n) {
        char name[256];
        struct slice level = slice_cut(&rest, '/');
        int next = -1, made = -1;
        if (!level.n || slice_is(level, ".") || slice_is(level, "..") ||
            !slice_to_cstr(level, name, sizeof(name)))
            error_set(err, ERR_DENIED, "not a mail directory: %s", path);
        else if ((made = mkdirat(dir, name, 0700)) < 0 && errno != EEXIST)
            error_sys(err, "%s/%s", s->root, path);
        else if ((next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
            error_sys(err, "%s/%s", s->root, path);
        else if (made == 0 && rest.n)
            dir_spread(next);
        close(dir);
        dir = next;
    }
    return dir;
}

/* Becomes the owner, in the mail directory; its descriptor, or -1. */
static int settle(struct spawner *s, const struct spawner_place *place, struct error *err)
{
    /* A mailbox below the root is entered by descriptor, an account's by its path. */
    const char *path = place->below_root ? "." : place->mail;
    int mail = -1;
    if (place->below_root) {
        mail = open_below_root(s, place->mail, err);
        if (mail >= 0 && fchdir(mail) != 0) {
            error_sys(err, "%s/%s", s->root, place->mail);
            fd_close(&mail);
        }
        if (mail < 0)
            return -1;
    }
    if (sandbox_become(place->uid, place->gid, place->chroot ? path : NULL, err) != OK) {
        fd_close(&mail);
        return -1;
    }
    if (mail >= 0)
        return mail;
    if (!place->chroot)
        mkdir(path, 0700); /* a failure shows in open */
    mail = open(place->chroot ? "/" : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mail < 0)
        error_sys(err, "%s", path);
    return mail;
}

_Noreturn void spawner_child_main(struct spawner *s, const struct spawner_ask *a,
    const struct spawner_place *place, int notify, int room)
{
    struct error err = {0};
    struct shares shares = {.ntrees = 1};
    struct session_env env = {.fd = a->fd,
        .notify = notify,
        .wake = place->below_root && !place->coexist ? s->wake[1] : -1,
        .room = room,
        .tls = a->tls,
        .coexist = place->coexist,
        .user = place->user,
        .quota = place->quota,
        .client = a->client,
        .tag = a->tag,
        .input = slice_from(a->input, a->input_len),
        .conf = s->daemon->conf,
        .trace = a->trace,
        .stopping = &self.stopping};
    int keep[] = {a->fd, notify, log_fd(), s->root_fd, env.wake, room};
    reset_signals(a->fd);
    child_close_others(keep, ARRAY_LEN(keep));
    log_set_id(&env.log, &s->daemon->log, "sid", a->trace);
    fcntl(a->fd, F_SETFL, fcntl(a->fd, F_GETFL) & ~O_NONBLOCK);
    if (place->below_root)
        shares_gather(s, place->user, &shares);
    env.mail = settle(s, place, &err);
    fd_close(&s->root_fd);
    shares.trees[0] = env.mail;
    env.shares = shares.list;
    env.nshares = shares.n;
    if (env.mail < 0 || sandbox_tighten_to(s->filter, shares.trees, shares.ntrees, &err) != OK) {
        log_event(&env.log, session_refuse, .user = slice_of(env.user),
            .rule = SLICE_LIT("sandbox"), .why = slice_of(err.text));
        _exit(1);
    }
    if (getppid() != s->pid)
        _exit(0); /* it died before it could take us along */
    _exit(s->kind->session(&env));
}
