#include "libutil/accounts.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/buf.h"

enum { PASSWD_MAX = 64 * 1024 * 1024 };

struct accounts {
    int dir_fd;
    struct stat seen;
    struct buf text;
};

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int reread(struct accounts *a, struct error *err)
{
    struct stat now;
    if (fstatat(a->dir_fd, "passwd", &now, 0))
        return error_set(err, ERR_TEMP, "passwd: cannot be looked at");
    if (a->seen.st_ino && same(&now, &a->seen))
        return OK;
    int fd = openat(a->dir_fd, "passwd", O_RDONLY | O_CLOEXEC), rc = OK;
    if (fd < 0) {
        error_sys(err, "passwd");
        return ERR_TEMP;
    }
    buf_reset(&a->text);
    for (ssize_t n = 1; rc == OK && n > 0;) {
        char *room = buf_reserve(&a->text, 16384);
        if (!room)
            rc = error_set(err, ERR_LIMIT, "passwd: too large");
        else if ((n = read(fd, room, 16384)) > 0)
            buf_claim(&a->text, (size_t)n);
        else if (n < 0)
            rc = error_sys(err, "passwd");
    }
    close(fd);
    if (rc)
        now.st_ino = 0; /* read it again next time */
    a->seen = now;
    return rc;
}

bool account_is_person(const struct account *a, int64_t min_uid)
{
    const uid_t overflow = 65534; /* what the kernel shows for ids it cannot map */
    return (int64_t)a->uid >= min_uid && a->uid != overflow;
}

struct accounts *accounts_open(const char *directory, struct error *err)
{
    struct accounts *a = NEW(struct accounts);
    buf_init(&a->text, PASSWD_MAX);
    a->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (a->dir_fd < 0)
        error_sys(err, "%s", directory);
    if (a->dir_fd >= 0 && reread(a, err) == OK)
        return a;
    accounts_close(a);
    return NULL;
}

void accounts_close(struct accounts *a)
{
    if (!a)
        return;
    fd_close(&a->dir_fd);
    buf_clear(&a->text);
    free(a);
}

/* name:password:uid:gid:comment:home:shell */
static int parse_line(struct slice line, struct account *out)
{
    uint64_t uid, gid;
    struct slice name = slice_cut(&line, ':');
    slice_cut(&line, ':');
    struct slice uid_text = slice_cut(&line, ':'), gid_text = slice_cut(&line, ':');
    slice_cut(&line, ':');
    struct slice home = slice_cut(&line, ':');
    if (slice_u64(uid_text, 0, UINT32_MAX - 1, &uid) ||
        slice_u64(gid_text, 0, UINT32_MAX - 1, &gid) ||
        !slice_to_cstr(name, out->name, sizeof(out->name)) ||
        !slice_to_cstr(home, out->home, sizeof(out->home)) || out->home[0] != '/')
        return ERR_SYNTAX;
    out->uid = (uid_t)uid;
    out->gid = (gid_t)gid;
    return OK;
}

int accounts_find(struct accounts *a, struct slice name, struct account *out, struct error *err)
{
    int rc = reread(a, err);
    if (rc)
        return rc;
    for (struct slice rest = buf_slice(&a->text); rest.n;) {
        struct slice line = slice_cut(&rest, '\n'), fields = line;
        if (slice_eq(slice_cut(&fields, ':'), name))
            return name.n && fields.p && parse_line(line, out) == OK ? OK : ERR_NOT_FOUND;
    }
    return ERR_NOT_FOUND;
}

int accounts_each(
    struct accounts *a, void (*fn)(const struct account *, void *arg), void *arg, struct error *err)
{
    struct account account;
    int rc = reread(a, err);
    for (struct slice rest = buf_slice(&a->text); !rc && rest.n;)
        if (parse_line(slice_cut(&rest, '\n'), &account) == OK)
            fn(&account, arg);
    return rc;
}

void accounts_trees(uid_t least, void (*fn)(const char *path, void *arg), void *arg)
{
    enum { NOBODY = 65534 };
    uid_t self = geteuid();
    setpwent();
    for (const struct passwd *pw; (pw = getpwent());) {
        const char *slash = pw->pw_dir ? strrchr(pw->pw_dir, '/') : NULL;
        if (self != 0 && pw->pw_uid == self && slash)
            fn(pw->pw_dir, arg);
        if (self != 0 || pw->pw_uid < least || pw->pw_uid >= NOBODY || !slash ||
            slash == pw->pw_dir)
            continue;
        char *parent = xmemdup0(pw->pw_dir, (size_t)(slash - pw->pw_dir));
        fn(parent, arg);
        free(parent);
    }
    endpwent();
}
