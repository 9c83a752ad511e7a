/*
 * Folders that users share (RFC 4314). Who shares anything stands in mail-root/veredus.shares: a
 * file per owner, named like him, with his mail directory's path. What he shares, and with whom,
 * stands in veredus.shared in that directory, written by his own session (libstore/acl.h).
 *
 * A session cannot leave its mail directory, so it tells the spawner by a pipe that something
 * changed. At a login the child opens, before it is closed in, the directories of folders that are
 * shared with its user, and nothing else of anybody's: what is not open cannot be reached. INBOX is
 * four trees, since its directory holds all other folders.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libmail/shares.h"
#include "libmail/spawner_parts.h"

enum {
    OPEN_DIR = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
    OWNERS_MAX = 100000,
    SUMMARY_MAX = 1 << 20
};

static const char registry[] = SHARES_REGISTRY, summary[] = "veredus.shared";

/* Whole small file; false when there is none. */
static bool slurp(int dir, const char *name, struct buf *out)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode)))
        n = -1;
    while (n > 0) {
        char *room = buf_reserve(out, 4096);
        n = room ? read(fd, room, 4096) : -1;
        if (n > 0)
            buf_claim(out, (size_t)n);
    }
    fd_close(&fd);
    return n == 0;
}

/* A mail directory below the root, which must be there; -1. */
static int open_mail(int root, struct slice path)
{
    int dir = fcntl(root, F_DUPFD_CLOEXEC, 3);
    while (dir >= 0 && path.n) {
        char name[256];
        struct slice level = slice_cut(&path, '/');
        bool good = level.n && !slice_is(level, ".") && !slice_is(level, "..") &&
                    slice_to_cstr(level, name, sizeof(name));
        int next = good ? openat(dir, name, OPEN_DIR) : -1;
        close(dir);
        dir = next;
    }
    return dir;
}

static bool is_owner_name(struct slice name)
{
    return name.n > 0 && name.n < 255 && name.p[0] != '.' && slice_chr(name, '/') < 0;
}

/* --- the registry: in the parent -------------------------------------------------------------- */

