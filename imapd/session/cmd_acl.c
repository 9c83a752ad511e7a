/* GETACL SETACL DELETEACL LISTRIGHTS MYRIGHTS (RFC 4314). */
#include <unistd.h>

#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

/* With the virtual rights of RFC 2086: c when there is k or x, d when there is t or e (RFC 4314
 * §2.1.1). */
static void put_rights(struct buf *out, unsigned rights)
{
    acl_put_rights(rights, out);
    if (rights & (ACL_CREATE | ACL_DELETE_BOX))
        buf_putc(out, 'c');
    if (rights & (ACL_DELETE_MSG | ACL_EXPUNGE))
        buf_putc(out, 'd');
}

/* Mailbox and, when asked for, an identifier in lower case. */
static bool take_args(struct command *c, struct slice *name, struct slice *who, bool last)
{
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, name))
        return false;
    if (who) {
        if (!take_space(a) || !take_astring(a, who))
            return false;
        struct slice copy = arena_dup(a->arena, *who);
        if (!copy.p)
            return args_fail(a, "Command too large");
        ascii_lower((char *)(uintptr_t)copy.p, copy.n);
        *who = copy;
    }
    return !last || take_end(a);
}

/* The administered folder, which exists. */
static bool administered(struct command *c, struct slice name, struct place *p)
{
    if (!command_place(c, name, ACL_ADMIN, p))
        return false;
    if (!store_exists(p->store, p->folder)) {
        command_no(c, "NONEXISTENT", "No such mailbox");
        return false;
    }
    return true;
}

/* Where other programs use the mailbox nobody can: an account of the host would let others write
 * its folders with any program, whatever rights they were given (docs/store.md). */
static bool can_share(struct command *c)
{
    if (c->s->env->wake >= 0)
        return true;
    command_no(c, "CANNOT", "%s",
        c->s->env->coexist ? "Folders that other programs use too cannot be shared"
                           : "Sharing is switched off on this server");
    return false;
}

static const char *owner_of(const struct session *s, const struct place *p)
{
    return p->share ? p->share->from->owner : s->env->user;
}

static bool is_owner(const struct session *s, const struct place *p, struct slice who)
{
    return slice_iis(who, owner_of(s, p)) || slice_is(who, "owner");
}

void acl_changed(struct session *s)
{
    /* A pipe that is full is being read: it tells of us soon enough. */
    if (s->env->wake >= 0 &&
        write(s->env->wake, &s->env->trace, sizeof(s->env->trace)) != sizeof(s->env->trace))
        log_event(&s->env->log, log_warning, .what = SLICE_LIT("spawner not told of sharing"),
            .reason = SLICE_LIT("pipe is full"));
}

void cmd_getacl(struct command *c)
{
    struct slice name;
    struct place p;
    struct acl acl;
    struct error err = {0, ""};
    struct buf *out = &c->s->io.out;
    if (!take_args(c, &name, NULL, true)) {
        command_bad(c);
        return;
    }
    if (!administered(c, name, &p))
        return;
    int rc = store_acl_get(p.store, p.folder, &acl, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    buf_puts(out, "* ACL ");
    wire_put_mailbox(out, name, c->s->utf8);
    buf_putc(out, ' ');
    imap_put_string(out, slice_of(owner_of(c->s, &p)));
    buf_putc(out, ' ');
    put_rights(out, ACL_ALL);
    for (size_t i = 0; i < acl.n; i++) {
        buf_putc(out, ' ');
        imap_put_string(out, slice_of(acl.entries[i].who));
        buf_putc(out, ' ');
        put_rights(out, acl.entries[i].rights);
    }
    buf_puts(out, "\r\n");
    acl_clear(&acl);
    command_ok(c, "GETACL completed");
}

static int change_theirs(struct session *s, const struct share *share, struct slice who,
    enum acl_how how, unsigned rights, struct error *err)
{
    const struct share_what what = {SHARE_LIST, slice_of(share->folder), who, how, rights};
    return share_change(s, share, &what, NULL, err);
}

static void change(
    struct command *c, struct slice name, struct slice who, enum acl_how how, unsigned rights)
{
    struct place p;
    struct error err = {0, ""};
    if (!administered(c, name, &p) || !(p.share || can_share(c)))
        return;
    if (is_owner(c->s, &p, who)) {
        command_no(c, "CANNOT", "The owner has all rights, always");
        return;
    }
    int rc = p.share ? change_theirs(c->s, p.share, who, how, rights, &err)
                     : store_acl_change(p.store, p.folder, who, how, rights, &err);
    if (rc == ERR_SYNTAX) {
        command_no(c, "CANNOT", "Not an identifier");
    } else if (rc) {
        command_error(c, rc, &err);
    } else {
        if (!p.share)
            acl_changed(c->s);
        command_ok(c, "%.*s completed", SLICE_FMT(c->name));
    }
}

void cmd_setacl(struct command *c)
{
    struct slice name, who, text;
    struct args *a = &c->args;
    enum acl_how how = ACL_SET;
    unsigned rights;
    if (!take_args(c, &name, &who, false) || !take_space(a) || !take_astring(a, &text) ||
        !take_end(a)) {
        command_bad(c);
        return;
    }
    if (slice_starts(text, "+") || slice_starts(text, "-")) {
        how = text.p[0] == '+' ? ACL_ADD : ACL_REMOVE;
        text = slice_from_index(text, 1);
    }
    if (acl_parse_rights(text, &rights)) {
        args_fail(a, "Unknown right");
        command_bad(c);
        return;
    }
    change(c, name, who, how, rights);
}

void cmd_deleteacl(struct command *c)
{
    struct slice name, who;
    if (!take_args(c, &name, &who, true))
        command_bad(c);
    else
        change(c, name, who, ACL_SET, 0);
}

void cmd_listrights(struct command *c)
{
    struct slice name, who;
    struct place p;
    struct buf *out = &c->s->io.out;
    if (!take_args(c, &name, &who, true)) {
        command_bad(c);
        return;
    }
    if (!administered(c, name, &p))
        return;
    buf_puts(out, "* LISTRIGHTS ");
    wire_put_mailbox(out, name, c->s->utf8);
    buf_putc(out, ' ');
    imap_put_string(out, who);
    buf_putc(out, ' ');
    if (is_owner(c->s, &p, who))
        put_rights(out, ACL_ALL);
    else
        buf_puts(out, c->s->env->wake < 0 && !p.share ? "\"\"" : "\"\" l r s w i p k x t e a c d");
    buf_puts(out, "\r\n");
    command_ok(c, "LISTRIGHTS completed");
}

void cmd_myrights(struct command *c)
{
    struct slice name;
    struct place p;
    struct buf *out = &c->s->io.out;
    struct error err = {0, ""};
    if (!take_args(c, &name, NULL, true)) {
        command_bad(c);
        return;
    }
    int rc = place_find(c->s, name, &p, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    /* RFC 4314 §4: any of these rights allows it. */
    const unsigned any =
        ACL_LOOKUP | ACL_READ | ACL_INSERT | ACL_CREATE | ACL_DELETE_BOX | ACL_ADMIN;
    if (!(p.rights & any) || !store_exists(p.store, p.folder)) {
        command_no(c, "NONEXISTENT", "No such mailbox");
        return;
    }
    buf_puts(out, "* MYRIGHTS ");
    wire_put_mailbox(out, name, c->s->utf8);
    buf_putc(out, ' ');
    put_rights(out, p.rights);
    buf_puts(out, "\r\n");
    command_ok(c, "MYRIGHTS completed");
}
