#include "libstore/deliver.h"

#include "libstore/acl.h"

static void put_field(
    struct buf *out, const char *name, const char *open, struct slice value, const char *close)
{
    buf_puts(out, name);
    buf_puts(out, ": ");
    buf_puts(out, open);
    /* An address holds no line end; make sure that none can ever begin a field here. */
    for (size_t i = 0; i < value.n; i++)
        buf_putc(out, value.p[i] == '\r' || value.p[i] == '\n' ? ' ' : value.p[i]);
    buf_puts(out, close);
    buf_puts(out, "\r\n");
}

/* The last one on top, as if each had been added on the way. */
static void put_delivered_to(struct buf *out, struct slice via, struct slice address)
{
    put_field(out, "Delivered-To", "", address, "");
    while (via.n) {
        ptrdiff_t at = slice_rchr(via, '\n');
        put_field(out, "Delivered-To", "", slice_from_index(via, (size_t)(at + 1)), "");
        via = slice_first(via, at < 0 ? 0 : (size_t)at);
    }
}

/* user+detail@domain without the detail, as the owner logs in. */
static bool is_owner(struct slice login, struct slice address)
{
    ptrdiff_t at = slice_rchr(address, '@'), plus = slice_chr(address, '+');
    if (at < 0 || slice_ieq(login, address))
        return slice_ieq(login, address);
    struct slice user = slice_first(address, (size_t)(plus > 0 && plus < at ? plus : at));
    return login.n > user.n && slice_ieq(slice_first(login, user.n), user) &&
           slice_ieq(slice_from_index(login, user.n), slice_from_index(address, (size_t)at));
}

/* RFC 4314 §4, right p. A sender's address proves nothing: it is asked for by who logged in to
 * send, and for all others only `anyone` can have it. A list that says nothing of anyone, nor of p,
 * is that of a personal folder, which takes mail as one that is not shared. */
static bool may_post(struct store *s, struct slice folder, const struct store_delivery *d)
{
    struct acl acl;
    struct error ignored;
    bool asked = false, post = false;
    if (store_acl_get(s, folder, &acl, &ignored))
        return false;
    for (size_t i = 0; i < acl.n; i++)
        asked |= (acl.entries[i].rights & ACL_POST) || strcmp(acl.entries[i].who, "anyone") == 0;
    post = !asked || (acl_rights_of(&acl, d->login) & ACL_POST) ||
           (d->login.n && is_owner(d->login, d->address));
    acl_clear(&acl);
    return post;
}

struct slice store_deliver_folder(
    struct store *s, struct slice detail, const struct store_delivery *d)
{
    bool usable = detail.n > 0 && store_name_check(detail) == OK && store_exists(s, detail) &&
                  may_post(s, detail, d);
    return usable ? detail : SLICE_LIT("INBOX");
}

int store_deliver(struct store *s, struct slice folder, const struct store_delivery *d,
    struct store_appended *out, struct error *err)
{
    struct store_append *a;
    struct buf trace;
    uint64_t size = d->body.n ? d->body.n : d->size;
    int rc = store_append_begin(s, folder, size + 512 + 2 * d->via.n, &a, err);
    if (rc)
        return rc;
    buf_init(&trace, 4096);
    put_field(&trace, "Return-Path", "<", d->sender, ">");
    if (d->original.n && !slice_ieq(d->original, d->address))
        put_field(&trace, "X-Original-To", "", d->original, "");
    put_delivered_to(&trace, d->via, d->address);
    rc = trace.failed ? error_set(err, ERR_LIMIT, "addresses are too long")
                      : store_append_write(a, buf_slice(&trace), err);
    buf_clear(&trace);
    if (!rc && d->body.n)
        rc = store_append_write(a, d->body, err);
    else if (!rc && d->fd >= 0)
        rc = store_append_fd(a, d->fd, d->size, err);
    if (rc) {
        store_append_abort(a);
        return rc;
    }
    return store_append_commit(a, &(struct store_append_options){.delivery = d->id}, out, err);
}
