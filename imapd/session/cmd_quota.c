/* GETQUOTA GETQUOTAROOT SETQUOTA (RFC 9208). Each user has one root, named "", for all folders that
 * count; limits are the administrator's. The root of somebody whose folders we may fill has the
 * name of his INBOX. */
#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

/* "* QUOTA": nothing in the list when there are no limits. */
static void put_quota(
    struct buf *out, struct slice root, const struct quota *q, const struct quota_usage *u)
{
    buf_puts(out, "* QUOTA ");
    imap_put_string(out, root);
    buf_puts(out, " (");
    if (q->bytes)
        buf_printf(out, "STORAGE %llu %llu", (unsigned long long)(u->bytes + 1023) / 1024,
            (unsigned long long)q->bytes / 1024);
    if (q->messages)
        buf_printf(out, "%sMESSAGE %llu %llu", q->bytes ? " " : "", (unsigned long long)u->messages,
            (unsigned long long)q->messages);
    buf_puts(out, ")\r\n");
}

/* `share` NULL: ours. */
static int put_totals(
    struct session *s, const struct share *share, struct slice root, struct error *err)
{
    struct quota q;
    struct quota_usage u = {0};
    int rc = share ? share_totals(s, share, &u, &q, err) : store_quota_get(s->store, &q, err);
    if (!rc && !share && (q.bytes || q.messages))
        rc = store_quota_usage(s->store, &u, err);
    if (!rc)
        put_quota(&s->io.out, root, &q, &u);
    return rc;
}

static void answer(struct command *c, int rc, const struct error *err)
{
    if (rc == ERR_TEMP)
        command_no(c, "UNAVAILABLE", "Nobody can tell now");
    else if (rc)
        command_error(c, rc, err);
    else
        command_ok(c, "%.*s completed", SLICE_FMT(c->name));
}

void cmd_getquota(struct command *c)
{
    struct slice root;
    struct place p = {.share = NULL};
    struct error err = {0, ""};
    if (!take_space(&c->args) || !take_astring(&c->args, &root) || !take_end(&c->args))
        command_bad(c);
    else if (root.n && !place_of_root(c->s, root, &p))
        command_no(c, "NONEXISTENT", "No such quota root");
    else
        answer(c, put_totals(c->s, p.share, root, &err), &err);
}

void cmd_getquotaroot(struct command *c)
{
    struct slice name;
    struct place p;
    struct buf root, *out = &c->s->io.out;
    struct error err = {0, ""};
    if (!take_space(&c->args) || !take_mailbox(&c->args, &name) || !take_end(&c->args)) {
        command_bad(c);
        return;
    }
    if (!command_place(c, name, ACL_READ, &p))
        return;
    if (!p.share && !store_exists(p.store, p.folder)) {
        command_no(c, "NONEXISTENT", "No such mailbox");
        return;
    }
    /* Who cannot put anything there is told of no root: how much the owner has is not his concern.
     */
    bool told = p.rights & ACL_INSERT;
    buf_init(&root, 8192);
    if (p.share)
        share_root(p.share, &root);
    buf_puts(out, "* QUOTAROOT ");
    wire_put_mailbox(out, name, c->s->utf8);
    if (told) {
        buf_putc(out, ' ');
        imap_put_string(out, buf_slice(&root));
    }
    buf_puts(out, "\r\n");
    answer(c, told ? put_totals(c->s, p.share, buf_slice(&root), &err) : OK, &err);
    buf_clear(&root);
}

void cmd_setquota(struct command *c)
{
    struct slice root, word;
    struct args *a = &c->args;
    uint64_t n;
    bool ok = take_space(a) && take_astring(a, &root) && take_space(a) && take_char(a, '(');
    for (unsigned i = 0; ok && !args_next_is(a, ')'); i++)
        ok = (i == 0 || take_space(a)) && take_atom(a, &word) && take_space(a) &&
             take_number(a, INT64_MAX, &n);
    if (!ok || !take_char(a, ')') || !take_end(a))
        command_bad(c);
    else
        command_no(c, "NOPERM", "Limits are set by the administrator");
}
