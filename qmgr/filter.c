#include "qmgr/filter.h"

int filter_read(struct slice packed, struct queue_filter *f)
{
    struct reader r = reader_of(packed);
    *f = (struct queue_filter){.sender = SLICE_LIT(""),
        .domain = SLICE_LIT(""),
        .state = SLICE_LIT(""),
        .reason = SLICE_LIT("")};
    if (packed.n == 0)
        return OK;
    int rc = record_get(&r, &queue_filter_record, f);
    return rc == OK && !reader_done(&r) ? ERR_SYNTAX : rc;
}

bool filter_is_empty(const struct queue_filter *f)
{
    return f->older == 0 && f->younger == 0 && f->sender.n == 0 && f->domain.n == 0 &&
           f->state.n == 0 && f->reason.n == 0;
}

bool filter_in_domain(struct slice address, struct slice domain)
{
    ptrdiff_t at = slice_rchr(address, '@');
    struct slice own = slice_from_index(address, at < 0 ? address.n : (size_t)at + 1);
    if (slice_starts(domain, ".") && own.n > domain.n) /* a subdomain */
        own = slice_from_index(own, own.n - domain.n);
    else if (slice_starts(domain, "."))
        domain = slice_from_index(domain, 1);
    return at >= 0 && slice_ieq(own, domain);
}

static bool sender_fits(struct slice wanted, struct slice sender)
{
    if (slice_is(wanted, "<>"))
        return sender.n == 0;
    if (slice_starts(wanted, "@"))
        return filter_in_domain(sender, slice_from_index(wanted, 1));
    return slice_ieq(wanted, sender);
}

static bool contains(struct slice text, struct slice part)
{
    for (size_t i = 0; i + part.n <= text.n; i++)
        if (slice_ieq(slice_first(slice_from_index(text, i), part.n), part))
            return true;
    return false;
}

/* Some recipient that is not finished is in the domain, and some has the reason. */
static bool recipients_fit(const struct queue_filter *f, const struct content *c)
{
    bool domain = f->domain.n == 0, reason = f->reason.n == 0;
    for (size_t i = 0; i < c->count && !(domain && reason); i++) {
        const struct rcpt *r = &c->rcpts[i];
        if (r->st.state == RCPT_DONE)
            continue;
        domain = domain || filter_in_domain(r->to.address, f->domain);
        reason = reason || contains(r->st.text, f->reason);
    }
    return domain && reason;
}

bool filter_fits(
    const struct queue_filter *f, const struct content *seen, struct slice state, int64_t now)
{
    if (f->state.n > 0 && !slice_eq(f->state, state))
        return false;
    if (!seen)
        return f->older == 0 && f->younger == 0 && f->sender.n == 0 && f->domain.n == 0 &&
               f->reason.n == 0;
    int64_t age = now - seen->envelope.received;
    if ((f->older > 0 && age < f->older) || (f->younger > 0 && age >= f->younger))
        return false;
    if (f->sender.n > 0 && !sender_fits(f->sender, seen->envelope.sender))
        return false;
    return recipients_fit(f, seen);
}
