/* The child: becomes the owner of one mailbox for good, then does its chores. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "delivery/house/events.h"
#include "delivery/house/parts.h"
#include "libstore/chores.h"

struct work {
    const struct house *house;
    int fd;
};

static void report(void *arg, const struct chore_done *done)
{
    const struct house *h = ((struct work *)arg)->house;
    const struct log *log = &h->daemon->log;
    struct slice user = slice_of(h->turn.user);
    if (done->expired)
        log_event(
            log, expire_done, .user = user, .mailbox = done->folder, .messages = done->expired);
    if (done->compacted)
        log_event(log, store_compacted, .user = user, .mailbox = done->folder);
    if (done->purged)
        log_event(log, purge_done, .user = user, .messages = done->purged);
}

/* The parent closes its end when it has to go. */
static bool stop(void *arg)
{
    char byte;
    return recv(((struct work *)arg)->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/* For those who watch the folder. One that is lost they find later by themselves. */
static void changed(void *arg, struct slice folder, uint64_t sequence)
{
    char told[HOUSE_TOLD_MAX];
    struct work *w = arg;
    memcpy(told, &sequence, sizeof(sequence));
    folder = slice_first(folder, sizeof(told) - sizeof(sequence));
    memcpy(told + sizeof(sequence), folder.p, folder.n);
    (void)!send(w->fd, told, sizeof(sequence) + folder.n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A mailbox below the root by steps that follow no link; an account's as that account. */
static int open_mail(const struct house *h)
{
    const struct house_turn *t = &h->turn;
    int dir = open(t->system ? t->mail : h->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct slice rest = slice_of(t->system ? "" : t->mail);
    while (dir >= 0 && rest.n) {
        char name[256];
        int next = -1;
        struct slice level = slice_cut(&rest, '/');
        errno = ENOENT;
        if (level.n && !slice_is(level, "..") && slice_to_cstr(level, name, sizeof(name)))
            next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        close(dir);
        errno = saved;
        dir = next;
    }
    return dir;
}

static int do_chores(struct work *w, struct error *err)
{
    const struct house *h = w->house;
    const struct house_turn *t = &h->turn;
    const struct chores chores = {.conf = h->daemon->conf,
        .expire = true,
        .compact = true,
        .purge = true,
        .now = time(NULL),
        .report = report,
        .stop = stop,
        .arg = w};
    const struct store_options opt = {.coexist = t->coexist,
        .keep_deleted = conf_int(conf_one(h->daemon->conf, "mailbox"), "keep-deleted") > 0,
        .changed = changed,
        .arg = w};
    struct store *store = NULL;
    struct stat st;
    int rc = sandbox_become(t->uid, t->gid, NULL, err);
    int dir = rc ? -1 : open_mail(h);
    if (!rc && dir < 0)
        return errno == ENOENT ? OK : error_sys(err, "%s", t->mail); /* no mail yet */
    /* A home that was another's before, or is by mistake in the table of accounts. */
    if (!rc && (fstat(dir, &st) || st.st_uid != t->uid))
        rc = error_set(err, ERR_DENIED, "%s belongs to another account", t->mail);
    if (!rc)
        rc = sandbox_tighten(h->filter, dir, err);
    if (!rc)
        rc = store_open(dir, "", &opt, &store, err);
    if (!rc)
        rc = store_chores(store, t->user, &chores, err);
    store_close(store);
    fd_close(&dir);
    return rc;
}

_Noreturn void house_child(const struct house *h, int fd)
{
    struct work w = {h, fd};
    struct error err = {0};
    int keep[] = {fd, log_fd()};
    child_reset(keep, ARRAY_LEN(keep));
    int rc = do_chores(&w, &err);
    if (rc)
        log_event(&h->daemon->log, house_fail, .user = slice_of(h->turn.user),
            .reason = slice_of(err.text));
    _exit(rc ? 1 : 0);
}
