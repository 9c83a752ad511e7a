/* CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE (RFC 3501 §6.3.3 - 6.3.7). */
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libstore/metadata.h"
#include "libutil/error.h"

static bool take_name(struct command *c, struct slice *name)
{
    if (take_space(&c->args) && take_mailbox(&c->args, name) && take_end(&c->args))
        return true;
    command_bad(c);
    return false;
}

static void answer(struct command *c, int rc, const struct error *err)
{
    if (rc)
        command_error(c, rc, err);
    else
        command_ok(c, "%.*s completed", SLICE_FMT(c->name));
}

/* " (USE (\Sent))" (RFC 6154 §3), and what else RFC 4466 allows to stand there. */
static bool take_uses(struct args *a, struct slice *words)
{
    struct slice word;
    *words = (struct slice){NULL, 0};
    if (args_at_end(a))
        return true;
    if (!take_space(a) || !take_char(a, '(') || !take_atom(a, &word) || !slice_iis(word, "USE") ||
        !take_space(a) || !take_char(a, '('))
        return args_fail(a, "Unknown CREATE parameter");
    ptrdiff_t end = slice_chr(a->rest, ')');
    if (end < 0)
        return args_fail(a, "Malformed CREATE parameter");
    *words = slice_first(a->rest, (size_t)end);
    a->rest = slice_from_index(a->rest, (size_t)end);
    bool closed = take_char(a, ')');
    return closed && take_char(a, ')');
}

/* False, with NO set, for a use that no folder can have: \All and \Flagged are searches. */
static bool parse_uses(struct command *c, struct slice words, unsigned *uses)
{
    const unsigned searches =
        store_use_bit(SLICE_LIT("\\All")) | store_use_bit(SLICE_LIT("\\Flagged"));
    *uses = 0;
    while (words.n) {
        struct slice word = slice_cut(&words, ' ');
        unsigned bit = slice_starts(word, "\\") ? store_use_bit(word) : 0;
        if (!bit || (bit & searches)) {
            command_no(c, "USEATTR", "No folder can have that use");
            return false;
        }
        *uses |= bit;
    }
    return true;
}

/* A new folder is for those who may use the one above it (RFC 4314 §4). */
static int inherit_acl(struct session *s, struct slice name, struct error *err)
{
    struct acl acl;
    ptrdiff_t cut = slice_rchr(name, STORE_SEPARATOR);
    struct error none;
    if (cut <= 0 || store_acl_get(s->store, slice_first(name, (size_t)cut), &acl, &none))
        return OK;
    int rc = OK;
    for (size_t i = 0; !rc && i < acl.n; i++)
        rc = store_acl_change(
            s->store, name, slice_of(acl.entries[i].who), ACL_SET, acl.entries[i].rights, err);
    if (acl.n)
        acl_changed(s);
    acl_clear(&acl);
    return rc;
}

/* Uses, rights and id of a folder that was just made. ERR_NOT_FOUND: and deleted. */
static int complete(struct session *s, struct slice name, const unsigned *uses,
    struct store_status *st, struct error *err)
{
    int rc = uses ? store_use_set(s->store, name, *uses, err) : OK;
    if (!rc)
        rc = inherit_acl(s, name, err);
    return rc ? rc : store_status(s->store, name, st, err);
}

void cmd_create(struct command *c)
{
    struct slice name, words;
    unsigned uses;
    struct store_status st;
    struct error err = {0, ""};
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, &name) || !take_uses(a, &words) || !take_end(a)) {
        command_bad(c);
        return;
    }
    /* A separator at the end says that folders will come below it (§6.3.3). */
    if (name.n > 1 && name.p[name.n - 1] == STORE_SEPARATOR)
        name.n--;
    if (!parse_uses(c, words, &uses) || command_is_foreign(c, name))
        return;
    int rc = store_create(c->s->store, name, &err), later = OK;
    if (!rc)
        later = complete(c->s, name, words.p ? &uses : NULL, &st, &err);
    answer(c, later == ERR_NOT_FOUND ? OK : rc ? rc : later, &err);
    if (rc || later)
        return;
    char id[STORE_OBJECTID];
    store_mailbox_id(st.mailbox, id);
    c->code = arena_printf(&c->s->arena, "MAILBOXID (%s)", id);
}

/* After folders went or got other names. */
static void shared_moved(struct session *s)
{
    struct error err = {0, ""};
    if (s->env->wake < 0)
        return;
    if (store_acl_summary(s->store, NULL, &err))
        log_event(&s->env->log, log_trouble, .what = SLICE_LIT("summary of shared folders"),
            .reason = slice_of(err.text));
    acl_changed(s);
}

void cmd_delete(struct command *c)
{
    struct slice name;
    struct place p;
    struct error err = {0, ""};
    if (!take_name(c, &name) || !command_place(c, name, ACL_DELETE_BOX, &p))
        return;
    bool selected = c->s->mb && slice_eq(name, c->s->folder);
    int rc = store_delete(p.store, p.folder, &err);
    if (rc == OK && selected)
        session_unselect(c->s);
    if (rc == OK)
        shared_moved(c->s);
    answer(c, rc, &err);
}

/* The selected folder goes on under its new name, if it was this one or below it. INBOX stays. */
static void follow_rename(struct session *s, struct slice from, struct slice to)
{
    if (!s->mb || s->selected || !slice_eq(slice_first(s->folder, from.n), from) ||
        (s->folder.n > from.n && s->folder.p[from.n] != STORE_SEPARATOR) ||
        slice_iis(from, "INBOX"))
        return;
    char *old = (char *)(uintptr_t)s->folder.p, *new;
    size_t n = to.n + s->folder.n - from.n;
    new = xcalloc(1, n + 1);
    memcpy(new, to.p, to.n);
    memcpy(new + to.n, old + from.n, s->folder.n - from.n);
    s->folder = slice_from(new, n);
    free(old);
}

void cmd_rename(struct command *c)
{
    struct slice from, to;
    struct place p;
    struct error err = {0, ""};
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, &from) || !take_space(a) || !take_mailbox(a, &to) ||
        !take_end(a)) {
        command_bad(c);
        return;
    }
    if (!command_place(c, from, ACL_DELETE_BOX, &p) || command_is_foreign(c, to))
        return;
    int rc = store_rename(p.store, p.folder, to, &err);
    if (rc == OK) {
        follow_rename(c->s, p.folder, to);
        shared_moved(c->s);
    }
    answer(c, rc, &err);
}

static void change_subscription(struct command *c, bool subscribed)
{
    struct slice name;
    struct error err = {0, ""};
    if (take_name(c, &name))
        answer(c, store_subscribe(c->s->store, name, subscribed, &err), &err);
}

void cmd_subscribe(struct command *c)
{
    change_subscription(c, true);
}

void cmd_unsubscribe(struct command *c)
{
    change_subscription(c, false);
}
