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

/* Uses, rights and number of a folder that was just made. ERR_NOT_FOUND: and deleted. */
static int complete(struct session *s, struct slice name, struct slice above, const unsigned *uses,
    uint64_t *mailbox, struct error *err)
{
    struct store_status st;
    bool shared = false;
    int rc = uses ? store_use_set(s->store, name, *uses, err) : OK;
    if (!rc && !slice_iis(above, "INBOX")) /* who reads that is not meant to read all the others */
        rc = store_acl_inherit(s->store, above, name, &shared, err);
    if (shared)
        acl_changed(s);
    if (!rc)
        rc = store_status(s->store, name, &st, err);
    if (!rc)
        *mailbox = st.mailbox;
    return rc;
}

static int create_own(struct session *s, struct slice name, const unsigned *uses, uint64_t *mailbox,
    struct error *err)
{
    struct slice above = store_acl_above(s->store, name);
    int rc = store_create(s->store, name, err);
    if (rc)
        return rc;
    rc = complete(s, name, above, uses, mailbox, err);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

/* The folder of others in which this one would be, where we may make some. Sets NO. */
static bool take_above(struct command *c, struct slice name, struct place *p, struct slice *theirs)
{
    struct place there;
    struct error ignored;
    if (place_find(c->s, name, &there, &ignored) == OK && there.share)
        command_no(c, "ALREADYEXISTS", "Mailbox exists already");
    else if (!place_above(c->s, name, p, theirs) || !(p->rights & ACL_CREATE))
        command_no(c, "NOPERM", "Nobody has given you the right to make folders there");
    else
        return true;
    return false;
}

/* A session reaches only what was shared when it began. */
static const char later[] = "completed; it can be opened from the next login on";

static void create_theirs(struct command *c, struct slice name, bool uses, uint64_t *mailbox)
{
    struct place p;
    struct error err = {0, ""};
    struct share_what what = {.verb = SHARE_CREATE};
    if (uses) {
        command_no(c, "USEATTR", "What a folder is used for, its owner says");
        return;
    }
    if (!take_above(c, name, &p, &what.folder))
        return;
    int rc = share_change(c->s, p.share, &what, mailbox, &err);
    if (rc)
        command_error(c, rc, &err);
    else
        command_ok(c, "CREATE %s", later);
}

static void tell_number(struct command *c, uint64_t mailbox)
{
    char id[STORE_OBJECTID];
    store_mailbox_id(mailbox, id);
    c->code = arena_printf(&c->s->arena, "MAILBOXID (%s)", id);
}

void cmd_create(struct command *c)
{
    struct slice name, words;
    unsigned uses;
    uint64_t mailbox = 0;
    struct error err = {0, ""};
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, &name) || !take_uses(a, &words) || !take_end(a)) {
        command_bad(c);
        return;
    }
    /* A separator at the end says that folders will come below it (§6.3.3). */
    if (name.n > 1 && name.p[name.n - 1] == STORE_SEPARATOR)
        name.n--;
    if (!parse_uses(c, words, &uses))
        return;
    if (place_is_foreign(c->s, name))
        create_theirs(c, name, words.p, &mailbox);
    else
        answer(c, create_own(c->s, name, words.p ? &uses : NULL, &mailbox, &err), &err);
    if (mailbox)
        tell_number(c, mailbox);
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

static void delete_theirs(struct command *c, const struct share *share)
{
    struct error err = {0, ""};
    const struct share_what what = {.verb = SHARE_DELETE, .folder = slice_of(share->folder)};
    int rc = share_change(c->s, share, &what, NULL, &err);
    if (rc == OK)
        places_forget(c->s, share, false);
    answer(c, rc, &err);
}

void cmd_delete(struct command *c)
{
    struct slice name;
    struct place p;
    struct error err = {0, ""};
    if (!take_name(c, &name) || !command_place(c, name, ACL_DELETE_BOX, &p))
        return;
    if (p.share) {
        delete_theirs(c, p.share);
        return;
    }
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

static void rename_theirs(struct command *c, const struct share *share, struct slice to)
{
    struct place above;
    struct error err = {0, ""};
    struct share_what what = {.verb = SHARE_RENAME, .folder = slice_of(share->folder)};
    if (!take_above(c, to, &above, &what.other))
        return;
    if (strcmp(above.share->from->owner, share->from->owner) != 0) {
        command_no(c, "CANNOT", "Folders stay with their owner");
        return;
    }
    int rc = share_change(c->s, share, &what, NULL, &err);
    if (rc) {
        command_error(c, rc, &err);
    } else {
        places_forget(c->s, share, true);
        command_ok(c, "RENAME %s", later);
    }
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
    if (!command_place(c, from, ACL_DELETE_BOX, &p))
        return;
    bool foreign = place_is_foreign(c->s, to);
    if (p.share && foreign) {
        rename_theirs(c, p.share, to);
        return;
    }
    if (p.share || foreign) {
        command_no(c, "CANNOT", "Folders stay with their owner");
        return;
    }
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
