#include "smtpd/transaction.h"

#include "libutil/error.h"

enum { KEY_MAX = 4096 /* of a mailbox */ };

struct transaction *transaction_new(const struct log *session_log, size_t recipients_max)
{
    struct transaction *t = NEW(struct transaction);
    t->state = TXN_MAIL;
    t->fd = -1;
    t->qid = id_new();
    log_set_id(&t->log, session_log, "qid", t->qid);
    arena_init(&t->arena, TXN_ARENA_MAX);
    buf_init(&t->recipients, recipients_max);
    buf_init(&t->content, TXN_HEADER_MAX + 4 * TXN_LINE_MAX);
    map_init(&t->seen);
    return t;
}

void transaction_free(struct transaction *t)
{
    if (!t)
        return;
    fd_close(&t->fd);
    buf_clear(&t->recipients);
    buf_clear(&t->content);
    map_clear(&t->seen);
    arena_reset(&t->arena);
    free(t);
}

void transaction_fail(
    struct transaction *t, unsigned code, const char *dsn, const char *text, const char *rule)
{
    if (t->failure.code)
        return;
    t->failure = (struct smtp_refusal){code, dsn, text};
    t->failure_rule = rule;
    buf_clear(&t->content);
}

/* What a later RCPT asked for a recipient that is packed already. In t->seen. */
struct wish {
    struct slice original, orcpt;
    unsigned notify;
};

static int make_key(const struct recipient *r, struct buf *key)
{
    buf_reset(key);
    (void)buf_put(key, r->transport);
    (void)buf_putc(key, '\n');
    (void)buf_put(key, r->nexthop);
    (void)buf_putc(key, '\n');
    return buf_put(key, r->address);
}

/* True when this mailbox is new to the message; remembers it. */
static bool is_new(struct transaction *t, const struct recipient *r, struct buf *key)
{
    if (make_key(r, key))
        return true;
    void *before = map_set(&t->seen, buf_slice(key), t);
    if (before && before != t)
        map_set(&t->seen, buf_slice(key), before);
    return before == NULL;
}

/* RFC 3461 §4.1: that he was named before, as member of a list perhaps, takes nothing from what
 * is asked for him now. */
static void add_wish(struct transaction *t, unsigned notify, struct slice key)
{
    struct wish *w = (notify & NOTIFY_SUCCESS) && map_get(&t->seen, key) == t
                         ? ARENA_NEW(&t->arena, struct wish)
                         : NULL;
    if (!w)
        return;
    *w = (struct wish){t->rcpt_text, arena_dup(&t->arena, t->rcpt.orcpt), notify};
    map_set(&t->seen, key, w);
    t->wishes = true;
}

static void fulfil(struct recipient *r, const struct wish *w)
{
    if (r->owner.n || (r->notify & NOTIFY_SUCCESS))
        return;
    if (r->notify == 0)
        r->notify = NOTIFY_FAILURE | NOTIFY_DELAY;
    r->notify = (r->notify & ~(unsigned)NOTIFY_NEVER) | w->notify;
    r->original = w->original;
    r->orcpt = w->orcpt;
}

void transaction_settle(struct transaction *t)
{
    char space[KEY_MAX] __attribute__((uninitialized));
    struct buf key, out;
    struct reader reader = reader_of(buf_slice(&t->recipients));
    struct recipient r;
    int rc = OK;
    if (!t->wishes)
        return;
    buf_over(&key, space, sizeof(space));
    buf_init(&out, t->recipients.max);
    while (rc == OK && reader.rest.n) {
        rc = record_get(&reader, &recipient_record, &r);
        const void *seen = rc || make_key(&r, &key) ? t : map_get(&t->seen, buf_slice(&key));
        if (rc == OK && seen && seen != t)
            fulfil(&r, seen);
        if (rc == OK)
            rc = record_put(&out, &recipient_record, &r);
    }
    struct buf old = rc ? out : t->recipients;
    if (rc == OK)
        t->recipients = out;
    buf_clear(&old);
    t->wishes = false;
}

/* After a failed addition: what is not packed has not been seen. */
static void remember_packed(struct transaction *t, struct buf *key)
{
    struct reader reader = reader_of(buf_slice(&t->recipients));
    struct recipient r;
    map_clear(&t->seen);
    map_init(&t->seen);
    while (reader.rest.n && record_get(&reader, &recipient_record, &r) == OK)
        (void)is_new(t, &r, key);
}

static int add_one(struct transaction *t, struct recipient *r, unsigned notify, struct buf *key)
{
    if (!is_new(t, r, key)) {
        add_wish(t, r->owner.n ? 0 : notify, buf_slice(key));
        return OK;
    }
    r->original = t->rcpt_text;
    r->orcpt = r->owner.n ? SLICE_LIT("") : t->rcpt.orcpt;
    r->notify = r->owner.n ? 0 : notify;
    int rc = record_put(&t->recipients, &recipient_record, r);
    t->nrecipients += rc == OK;
    return rc;
}

/* Whether an address stands for others than itself: several, or a list that has an owner. */
static bool stands_for_others(struct slice packed, bool *list)
{
    struct reader reader = reader_of(packed);
    struct recipient r = {.owner = {"", 0}};
    bool several = record_get(&reader, &recipient_record, &r) == OK && reader.rest.n > 0;
    *list = r.owner.n > 0;
    return several || *list;
}

/* RFC 3461 §5.2.7.2 (c), §5.2.7.3: success is reported by us, as expanded of an alias that stands
 * for several, as delivered of a list, and by nobody behind it. */
static int add_expanded(struct transaction *t, bool list, unsigned *notify, struct buf *key)
{
    struct recipient r = {.address = t->rcpt_text,
        .transport = SLICE_LIT(TRANSPORT_EXPANDED),
        .nexthop = list ? SLICE_LIT(EXPANDED_LIST) : SLICE_LIT("")};
    unsigned before = t->nrecipients;
    int rc = add_one(t, &r, *notify, key);
    t->nrecipients = before; /* nobody receives it there */
    *notify &= ~(unsigned)NOTIFY_SUCCESS;
    if (*notify == 0)
        *notify = NOTIFY_NEVER;
    return rc;
}

int transaction_add_recipients(struct transaction *t, struct slice packed)
{
    struct reader reader = reader_of(packed);
    struct recipient r;
    char space[KEY_MAX] __attribute__((uninitialized));
    struct buf key;
    size_t before = buf_len(&t->recipients);
    unsigned count = t->nrecipients, notify = t->rcpt.notify;
    int rc = packed.n ? OK : ERR_SYNTAX;
    buf_over(&key, space, sizeof(space));
    bool list = false;
    if ((notify & NOTIFY_SUCCESS) && t->sender.n && stands_for_others(packed, &list))
        rc = add_expanded(t, list, &notify, &key);
    while (rc == OK && reader.rest.n) {
        rc = record_get(&reader, &recipient_record, &r);
        if (rc == OK)
            rc = add_one(t, &r, notify, &key);
    }
    if (rc == OK) {
        t->accepted++;
        t->state = TXN_RCPT;
    } else {
        t->recipients.failed = false;
        buf_truncate(&t->recipients, before);
        t->nrecipients = count;
        remember_packed(t, &key);
    }
    return rc;
}
