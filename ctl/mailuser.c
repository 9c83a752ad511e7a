#include "ctl/mailuser.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

static int become(uid_t uid, gid_t gid, const struct mailuser_gift *gift, struct error *err)
{
    if (geteuid() != 0 || uid == 0)
        return OK;
    for (size_t i = 0; gift && i < gift->n; i++)
        if (fchown(gift->fds[i], uid, gid))
            return error_sys(err, "giving it to uid %u", (unsigned)uid);
    if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
        return error_sys(err, "becoming uid %u", (unsigned)uid);
    return OK;
}

/* Virtual mailboxes belong to whom the mail root belongs. */
static int open_virtual(const struct conf *conf, const struct user *user,
    const struct mailuser_gift *gift, const struct store_options *opt, struct store **out,
    struct error *err)
{
    const char *root = conf_string(conf_root(conf), "mail-root").p;
    struct stat st;
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "%s", root);
    int rc = fstat(fd, &st) ? error_sys(err, "%s", root) : become(st.st_uid, st.st_gid, gift, err);
    if (!rc)
        rc = store_open(fd, user->mail, opt, out, err);
    fd_close(&fd);
    return rc;
}

struct users *mailuser_table(struct ctl *c, struct error *err)
{
    const struct conf *conf = ctl_conf(c);
    if (conf)
        return users_new(conf, "/etc", err);
    error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    return NULL;
}

int mailuser_find(struct ctl *c, const char *name, struct user *user, struct error *err)
{
    struct users *users = mailuser_table(c, err);
    if (!users)
        return err->code;
    int rc = users_owner(users, slice_of(name), user, err);
    users_free(users);
    return rc == ERR_NOT_FOUND ? error_set(err, rc, "%s: no such user", name) : rc;
}

int mailuser_open(struct ctl *c, const char *name, bool create, const struct mailuser_gift *gift,
    struct store **out, struct error *err)
{
    struct user user = {0};
    int rc = mailuser_find(c, name, &user, err);
    const struct conf *conf = ctl_conf(c);
    if (!rc && !user.mail[0])
        rc = error_set(err, ERR_UNSUPPORTED, "%s: mail of accounts is in mbox files", name);
    if (!rc) {
        struct store_options opt = {.coexist = user.coexist,
            .create = create,
            .keep_deleted = conf_int(conf_one(conf, "mailbox"), "keep-deleted") > 0};
        if (!user.system)
            rc = open_virtual(conf, &user, gift, &opt, out, err);
        else
            rc = become((uid_t)user.uid, (gid_t)user.gid, gift, err);
        if (!rc && user.system)
            rc = store_open(AT_FDCWD, user.mail, &opt, out, err);
        if (rc == ERR_NOT_FOUND)
            error_set(err, rc, "%s has no mail yet", name);
    }
    user_wipe(&user);
    return rc;
}
