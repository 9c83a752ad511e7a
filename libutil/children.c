#include "libutil/children.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void children_init(
    struct children *c, struct daemon *d, child_ended_fn *ended, void (*rest)(void *), void *arg)
{
    *c = (struct children){.daemon = d, .ended = ended, .rest = rest, .arg = arg};
    list_init(&c->list);
}

void children_drain(struct children *c)
{
    if (c->daemon->draining && c->count == 0)
        daemon_exit(c->daemon);
}

static struct child *find(const struct children *c, pid_t pid)
{
    LIST_EACH(it, &c->list)
    {
        struct child *child = LIST_ENTRY(it, struct child, link);
        if (child->pid == pid)
            return child;
    }
    return NULL;
}

static void on_signal(int signo, void *arg)
{
    struct children *c = arg;
    int status;
    (void)signo;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct child *child = find(c, pid);
        if (!child)
            continue;
        timer_stop(&child->limit); /* the process id may be another's from now on */
        list_remove(&child->link);
        child->pid = 0;
        c->count--;
        (child->ended ? child->ended : c->ended)(child, status);
    }
    if (c->rest)
        c->rest(c->arg);
    children_drain(c);
}

void children_watch(struct children *c)
{
    loop_signal(c->daemon->loop, SIGCHLD, on_signal, c);
}

static void too_late(void *arg)
{
    struct child *child = arg;
    child->late = true;
    kill(child->pid, SIGKILL);
}

void child_allow(struct child *child, int64_t limit_ms)
{
    timer_start(&child->limit, limit_ms);
}

pid_t child_fork(struct children *c, struct child *child, int64_t limit_ms)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return ERR_TEMP;
    pid_t pid = fork();
    child->fd = pair[pid == 0];
    if (pid == 0)
        return 0;
    close(pair[1]);
    if (pid < 0) {
        fd_close(&child->fd);
        return ERR_TEMP;
    }
    child->pid = pid;
    child->late = false;
    child->started = time(NULL);
    child->begun = loop_now(c->daemon->loop);
    list_append(&c->list, &child->link);
    c->count++;
    timer_init(&child->limit, c->daemon->loop, too_late, child);
    timer_start(&child->limit, limit_ms);
    return pid;
}

void child_close_others(int *keep, size_t n)
{
    unsigned from = STDERR_FILENO + 1;
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && keep[j - 1] > keep[j]; j--) {
            int t = keep[j];
            keep[j] = keep[j - 1];
            keep[j - 1] = t;
        }
    for (size_t i = 0; i < n; i++) {
        if (keep[i] < (int)from)
            continue;
        if ((unsigned)keep[i] > from)
            close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    close_range(from, ~0U, 0);
}

void child_reset(int *keep, size_t n)
{
    sigset_t none;
    child_close_others(keep, n);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(077);
}

unsigned children_of(const struct children *c, uid_t uid)
{
    unsigned n = 0;
    LIST_EACH(it, &c->list)
    {
        const struct child *child = LIST_ENTRY(it, struct child, link);
        n += !child->ended && child->uid == uid;
    }
    return n;
}

void children_list(const struct children *c, struct buf *out)
{
    LIST_EACH(it, &c->list)
    {
        const struct child *child = LIST_ENTRY(it, struct child, link);
        struct master_child row = {.pid = child->pid,
            .uid = child->uid,
            .started = child->started,
            .what = slice_of(child->what)};
        if (record_put(out, &master_child_record, &row))
            break; /* a page full: enough for a status */
    }
}
