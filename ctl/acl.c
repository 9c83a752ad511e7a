/* acl: who may use folders of a user, and so which are public. */
#include <fcntl.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "ctl/mailuser.h"
#include "libmail/shares.h"
#include "libmail/users.h"
#include "libstore/acl.h"

static int check_folder(struct store *s, struct slice folder, struct error *err)
{
    return store_exists(s, folder)
               ? OK
               : error_set(err, ERR_NOT_FOUND, "%.*s: no such folder", SLICE_FMT(folder));
}

static int show(struct ctl *c, int argc, char **argv)
{
    struct store *s = NULL;
    struct acl acl = {0};
    struct error err = {0};
    struct buf out;
    struct json json = {.out = &out};
    if (argc != 2)
        return ctl_usage(c);
    if (!ctl_conf(c))
        return CTL_NO;
    int rc = mailuser_open(c, argv[0], false, NULL, &s, &err);
    if (!rc)
        rc = check_folder(s, slice_of(argv[1]), &err);
    if (!rc)
        rc = store_acl_get(s, slice_of(argv[1]), &acl, &err);
    store_close(s);
    if (rc)
        return ctl_report(&err);
    buf_init(&out, 1 << 20);
    if (c->json)
        json_begin(&json, NULL, '[');
    for (size_t i = 0; i < acl.n; i++) {
        char rights[32];
        struct buf text;
        buf_init(&text, sizeof(rights) - 1);
        acl_put_rights(acl.entries[i].rights, &text);
        if (c->json) {
            json_begin(&json, NULL, '{');
            json_str(&json, "who", slice_of(acl.entries[i].who));
            json_str(&json, "rights", buf_slice(&text));
            json_end(&json, '}');
        } else {
            buf_printf(&out, "%s %.*s\n", acl.entries[i].who, SLICE_FMT(buf_slice(&text)));
        }
        buf_clear(&text);
    }
    if (c->json) {
        json_end(&json, ']');
        buf_putc(&out, '\n');
    }
    fwrite(buf_slice(&out).p, 1, buf_len(&out), stdout);
    buf_clear(&out);
    acl_clear(&acl);
    return CTL_OK;
}

/* Virtual users only: accounts of the host cannot read each other's files. */
static int find_virtual(struct ctl *c, const char *name, struct user *user, struct error *err)
{
    struct users *users = mailuser_table(c, err);
    if (!users)
        return err->code;
    int rc = users_mailbox(users, slice_of(name), user, err);
    users_free(users);
    return rc == ERR_NOT_FOUND ? error_set(err, rc, "%s: no such virtual user", name) : rc;
}

static int register_shares(struct ctl *c, const struct user *user, struct error *err)
{
    const char *root = conf_string(conf_root(ctl_conf(c)), "mail-root").p;
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "%s", root);
    int rc = shares_register(fd, user->name, user->mail, err);
    fd_close(&fd);
    return rc;
}

static int set(struct ctl *c, int argc, char **argv)
{
    bool create = ctl_flag(&argc, argv, "--create");
    struct user user = {0}, other = {0};
    struct store *s = NULL;
    struct error err = {0};
    unsigned rights = 0;
    if (argc != 4)
        return ctl_usage(c);
    if (strcmp(argv[3], "none") != 0 && acl_parse_rights(slice_of(argv[3]), &rights))
        return ctl_fail(CTL_USAGE, "%s: rights are letters of lrswipkxtea, or none", argv[3]);
    struct slice folder = slice_of(argv[1]);
    const char *who = argv[2] + (*argv[2] == '-');
    int rc = find_virtual(c, argv[0], &user, &err);
    if (!rc && rights && strcasecmp(who, "anyone") != 0)
        rc = find_virtual(c, who, &other, &err);
    if (!rc && user.coexist && rights)
        rc = error_set(&err, ERR_UNSUPPORTED,
            "%s: folders that other programs use too (coexist yes) cannot be shared", user.name);
    if (!rc)
        rc = mailuser_open(c, argv[0], create, NULL, &s, &err);
    if (!rc && create && !store_exists(s, folder))
        rc = store_create(s, folder, &err);
    if (!rc)
        rc = check_folder(s, folder, &err);
    if (!rc)
        rc = store_acl_change(s, folder, slice_of(argv[2]), ACL_SET, rights, &err);
    if (!rc)
        rc = register_shares(c, &user, &err);
    store_close(s);
    user_wipe(&user);
    user_wipe(&other);
    return rc ? ctl_report(&err) : CTL_OK;
}

const struct ctl_verb acl_verbs[] = {
    {"acl", "show", "USER FOLDER", "who else may use a folder, and how", show},
    {"acl", "set", "USER FOLDER WHO RIGHTS [--create]",
        "WHO (a user, or anyone) may use it so: letters of lrswipkxtea, or none", set},
    {NULL}};