static int write_entry(int dir, const char *name, const char *content)
{
    int fd = openat(dir, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    size_t n = strlen(content);
    bool ok = fd >= 0 && write(fd, content, n) == (ssize_t)n;
    fd_close(&fd);
    return ok && renameat(dir, ".new", dir, name) == 0 ? OK : ERR_IO;
}

int shares_register(int root, const char *user, const char *mail_path, struct error *err)
{
    struct stat st;
    int mail = open_mail(root, slice_of(mail_path)), rc = OK;
    bool shares = mail >= 0 && fstatat(mail, summary, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                  S_ISREG(st.st_mode) && st.st_size > 0;
    fd_close(&mail);
    if (!is_owner_name(slice_of(user)))
        return error_set(err, ERR_SYNTAX, "%s: not a name for an owner of folders", user);
    if (shares && mkdirat(root, registry, 0700) && errno != EEXIST)
        return error_sys(err, "making %s", registry);
    int dir = openat(root, registry, OPEN_DIR);
    if (dir < 0)
        return shares ? error_sys(err, "opening %s", registry) : OK;
    if (shares && write_entry(dir, user, mail_path))
        rc = error_sys(err, "writing in %s", registry);
    else if (!shares && unlinkat(dir, user, 0) && errno != ENOENT)
        rc = error_sys(err, "removing in %s", registry);
    close(dir);
    return rc;
}

static void register_owner(struct spawner *s, const char *user, const char *mail)
{
    struct error err;
    if (shares_register(s->root_fd, user, mail, &err))
        log_event(&s->daemon->log, log_trouble, .what = SLICE_LIT("registering shared folders"),
            .reason = slice_of(err.text));
}

void shares_read(struct spawner *s)
{
    uint64_t trace;
    while (s->wake[0] >= 0 && read(s->wake[0], &trace, sizeof(trace)) == (ssize_t)sizeof(trace))
        LIST_EACH(it, &s->children)
        {
            struct spawner_child *c = LIST_ENTRY(it, struct spawner_child, link);
            if (c->trace == trace && c->mail) {
                register_owner(s, c->user, c->mail);
                break;
            }
        }
}

void shares_renew(struct spawner *s, struct slice owner)
{
    char user[256], path[1025];
    struct buf text;
    int dir = openat(s->root_fd, registry, OPEN_DIR);
    buf_init(&text, 16384);
    if (dir >= 0 && is_owner_name(owner) && slice_to_cstr(owner, user, sizeof(user)) &&
        slurp(dir, user, &text) && slice_to_cstr(buf_slice(&text), path, sizeof(path)))
        register_owner(s, user, path);
    buf_clear(&text);
    fd_close(&dir);
}

static void on_wake(int fd, unsigned events, void *arg)
{
    (void)fd;
    (void)events;
    shares_read(arg);
}

int shares_configure(struct spawner *s, struct error *err)
{
    s->wake[0] = s->wake[1] = -1;
    coexist_init(&s->coexist, s->daemon->conf);
    if (strcmp(s->kind->service, "imap") != 0 ||
        !conf_bool(conf_one(s->daemon->conf, "imap"), "shared-folders"))
        return OK;
    return pipe2(s->wake, O_CLOEXEC | O_NONBLOCK) ? error_sys(err, "pipe") : OK;
}

void shares_start(struct spawner *s)
{
    if (s->wake[0] >= 0)
        io_new(s->daemon->loop, s->wake[0], IO_READ, on_wake, s);
}

/* --- at a login: in the child ----------------------------------------------------------------- */

static struct slice domain_of(struct slice user)
{
    ptrdiff_t at = slice_rchr(user, '@');
    return at < 0 ? SLICE_LIT("") : slice_from_index(user, (size_t)at + 1);
}

/* The user who holds the public folders of a domain, or "". */
static struct slice public_owner(const struct conf *conf, struct slice domain)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "domain", b));)
        for (size_t i = 0; i < conf_args(b); i++)
            if (slice_ieq(conf_arg(b, i), domain))
                return conf_string(b, "public-folders");
    return SLICE_LIT("");
}

struct gathering {
    struct shares *out;
    struct slice user, owner, path;
    bool is_public, same_domain;
};

static bool is_meant(const struct gathering *g, struct slice who)
{
    return slice_ieq(who, g->user) || (g->same_domain && slice_is(who, "anyone"));
}

static bool is_folder_directory(struct slice name)
{
    return name.n > 1 && name.n < 256 && name.p[0] == '.' && name.p[1] != '.' &&
           slice_chr(name, '/') < 0;
}

static bool open_folder(struct shares *out, int mail, const char *name, struct session_share *sh)
{
    sh->fd = openat(mail, name, OPEN_DIR);
    if (sh->fd < 0)
        return false; /* renamed or deleted since */
    out->trees[out->ntrees++] = sh->fd;
    return true;
}

/* The mail directory itself only as a place to begin paths from: a descriptor that reads nothing.
 */
