#include "ctl/people.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libmail/users.h"

enum { CHILD_FD = 3 };

static bool is_in(const char *name, const char *domain)
{
    const char *at = strrchr(name, '@');
    return !domain || (at && strcasecmp(at + 1, domain) == 0);
}

/* Those of the domain, or of all, under the names by which authd would know them. */
static int search(struct users *users, const char *domain, struct people *out, struct error *err)
{
    char **names;
    size_t n;
    int rc = users_names(users, &names, &n, err);
    if (rc)
        return rc;
    out->names = xcalloc(n + 1, sizeof(*out->names));
    for (size_t i = 0; i < n; i++) {
        struct user user;
        struct error ignored;
        if (!is_in(names[i], domain))
            continue;
        if (users_owner(users, slice_of(names[i]), &user, &ignored) == OK && user.mail[0])
            out->names[out->n++] = xstrdup(user.name);
        user_wipe(&user);
    }
    users_names_free(names, n);
    return OK;
}

int people_find(struct ctl *c, const char *who, struct people *out, struct error *err)
{
    const struct conf *conf = ctl_conf(c);
    struct user user;
    *out = (struct people){0};
    struct users *users = conf ? users_new(conf, "/etc", err) : NULL;
    if (!users)
        return conf ? err->code : error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    int rc = who ? users_owner(users, slice_of(who), &user, err) : ERR_NOT_FOUND;
    if (!rc && who) {
        out->names = xcalloc(1, sizeof(*out->names));
        out->names[out->n++] = xstrdup(user.name);
        user_wipe(&user);
    } else if (rc == ERR_NOT_FOUND) {
        rc = search(users, who, out, err);
        if (!rc && who && out->n == 0)
            rc = error_set(err, ERR_NOT_FOUND, "%s: no such user or domain", who);
    }
    if (rc)
        people_clear(out);
    users_free(users);
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
