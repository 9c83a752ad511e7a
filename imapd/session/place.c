#include "imapd/session/place.h"

#include "libstore/name.h"
#include "libstore/seen.h"
#include "libutil/conf.h"
#include "libutil/error.h"

/* What stands before the names of an owner's folders. */
static void put_space(const struct session_share *from, struct buf *out)
{
    if (from->is_public)
        buf_puts(out, PLACE_PUBLIC);
    else
        buf_printf(out, "%s%s/", PLACE_OTHERS, from->owner);
}

void places_open(struct session *s)
{
    struct buf name, folder;
    buf_init(&name, 8192);
    buf_init(&folder, 8192);
    s->shares = xcalloc(s->env->nshares + 1, sizeof(*s->shares));
    for (size_t i = 0; i < s->env->nshares; i++) {
        const struct session_share *from = &s->env->shares[i];
        buf_reset(&folder);
        buf_reset(&name);
        bool inbox = strcmp(from->directory, ".") == 0;
        put_space(from, &name);
        if (inbox)
            buf_puts(&folder, "INBOX");
        else if (name_from_disk(slice_of(from->directory), &folder))
            continue;
        /* The owner's name alone is his INBOX, above the others. */
        if (inbox)
            buf_truncate(&name, buf_len(&name) - 1);
        else if (buf_put(&name, buf_slice(&folder)))
            continue;
        s->shares[s->nshares++] =
            (struct share){.name = xmemdup0(buf_slice(&name).p, buf_len(&name)),
                .folder = xmemdup0(buf_slice(&folder).p, buf_len(&folder)),
                .session = s,
                .from = from};
    }
    buf_clear(&name);
    buf_clear(&folder);
}

void places_close(struct session *s)
{
    for (size_t i = 0; i < s->nshares; i++) {
        store_close(s->shares[i].store);
        free(s->shares[i].name);
        free(s->shares[i].folder);
    }
    free(s->shares);
    s->shares = NULL;
    s->nshares = 0;
    share_hang_up(s);
}

static int open_share(struct session *s, struct share *sh, struct place *p, struct error *err)
{
    unsigned rights;
    const struct store_options opts = {.single = true,
        .maildir = sh->from->maildir,
        .changed = notify_changed_share,
        .arg = sh,
        .keep_deleted = conf_int(conf_one(s->env->conf, "mailbox"), "keep-deleted") > 0};
    int rc = sh->store ? OK : store_open(sh->from->fd, ".", &opts, &sh->store, err);
    if (!rc)
        rc = store_acl_rights(sh->store, SLICE_LIT("INBOX"), slice_of(s->env->user), &rights, err);
    if (!rc)
        *p = (struct place){sh->store, SLICE_LIT("INBOX"), rights, sh};
    return rc;
}

int place_find(struct session *s, struct slice name, struct place *p, struct error *err)
{
    *p = (struct place){s->store, name, ACL_ALL, NULL};
    if (s->nshares == 0 || store_exists(s->store, name))
        return OK;
    for (size_t i = 0; i < s->nshares; i++)
        if (!s->shares[i].gone && slice_is(name, s->shares[i].name))
            return open_share(s, &s->shares[i], p, err);
    return OK;
}

static bool refused(struct command *c, unsigned rights, unsigned needed)
{
    if ((rights & needed) == needed)
        return false;
    if (rights & ACL_LOOKUP) /* RFC 4314 §6: without it, it does not exist */
        command_no(c, "NOPERM", "Not permitted");
    else
        command_no(c, "NONEXISTENT", "No such mailbox");
    return true;
}

bool command_place(struct command *c, struct slice name, unsigned needed, struct place *p)
{
    struct error err = {0, ""};
    int rc = place_find(c->s, name, p, &err);
    if (rc)
        command_error(c, rc, &err);
    return !rc && !refused(c, p->rights, needed);
}

unsigned session_rights(struct session *s)
{
    unsigned rights;
    struct error err;
    if (!s->selected)
        return ACL_ALL;
    int rc = store_acl_rights(
        s->selected->store, SLICE_LIT("INBOX"), slice_of(s->env->user), &rights, &err);
    return rc ? 0 : rights;
}

