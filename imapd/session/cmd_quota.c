/* GETQUOTA GETQUOTAROOT SETQUOTA (RFC 9208). Each user has one root, named "", for all folders that
 * count; limits are the administrator's. */
#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libstore/quota.h"
#include "libutil/error.h"

/* "* QUOTA": nothing in the list when there are no limits. */
static int put_quota(struct session *s, struct error *err)
{
    struct buf *out = &s->io.out;
    struct quota q;
    struct quota_usage u = {0};
    int rc = store_quota_get(s->store, &q, err);
    if (!rc && (q.bytes || q.messages))
        rc = store_quota_usage(s->store, &u, err);
    if (rc)
        return rc;
    buf_puts(out, "* QUOTA \"\" (");
    if (q.bytes)
        buf_printf(out, "STORAGE %llu %llu", (unsigned long long)(u.bytes + 1023) / 1024,
            (unsigned long long)q.bytes / 1024);
    if (q.messages)
        buf_printf(out, "%sMESSAGE %llu %llu", q.bytes ? " " : "", (unsigned long long)u.messages,
            (unsigned long long)q.messages);
    buf_puts(out, ")\r\n");
    return OK;
}

void cmd_getquota(struct command *c)
{
    struct slice root;
    struct error err = {0, ""};
    if (!take_space(&c->args) || !take_astring(&c->args, &root) || !take_end(&c->args)) {
        command_bad(c);
        return;
    }
    if (root.n) {
        command_no(c, "NONEXISTENT", "No such quota root");
        return;
    }
    int rc = put_quota(c->s, &err);
    if (rc)
        command_error(c, rc, &err);
    else
        command_ok(c, "GETQUOTA completed");
}

void cmd_getquotaroot(struct command *c)
{
    struct slice name;
    struct place p;
    struct buf *out = &c->s->io.out;
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
    buf_puts(out, "* QUOTAROOT ");
    wire_put_mailbox(out, name, c->s->utf8);
    buf_puts(out, p.share ? "\r\n" : " \"\"\r\n");
    int rc = p.share ? OK : put_quota(c->s, &err);
    if (rc)
        command_error(c, rc, &err);
    else
        command_ok(c, "GETQUOTAROOT completed");
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
