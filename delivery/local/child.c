/* The child: becomes the recipient for good, then delivers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "delivery/local/parts.h"

static void say(struct local_result *r, enum deliver_status status, const char *dsn,
    const char *rule, const char *text)
{
    r->status = status;
    snprintf(r->dsn, sizeof(r->dsn), "%s", dsn);
    snprintf(r->rule, sizeof(r->rule), "%s", rule);
    snprintf(r->text, sizeof(r->text), "%.399s", text);
}

/* All but the standard ones and these. */
static void close_others(int a, int b, int c)
{
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
        if (fd != a && fd != b && fd != c)
            close(fd);
    close_range(1024, ~0U, 0);
}

/* An empty .forward means the mailbox, as everywhere. */
static bool has_forward(int home)
{
    struct stat st;
    return fstatat(home, ".forward", &st, 0) ? errno != ENOENT : st.st_size > 0;
}

static uint32_t system_of(const struct local *l, int home)
{
    struct stat st;
    if (fstat(home, &st) == 0)
        for (size_t i = 0; i < l->nsystems; i++)
            if (l->systems[i].device == st.st_dev)
                return (uint32_t)i;
    return LOCAL_TREES;
}

static void note_sequence(void *arg, struct slice folder, uint64_t sequence)
{
    struct local_result *r = arg;
    (void)folder;
    r->sequence = sequence;
}

static int deliver(const struct task *t, int home, struct local_result *r, struct error *err)
{
    struct store_options opt = {
        .coexist = true, .create = true, .changed = note_sequence, .arg = r};
    const struct job *j = t->job;
    struct store_delivery d = {.id = j->delivery + t->index,
        .sender = slice_of(j->sender),
        .address = slice_of(t->address),
        .original = slice_of(t->original),
        .body = slice_from(j->body, j->body_len),
        .fd = j->fd,
        .size = j->size};
    struct store *store;
    struct store_appended out;
    int rc = store_open(home, t->local->mailbox, &opt, &store, err);
    if (rc)
        return rc;
    struct slice folder = store_deliver_folder(store, slice_of(t->folder));
    snprintf(r->folder, sizeof(r->folder), "%.*s", SLICE_FMT(folder));
    rc = store_deliver(store, folder, &d, &out, err);
    r->system = system_of(t->local, store_dirfd(store));
    if (!rc && r->system == LOCAL_TREES)
        rc = store_sync(store_dirfd(store), err);
    store_close(store);
    r->uid = rc ? 0 : out.uid;
    r->again = !rc && out.duplicate;
    return rc;
}

void local_deliver(const struct task *t, struct local_result *r)
{
    struct error err = {0};
    char text[400];
    int home = open(t->account.home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (home < 0) {
        error_sys(&err, "home directory %s", t->account.home);
        say(r, DEFERRED, "4.2.0", "home", err.text);
    } else if (has_forward(home)) {
        snprintf(text, sizeof(text),
            "account %.200s has a .forward file, which this release does not follow",
            t->account.name);
        say(r, DEFERRED, "4.3.3", "forward", text);
    } else if (t->local->filter && sandbox_tighten(t->local->filter, home, &err)) {
        say(r, DEFERRED, "4.3.0", "child", err.text);
    } else if (deliver(t, home, r, &err)) {
        say(r, DEFERRED, err.code == ERR_NO_SPACE ? "4.3.1" : "4.2.0", "mailbox", err.text);
    } else {
        snprintf(text, sizeof(text), "delivered to mailbox %s uid %u%s", r->folder, r->uid,
            r->again ? " (by an attempt before)" : "");
        say(r, DELIVERED, "2.0.0", "", text);
    }
    fd_close(&home);
}

_Noreturn void local_child(const struct task *t)
{
    struct local_result r = {0};
    struct error err = {0};
    sigset_t none;
    close_others(t->result, t->job->fd, log_fd());
    signal(SIGCHLD, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(077);
    if (sandbox_become(t->account.uid, t->account.gid, NULL, &err))
        say(&r, DEFERRED, "4.3.0", "child", err.text);
    else
        local_deliver(t, &r);
    ssize_t n = send(t->result, &r, sizeof(r), MSG_NOSIGNAL);
    _exit(n == (ssize_t)sizeof(r) ? 0 : 1);
}