bool command_may(struct command *c, unsigned needed)
{
    return !c->s->selected || !refused(c, session_rights(c->s), needed);
}

uint32_t rights_flags(unsigned rights, uint32_t flags)
{
    uint32_t may = (rights & ACL_SEEN ? STORE_SEEN : 0) |
                   (rights & ACL_DELETE_MSG ? STORE_DELETED : 0) |
                   (rights & ACL_WRITE ? ~(uint32_t)(STORE_SEEN | STORE_DELETED) : 0);
    return flags & may;
}

int place_mark_seen(
    struct session *s, const struct place *p, const struct uidset *uids, struct error *err)
{
    struct store_mailbox *mb;
    int rc = store_select(p->store, p->folder, true, &mb, err);
    if (rc)
        return rc;
    rc = store_private_seen(mb, s->store, err);
    if (!rc)
        rc = store_private_mark(mb, uids, err);
    store_unselect(mb);
    return rc;
}

static bool is_within(struct slice name, const char *space)
{
    struct slice top = slice_from(space, strlen(space) - 1);
    return slice_eq(name, top) || slice_starts(name, space);
}

bool place_is_foreign(struct session *s, struct slice name)
{
    return !store_exists(s->store, name) &&
           (is_within(name, PLACE_OTHERS) || is_within(name, PLACE_PUBLIC));
}

bool place_above(struct session *s, struct slice name, struct place *p, struct slice *theirs)
{
    struct error ignored;
    struct slice above = name;
    ptrdiff_t cut;
    while ((cut = slice_rchr(above, STORE_SEPARATOR)) > 0) {
        above = slice_first(above, (size_t)cut);
        for (size_t i = 0; i < s->nshares; i++) {
            struct share *sh = &s->shares[i];
            if (sh->gone || !slice_is(above, sh->name))
                continue;
            struct buf root;
            buf_init(&root, 8192);
            share_root(sh, &root);
            *theirs = slice_from_index(name, buf_len(&root) + 1);
            buf_clear(&root);
            return open_share(s, sh, p, &ignored) == OK;
        }
    }
    return false;
}

void places_forget(struct session *s, const struct share *gone, bool with_those_below)
{
    struct slice folder = slice_of(gone->folder);
    for (size_t i = 0; i < s->nshares; i++) {
        struct share *sh = &s->shares[i];
        struct slice name = slice_of(sh->folder);
        bool below = with_those_below && name.n > folder.n && name.p[folder.n] == STORE_SEPARATOR &&
                     slice_eq(slice_first(name, folder.n), folder);
        if (strcmp(sh->from->owner, gone->from->owner) != 0 || !(below || slice_eq(name, folder)))
            continue;
        if (s->selected == sh)
            session_unselect(s);
        sh->gone = true;
    }
}

void share_root(const struct share *sh, struct buf *out)
{
    put_space(sh->from, out);
    buf_truncate(out, buf_len(out) - 1);
}

bool place_of_root(struct session *s, struct slice root, struct place *p)
{
    struct error ignored;
    struct buf name;
    bool found = false;
    buf_init(&name, 8192);
    for (size_t i = 0; i < s->nshares && !found; i++) {
        buf_reset(&name);
        share_root(&s->shares[i], &name);
        found = !s->shares[i].gone && slice_eq(root, buf_slice(&name)) &&
                open_share(s, &s->shares[i], p, &ignored) == OK && (p->rights & ACL_INSERT);
    }
    buf_clear(&name);
    return found;
}

bool command_fits(struct command *c, const struct place *p, uint64_t bytes, uint64_t messages)
{
    struct error err = {0, ""};
    int rc = p->share ? share_room(c->s, p->share, bytes, messages, &err)
                      : store_quota_check(p->store, p->folder, bytes, messages, QUOTA_APPEND, &err);
    if (rc == ERR_TEMP)
        command_no(c, "UNAVAILABLE", "Whether there is room cannot be told now");
    else if (rc)
        command_error(c, rc, &err);
    return rc == OK;
}
