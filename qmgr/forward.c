/*
 * A delivery named others that are to take the recipient's place: what its ~/.forward says. lookupd
 * says where each of them leads, then they become recipients of this message (qmgr/expand.c), in
 * one step with the old one being done. So whatever crashes, each gets the message once.
 *
 * An address that nobody has does not spoil the others: it becomes a recipient that the agent local
 * returns to the sender, as behind an alias. What is temporary defers the recipient as a whole; its
 * mailbox knows the message by the delivery id when it comes again.
 */
#include <stdlib.h>

#include "libmail/nexthop.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/route.h"
#include "qmgr/qmgr.h"

struct forwarding {
    struct qmgr *q;
    struct message *m; /* the recipient is busy, so it stays */
    uint32_t index;
    struct buf targets; /* not yet routed; buf_lv each */
    struct buf packed;  /* recipients */
    struct buf via;
    struct slice asked; /* in targets */
    bool only;          /* they are all there is: nothing was stored */
};

static struct rcpt *old_of(const struct forwarding *f)
{
    return &f->m->content->rcpts[f->index];
}

static void forwarding_free(struct forwarding *f)
{
    buf_clear(&f->targets);
    buf_clear(&f->packed);
    buf_clear(&f->via);
    free(f);
}

void forward_drop(struct rcpt *r)
{
    if (r->forwarding)
        forwarding_free(r->forwarding);
    r->forwarding = NULL;
}

void forward_keep(struct qmgr *q, struct message *m, uint32_t index, const struct outcome *o)
{
    struct rcpt *r = &m->content->rcpts[index];
    struct forwarding *f = NEW(struct forwarding);
    forward_drop(r);
    *f = (struct forwarding){.q = q, .m = m, .index = index, .only = o->only};
    buf_init(&f->targets, DELIVER_TARGETS_MAX);
    buf_init(&f->packed, 256 * 1024);
    buf_init(&f->via, 2001);
    buf_put(&f->targets, o->targets);
    r->forwarding = f;
}

/* The recipient is not under way any more; the message goes on. */
static void give_up(struct forwarding *f, bool for_good, const char *why)
{
    struct qmgr *q = f->q;
    struct message *m = f->m;
    struct rcpt *r = old_of(f);
    rcpt_note(r, for_good ? FAILED : DEFERRED, for_good ? SLICE_LIT("5.4.6") : SLICE_LIT("4.3.0"),
        slice_of(why), SLICE_LIT(""));
    if (for_good) {
        queue_rcpt_failed(q, m, r);
    } else {
        attempt_deferred(q, m, r, 0);
    }
    r->busy = false;
    m->busy--;
    forwarding_free(f);
    queue_settle(q, m);
}

static bool is_there(const struct forwarding *f, const struct recipient *to)
{
    struct recipient r;
    for (struct reader in = reader_of(buf_slice(&f->packed)); in.rest.n;)
        if (record_get(&in, &recipient_record, &r))
            return false;
        else if (slice_ieq(r.address, to->address) && slice_eq(r.transport, to->transport) &&
                 slice_eq(r.nexthop, to->nexthop))
            return true;
    return false;
}

/* The DSN wishes go along, but for success, which is reported here (RFC 3461 §5.2.7.2 (c)). */
static void add(struct forwarding *f, struct recipient *to)
{
    const struct recipient *old = &old_of(f)->to;
    if (is_there(f, to))
        return;
    to->original = old->original;
    to->via = buf_slice(&f->via);
    bool list = to->owner.n > 0; /* one that it leads to: a message of the list's own */
    if (!list)
        to->owner = old->owner;
    to->orcpt = list ? SLICE_LIT("") : old->orcpt;
    to->notify = list ? 0 : old->notify & ~(uint32_t)NOTIFY_SUCCESS;
    if (!list && old->notify && !to->notify)
        to->notify = NOTIFY_NEVER;
    (void)!record_put(&f->packed, &recipient_record, to); /* its `failed` is looked at */
}

static void add_lost(struct forwarding *f)
{
    char nowhere[ENVELOPE_ADDRESS_MAX + 2];
    /* No account has a name with an @ in it. */
    int n = snprintf(nowhere, sizeof(nowhere), "@%.*s", SLICE_FMT(f->asked));
    struct recipient to = {.address = f->asked,
        .transport = SLICE_LIT("local"),
        .nexthop = slice_first(slice_from(nowhere, (size_t)n), sizeof(nowhere) - 1)};
    add(f, &to);
}