static bool open_inbox(struct shares *out, int mail, struct session_share *sh)
{
    static const char *const parts[SHARE_TREES] = {"veredus.inbox", "cur", "new", "tmp"};
    int fds[SHARE_TREES];
    size_t n = 0;
    while (n < SHARE_TREES && (fds[n] = openat(mail, parts[n], OPEN_DIR)) >= 0)
        n++;
    sh->maildir = n < SHARE_TREES ? -1 : openat(mail, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (sh->maildir < 0) {
        while (n)
            close(fds[--n]);
        return false;
    }
    sh->fd = fds[0];
    memcpy(&out->trees[out->ntrees], fds, sizeof(fds));
    out->ntrees += SHARE_TREES;
    return true;
}

static void take_folder(struct gathering *g, int mail, struct slice disk)
{
    struct shares *out = g->out;
    char name[256];
    const struct session_share *last = out->n ? &out->list[out->n - 1] : NULL;
    /* Lines of one folder stand together. */
    if (last && slice_is(disk, last->directory) && slice_is(g->owner, last->owner))
        return;
    bool inbox = slice_is(disk, ".");
    if (out->n == SHARES_MAX || !(inbox || is_folder_directory(disk)) ||
        !slice_to_cstr(disk, name, sizeof(name)))
        return;
    struct session_share sh = {.is_public = g->is_public};
    if (inbox ? !open_inbox(out, mail, &sh) : !open_folder(out, mail, name, &sh))
        return;
    sh.owner = xmemdup0(g->owner.p, g->owner.n);
    sh.mail = xmemdup0(g->path.p, g->path.n);
    sh.directory = xstrdup(name);
    out->list[out->n++] = sh;
}

static void take_owner(struct gathering *g, int root)
{
    struct buf text;
    int mail = open_mail(root, g->path);
    if (mail < 0)
        return;
    buf_init(&text, SUMMARY_MAX);
    if (slurp(mail, summary, &text)) {
        struct slice rest = buf_slice(&text);
        while (rest.n) {
            struct slice who = slice_cut(&rest, '\n'), disk = slice_cut(&who, ' ');
            if (is_meant(g, who))
                take_folder(g, mail, disk);
        }
    }
    buf_clear(&text);
    close(mail);
}

/* Where other programs use a Maildir, nobody but its owner may: what he shared before rests. */
static bool may_share(const struct spawner *s, struct slice owner)
{
    return is_owner_name(owner) && !coexist_has(&s->coexist, owner);
}

void shares_gather(struct spawner *s, const char *user, struct shares *out)
{
    struct slice self = slice_of(user), domain = domain_of(self);
    struct slice public_user = public_owner(s->daemon->conf, domain);
    struct buf path;
    int dir = s->wake[1] < 0 ? -1 : openat(s->root_fd, registry, OPEN_DIR);
    DIR *d = dir < 0 ? NULL : fdopendir(dir);
    buf_init(&path, 16384);
    for (size_t n = 0; d && n < OWNERS_MAX; n++) {
        struct dirent *e = readdir(d);
        if (!e)
            break;
        struct slice owner = slice_of(e->d_name);
        struct gathering g = {.out = out,
            .user = self,
            .owner = owner,
            .is_public = slice_ieq(owner, public_user),
            .same_domain = slice_ieq(domain_of(owner), domain)};
        buf_reset(&path);
        if (!may_share(s, owner) || slice_ieq(owner, self) || !slurp(dir, e->d_name, &path))
            continue;
        g.path = buf_slice(&path);
        take_owner(&g, s->root_fd);
    }
    if (d)
        closedir(d);
    buf_clear(&path);
}

bool shares_allow(const struct spawner *s, const char *user, struct slice owner,
    struct slice directory, struct buf *mail)
{
    char name[256];
    struct buf text;
    struct gathering g = {.user = slice_of(user),
        .same_domain = slice_ieq(domain_of(owner), domain_of(slice_of(user)))};
    int dir = openat(s->root_fd, registry, OPEN_DIR), fd = -1;
    bool known = dir >= 0 && may_share(s, owner) && slice_to_cstr(owner, name, sizeof(name)) &&
                 slurp(dir, name, mail);
    bool allowed = false;
    buf_init(&text, SUMMARY_MAX);
    if (known && (fd = open_mail(s->root_fd, buf_slice(mail))) >= 0 && slurp(fd, summary, &text))
        for (struct slice rest = buf_slice(&text); rest.n && !allowed;) {
            struct slice who = slice_cut(&rest, '\n'), disk = slice_cut(&who, ' ');
            allowed = slice_eq(disk, directory) && is_meant(&g, who);
        }
    buf_clear(&text);
    fd_close(&fd);
    fd_close(&dir);
    return allowed;
}
