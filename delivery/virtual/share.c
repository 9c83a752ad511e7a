/* Folders administered for somebody who is not their owner (libmail/proto/share.h). */
#include "libmail/proto/share.h"
#include "delivery/virtual/events.h"
#include "delivery/virtual/virtual.h"
#include "libstore/acl.h"
#include "libutil/conf.h"
#include "libutil/log.h"

struct act {
    struct store *store;
    const struct share_ask *ask;
    uint64_t mailbox;
};

/* May the user do this there? Who may not look a folder up is told that there is none. */
static int permit(const struct act *a, struct slice folder, unsigned needed, struct error *err)
{
    unsigned rights;
    if (!store_exists(a->store, folder))
        return error_set(err, ERR_NOT_FOUND, "no such folder");
    int rc = store_acl_rights(a->store, folder, a->ask->user, &rights, err);
    if (rc || (rights & needed))
        return rc;
    return error_set(err, rights & ACL_LOOKUP ? ERR_DENIED : ERR_NOT_FOUND, "not permitted");
}

static int change_list(struct act *a, struct error *err)
{
    const struct share_ask *m = a->ask;
    int rc = permit(a, m->folder, ACL_ADMIN, err);
    if (rc || m->how > ACL_REMOVE || (m->rights & ~(unsigned)ACL_ALL))
        return rc ? rc : error_set(err, ERR_SYNTAX, "no such change");
    return store_acl_change(a->store, m->folder, m->other, (enum acl_how)m->how, m->rights, err);
}

static int create_folder(struct act *a, struct error *err)
{
    struct store_status st = {0};
    struct slice name = a->ask->folder, above = store_acl_above(a->store, name);
    int rc = permit(a, above, ACL_CREATE, err);
    if (!rc)
        rc = store_create(a->store, name, err);
    if (rc)
        return rc;
    rc = store_acl_inherit(a->store, above, name, NULL, err);
    if (!rc)
        rc = store_status(a->store, name, &st, err);
    a->mailbox = st.mailbox;
    return rc == ERR_NOT_FOUND ? OK : rc; /* made, and deleted by somebody else */
}

static int delete_folder(struct act *a, struct error *err)
{
    int rc = permit(a, a->ask->folder, ACL_DELETE_BOX, err);
    if (!rc)
        rc = store_delete(a->store, a->ask->folder, err);
    return rc ? rc : store_acl_summary(a->store, NULL, err);
}

/* INBOX keeps its name, and its mail is not somebody else's to move. */
static int rename_folder(struct act *a, struct error *err)
{
    const struct share_ask *m = a->ask;
    int rc = permit(a, m->folder, ACL_DELETE_BOX, err);
    if (!rc && slice_iis(m->folder, "INBOX"))
        rc = error_set(err, ERR_DENIED, "INBOX is its owner's");
    if (!rc)
        rc = permit(a, store_acl_above(a->store, m->other), ACL_CREATE, err);
    if (!rc)
        rc = store_rename(a->store, m->folder, m->other, err);
    return rc ? rc : store_acl_summary(a->store, NULL, err);
}

static int open_directory(
    struct daemon *d, struct slice mail, struct store **out, struct error *err)
{
    char path[1025];
    const struct store_options opt = {
        .keep_deleted = conf_int(conf_one(d->conf, "mailbox"), "keep-deleted") > 0};
    int root = virtual_let_go(d, mail);
    if (mail.n == 0 || slice_is(mail, ".") || !slice_to_cstr(mail, path, sizeof(path)))
        return error_set(err, ERR_DENIED, "not a path for a mail directory");
    return store_open(root, path, &opt, out, err);
}

static const struct verb {
    const char *name;
    int (*act)(struct act *, struct error *);
} verbs[] = {
    [SHARE_LIST] = {"setacl", change_list},
    [SHARE_CREATE] = {"create", create_folder},
    [SHARE_DELETE] = {"delete", delete_folder},
    [SHARE_RENAME] = {"rename", rename_folder},
};

void virtual_share(struct peer *peer, struct ipc_in *in)
{
    const struct share_ask *m = in->msg;
    const struct verb *verb = m->verb < ARRAY_LEN(verbs) ? &verbs[m->verb] : NULL;
    struct act a = {.ask = m};
    struct error err = {0};
    struct log log;
    int rc = verb ? open_directory(peer->daemon, m->mail, &a.store, &err)
                  : error_set(&err, ERR_SYNTAX, "no such verb");
    if (!rc)
        rc = verb->act(&a, &err);
    store_close(a.store);
    log_set_id(&log, &peer->daemon->log, "sid", in->trace);
    log_event(&log, dlv_share, .user = m->user, .path = m->mail,
        .verb = slice_of(verb ? verb->name : "?"), .mailbox = m->folder, .other = m->other,
        .result = slice_of(rc ? err.text : "ok"));
    const struct share_done done = {rc, a.mailbox};
    (void)!ipc_reply(peer->ipc, in->id, in->trace, share_done_type, &done, -1);
}
