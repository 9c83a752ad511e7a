#include "libutil/conf_place.h"

#include <errno.h>
#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/conf_internal.h"
#include "libutil/role.h"
#include "libutil/sandbox.h"

void conf_key_where(
    const struct conf *conf, const struct conf_block *b, const char *key, struct buf *out)
{
    const struct conf_entry *e = conf_entry_find(b, key);
    if (e && e->file && e->line)
        buf_printf(out, "%s:%u: %s", e->file, e->line, key);
    else
        buf_printf(out, "%s: %s", conf->file, key);
}

/* 0, or the errno of using this directory. */
static int use_directory(const char *path)
{
    char inside[4096 + 2];
    snprintf(inside, sizeof(inside), "%s/.", path); /* ENOTDIR for anything else */
    return access(inside, R_OK | W_OK | X_OK) == 0 ? 0 : errno;
}

/* Those who are started by master stand in the instance's directory, whose parents their account
 * may not be allowed to walk. */
static const char *from_instance(const char *path, const char *instance)
{
    size_t n = strlen(instance);
    if (strncmp(path, instance, n) != 0 || path[n] != '/' || chdir(instance) != 0)
        return path;
    return path + n + 1;
}

/* In the child. */
static int use_as(const char *path, const char *instance, uid_t uid, gid_t gid)
{
    path = from_instance(path, instance);
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return errno;
    return use_directory(path);
}

static int ask_child(const char *path, const char *instance, const char *account, struct error *err)
{
    uid_t uid;
    gid_t gid;
    int status, rc = sandbox_account(account, &uid, &gid, err);
    if (rc)
        return rc;
    pid_t pid = fork();
    if (pid < 0)
        return error_sys(err, "fork");
    if (pid == 0)
        _exit(use_as(path, instance, uid, gid));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_sys(err, "waitpid");
    int fault = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
    return fault
               ? error_set(err, ERR_DENIED, "%s: %s, as account %s", path, strerror(fault), account)
               : OK;
}

int conf_check_mail_root(const struct conf *conf, struct buf *errors, struct error *err)
{
    const struct conf_block *root = conf_root(conf);
    const char *path = conf_string(root, "mail-root").p;
    const char *instance = conf_string(root, "directory").p;
    struct error why;
    int fault, rc = OK;
    if (geteuid() == 0)
        rc = ask_child(path, instance, role_info(ROLE_VIRTUAL)->account, &why);
    else if ((fault = use_directory(path)))
        rc = error_set(&why, ERR_DENIED, "%s: %s", path, strerror(fault));
    if (rc == OK)
        return OK;
    struct buf line;
    buf_init(&line, 8192);
    conf_key_where(conf, root, "mail-root", &line);
    buf_printf(&line, ": %s", why.text);
    buf_printf(errors, "%.*s\n", SLICE_FMT(buf_slice(&line)));
    error_set(err, ERR_DENIED, "%.*s", SLICE_FMT(buf_slice(&line)));
    buf_clear(&line);
    return ERR_DENIED;
}