/* A command is run as the account whose file names it. */
static void add_command(struct forwarding *f)
{
    const struct recipient *old = &old_of(f)->to;
    struct slice account, folder;
    struct buf nexthop;
    nexthop_split(old->nexthop, &account, &folder);
    buf_init(&nexthop, 1024);
    nexthop_join(&nexthop, account, f->asked);
    f->packed.failed |= nexthop.failed;
    struct recipient to = {
        .address = old->address, .transport = SLICE_LIT("pipe"), .nexthop = buf_slice(&nexthop)};
    add(f, &to);
    buf_clear(&nexthop);
}

/* One that stands for exactly one other passes all its wishes on (RFC 3461 §5.2.7.2 (b)): whoever
 * stands at the end reports success. True: that is so here. */
static bool pass_on(struct forwarding *f)
{
    const struct recipient *old = &old_of(f)->to;
    struct recipient to;
    struct reader in = reader_of(buf_slice(&f->packed));
    if (!f->only || f->packed.failed || record_get(&in, &recipient_record, &to) || in.rest.n ||
        !slice_eq(to.owner, old->owner))
        return false;
    struct buf one;
    buf_init(&one, 8192);
    to.notify = old->notify;
    f->packed.failed |= record_put(&one, &recipient_record, &to) != OK;
    buf_reset(&f->packed);
    buf_put(&f->packed, buf_slice(&one));
    buf_clear(&one);
    return true;
}

/* An entry by which success is reported as expanded. */
static void add_expanded(struct forwarding *f)
{
    const struct rcpt *r = old_of(f);
    struct recipient to = r->to;
    if (!(to.notify & NOTIFY_SUCCESS) || f->m->content->envelope.sender.n == 0)
        return;
    to.notify = NOTIFY_SUCCESS;
    to.transport = SLICE_LIT(TRANSPORT_EXPANDED);
    to.nexthop = SLICE_LIT("");
    (void)!record_put(&f->packed, &recipient_record, &to);
}

static void route_next(struct forwarding *f);

static void on_routed(struct ipc_in *in, void *arg)
{
    struct forwarding *f = arg;
    const struct route_verdict *v = in ? in->msg : NULL;
    struct recipient to;
    if (!v || v->code < 200 || (v->code > 299 && v->code < 500)) {
        give_up(f, false, "an address of the .forward file cannot be looked up now");
        return;
    }
    if (v->code >= 500)
        add_lost(f);
    for (struct reader r = reader_of(v->recipients); v->code < 300 && r.rest.n;) {
        if (record_get(&r, &recipient_record, &to)) {
            give_up(f, false, "lookupd's answer cannot be used");
            return;
        }
        add(f, &to);
    }
    route_next(f);
}

static void conclude(struct forwarding *f)
{
    struct rcpt *r = old_of(f);
    if (!pass_on(f))
        add_expanded(f);
    if (f->packed.failed) {
        give_up(f, true, "the .forward file leads to too many recipients");
        return;
    }
    attempt_log(f->q, f->m, r, "forwarded");
    queue_expand(f->q, f->m, f->index, buf_slice(&f->packed));
    forwarding_free(f);
}

/* Cuts the next target off into `asked`; false at the end. */
static bool next_target(struct forwarding *f)
{
    struct reader r = reader_of(buf_slice(&f->targets));
    f->asked = get_lv(&r, 1024);
    if (r.bad)
        f->packed.failed |= buf_len(&f->targets) > 0; /* malformed */
    else
        buf_consume(&f->targets, 4 + f->asked.n);
    return !r.bad && !f->packed.failed;
}

static void route_next(struct forwarding *f)
{
    do {
        if (!next_target(f)) {
            conclude(f);
            return;
        }
        if (slice_starts(f->asked, "|"))
            add_command(f);
    } while (slice_starts(f->asked, "|"));
    struct route_check check = {.address = slice_first(f->asked, ENVELOPE_ADDRESS_MAX),
        .sender = f->m->content->envelope.sender,
        .login = SLICE_LIT(""),
        .client = SLICE_LIT(""),
        .may_relay = true};
    daemon_call(f->q->daemon, CONV_ROUTE, ROLE_LOOKUPD, route_check_type, f->m->qid, &check, -1,
        on_routed, f);
}

bool forward_begin(struct message *m, uint32_t index)
{
    struct rcpt *r = &m->content->rcpts[index];
    struct forwarding *f = r->forwarding;
    if (!f)
        return false;
    r->forwarding = NULL;
    if (via_extend(&f->via, &r->to) != OK)
        give_up(f, true, "the mail is forwarded too often");
    else
        route_next(f);
    return true;
}
