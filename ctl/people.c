#include "ctl/people.h"

#include <errno.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libmail/users.h"

enum { CHILD_FD = 3 };

struct search {
    struct users *users;
    const char *domain; /* NULL: all */
    struct people *found;
    size_t cap;
    int rc;
    struct error *err;
};

static void add(struct search *s, const char *name)
{
    struct people *p = s->found;
    const char *at = strrchr(name, '@');
    if (s->domain && (!at || strcasecmp(at + 1, s->domain) != 0))
        return;
    if (p->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        p->names = xrealloc(p->names, s->cap, sizeof(*p->names));
    }
    p->names[p->n++] = xstrdup(name);
}

/* By the name under which authd would know them. */
static void consider(struct search *s, struct slice login)
{
    struct user user;
    struct error ignored;
    if (users_login(s->users, login, &user, &ignored) == OK && user.mail[0])
        add(s, user.name);
    user_wipe(&user);
}

static int each_entry(struct slice key, struct slice value, void *arg)
{
    (void)value;
    consider(arg, key);
    return 0;
}

static void each_account(struct search *s, const struct conf *conf)
{
    const struct conf_block *local = conf_one(conf, "local");
    if (conf_list_len(local, "domains") == 0)
        return;
    setpwent();
    for (const struct passwd *pw; (pw = getpwent());) {
        char address[600];
        struct slice domain = conf_list_at(local, "domains", 0);
        if (pw->pw_uid < conf_int(local, "min-uid") || pw->pw_uid >= 65534)
            continue;
        snprintf(address, sizeof(address), "%s@%.*s", pw->pw_name, SLICE_FMT(domain));
        consider(s, slice_of(address));
    }
    endpwent();
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void each_once(struct people *p)
{
    size_t kept = 0;
    if (p->n)
        qsort(p->names, p->n, sizeof(*p->names), by_name);
    for (size_t i = 0; i < p->n; i++) {
        if (kept && strcmp(p->names[kept - 1], p->names[i]) == 0)
            free(p->names[i]);
        else
            p->names[kept++] = p->names[i];
    }
    p->n = kept;
}

static int search_all(struct search *s, const struct conf *conf, struct error *err)
{
    struct table *table = table_open(conf_string(conf_root(conf), "users"), err);
    if (!table)
        return err->code;
    int rc = table_each(table, each_entry, s, err);
    table_close(table);
    if (!rc)
        each_account(s, conf);
    return rc;
}

int people_find(struct ctl *c, const char *who, struct people *out, struct error *err)
{
    const struct conf *conf = ctl_conf(c);
    struct user user;
    *out = (struct people){0};
    struct users *users = conf ? users_new(conf, "/etc", err) : NULL;
    if (!users)
        return conf ? err->code : error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    struct search s = {.users = users, .domain = who, .found = out, .err = err};
    int rc = who ? users_owner(users, slice_of(who), &user, err) : ERR_NOT_FOUND;
    if (!rc && who) {
        s.domain = NULL;
        add(&s, user.name);
        user_wipe(&user);
    } else if (rc == ERR_NOT_FOUND) {
        rc = search_all(&s, conf, err);
        if (!rc && who && out->n == 0)
            rc = error_set(err, ERR_NOT_FOUND, "%s: no such user or domain", who);
    }
    users_free(users);
    each_once(out);
    return rc;
}

void people_clear(struct people *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->names[i]);
    free(p->names);
    *p = (struct people){0};
}

static int child(struct ctl *c, const char *name, bool create, people_fn *fn, void *arg, int fd)
{
    struct store *store;
    struct error err = {0};
    /* Nothing that the caller has open is for the owner. */
    if (dup2(fd, CHILD_FD) < 0 || close_range(CHILD_FD + 1, UINT32_MAX, 0))
        return ctl_fail(CTL_NO, "closing descriptors: %s", strerror(errno));
    int rc = mailuser_open(c, name, create, NULL, &store, &err);
    if (rc == ERR_NOT_FOUND)
        return PEOPLE_NO_MAIL;
    if (rc)
        return ctl_report(&err);
    int status = fn(store, name, CHILD_FD, arg);
    store_close(store);
    return fflush(stdout) ? CTL_NO : status;
}

int people_start(struct ctl *c, const char *name, bool create, people_fn *fn, void *arg,
    struct people_child *out, struct error *err)
{
    int pair[2];
    fflush(stdout);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return error_sys(err, "a pair of sockets");
    out->pid = fork();
    if (out->pid == 0) {
        close(pair[0]);
        _exit(child(c, name, create, fn, arg, pair[1]));
    }
    close(pair[1]);
    out->fd = pair[0];
    if (out->pid < 0) {
        fd_close(&out->fd);
        return error_sys(err, "fork");
    }
    return OK;
}

int people_wait(struct people_child *p)
{
    int status = 0;
    fd_close(&p->fd);
    while (waitpid(p->pid, &status, 0) < 0)
        if (errno != EINTR)
            return CTL_NO;
    return WIFEXITED(status) ? WEXITSTATUS(status) : CTL_NO;
}

int people_each(struct ctl *c, const struct people *p, people_fn *fn, void *arg)
{
    int worst = CTL_OK;
    for (size_t i = 0; i < p->n; i++) {
        struct people_child kid;
        struct error err = {0};
        if (people_start(c, p->names[i], false, fn, arg, &kid, &err))
            return ctl_report(&err);
        int status = people_wait(&kid);
        if (status != PEOPLE_NO_MAIL && status != CTL_OK)
            worst = status;
    }
    return worst;
}
