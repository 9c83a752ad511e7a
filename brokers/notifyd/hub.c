#include "brokers/notifyd/hub.h"

#include "brokers/notifyd/events.h"
#include "libmail/proto/notify.h"
#include "libutil/list.h"

struct hub {
    struct loop *loop;
    const struct log *log;
    struct map topics;    /* owner, NUL, mailbox -> struct topic */
    struct list channels; /* all */
    unsigned n;
};

/* A mailbox that somebody watches. */
struct topic {
    char *key;
    size_t key_len;
    struct list watchers;
};

struct channel {
    struct hub *hub;
    struct ipc *ipc;
    char *owner;
    struct map shared; /* keys of mailboxes of others that it may watch and change */
    bool sealed;       /* no more of them */
    char *mailbox;     /* NULL: watches nothing */
    struct topic *topic;
    struct list link;    /* in hub.channels */
    struct list watcher; /* in topic.watchers */
    struct timer pause;  /* runs while no event may be sent */
    uint64_t pending;    /* highest sequence not yet sent; 0: none */
};

struct hub *hub_new(struct loop *loop, const struct log *log)
{
    struct hub *h = NEW(struct hub);
    h->loop = loop;
    h->log = log;
    map_init(&h->topics);
    list_init(&h->channels);
    return h;
}

unsigned hub_channels(const struct hub *h)
{
    return h->n;
}

static void refuse(struct hub *h, const char *peer, struct slice owner, const char *rule)
{
    log_event(
        h->log, notify_refuse, .peer = slice_of(peer), .owner = owner, .rule = slice_of(rule));
}

static void make_key(struct slice owner, struct slice mailbox, struct buf *out)
{
    buf_init(out, owner.n + mailbox.n + 1);
    buf_put(out, owner);
    buf_putc(out, '\0');
    buf_put(out, mailbox);
}

static void unwatch(struct channel *c)
{
    struct topic *t = c->topic;
    if (!t)
        return;
    list_remove(&c->watcher);
    if (list_empty(&t->watchers)) {
        map_remove(&c->hub->topics, slice_from(t->key, t->key_len));
        free(t->key);
        free(t);
    }
    free(c->mailbox);
    c->mailbox = NULL;
    c->topic = NULL;
    c->pending = 0;
}

static bool is_shared(const struct channel *c, struct slice owner, struct slice mailbox)
{
    struct buf key;
    make_key(owner, mailbox, &key);
    bool shared = map_get(&c->shared, buf_slice(&key)) != NULL;
    buf_clear(&key);
    return shared;
}

static void watch(struct channel *c, struct slice owner, struct slice mailbox)
{
    struct buf key;
    unwatch(c);
    if (mailbox.n == 0)
        return;
    if (owner.n && !is_shared(c, owner, mailbox)) {
        refuse(c->hub, "session", owner, "watch-not-allowed");
        return;
    }
    make_key(owner.n ? owner : slice_of(c->owner), mailbox, &key);
    struct topic *t = map_get(&c->hub->topics, buf_slice(&key));
    if (!t) {
        t = NEW(struct topic);
        t->key_len = buf_len(&key);
        t->key = xmemdup0(buf_slice(&key).p, t->key_len);
        list_init(&t->watchers);
        map_set(&c->hub->topics, buf_slice(&key), t);
    }
    buf_clear(&key);
    c->topic = t;
    c->mailbox = xmemdup0(mailbox.p, mailbox.n);
    list_append(&t->watchers, &c->watcher);
    /* A change may have been told on another channel after the session had looked, and been read
     * here before this: it has to look once more now. */
    struct notify_event begun = {.mailbox = mailbox};
    (void)!ipc_send(c->ipc, notify_event_type, 0, &begun, -1);
}

static void send_event(struct channel *c, uint64_t sequence)
{
    struct notify_event event = {.mailbox = slice_of(c->mailbox), .sequence = sequence};
    c->pending = 0;
    timer_start(&c->pause, HUB_PAUSE_MS);
    /* A channel that takes nothing more is closed by ipc, with on_close. */
    (void)!ipc_send(c->ipc, notify_event_type, 0, &event, -1);
}

static void pause_over(void *arg)
{
    struct channel *c = arg;
    if (c->pending && c->mailbox)
        send_event(c, c->pending);
}

static void changed(struct hub *h, struct slice owner, struct slice mailbox, uint64_t sequence,
    const struct channel *by)
{
    struct buf key;
    make_key(owner, mailbox, &key);
    struct topic *t = map_get(&h->topics, buf_slice(&key));
    buf_clear(&key);
    if (!t)
        return;
    LIST_EACH(it, &t->watchers)
    {
        struct channel *c = LIST_ENTRY(it, struct channel, watcher);
        if (c == by)
            continue;
        if (timer_active(&c->pause))
            c->pending = MAX(c->pending, sequence);
        else
            send_event(c, sequence);
    }
}

static void channel_free(struct channel *c)
{
    unwatch(c);
    timer_stop(&c->pause);
    list_remove(&c->link);
    c->hub->n--;
    map_clear(&c->shared);
    free(c->owner);
    free(c);
}

/* A mailbox that somebody shares with the owner. */
static void share(struct channel *c, const struct notify_share *m)
{
    struct buf key;
    if (c->sealed || m->owner.n == 0 || map_count(&c->shared) >= HUB_SHARES_MAX) {
        refuse(c->hub, "session", m->owner, "share-not-allowed");
        return;
    }
    make_key(m->owner, m->mailbox, &key);
    map_set(&c->shared, buf_slice(&key), c);
    buf_clear(&key);
}

static void on_channel_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct channel *c = arg;
    (void)ipc;
    if (in->type == notify_watch_type) {
        const struct notify_watch *m = in->msg;
        watch(c, m->owner, m->mailbox);
    } else if (in->type == notify_changed_type) {
        /* Whatever else it names: its own. */
        const struct notify_changed *m = in->msg;
        struct slice owner = is_shared(c, m->owner, m->mailbox) ? m->owner : slice_of(c->owner);
        changed(c->hub, owner, m->mailbox, m->sequence, c);
    } else if (in->type == notify_share_type) {
        share(c, in->msg);
    } else if (in->type == notify_seal_type) {
        c->sealed = true;
    } else {
        refuse(c->hub, "session", slice_of(c->owner), "admit-not-allowed");
    }
}

static void on_channel_close(struct ipc *ipc, const struct error *why, void *arg)
{
    (void)ipc, (void)why;
    channel_free(arg);
}

static const struct ipc_ops channel_ops = {on_channel_message, on_channel_close};

static void admit(struct hub *h, struct slice owner, bool sealed, struct ipc_in *in)
{
    struct channel *c = NEW(struct channel);
    c->hub = h;
    c->owner = xmemdup0(owner.p, owner.n);
    c->sealed = sealed;
    map_init(&c->shared);
    list_init(&c->watcher);
    timer_init(&c->pause, h->loop, pause_over, c);
    list_append(&h->channels, &c->link);
    h->n++;
    c->ipc = ipc_new(h->loop, in->fd, &notify_proto, IPC_SERVER, &channel_ops, c);
    in->fd = -1;
}

void hub_trusted(struct hub *h, enum role role, struct ipc_in *in)
{
    bool spawner = role == ROLE_IMAP_SESSION || role == ROLE_POP3_SESSION;
    const char *peer = role_info(role)->program;
    if (in->type == notify_changed_type) {
        const struct notify_changed *m = in->msg;
        changed(h, m->owner, m->mailbox, m->sequence, NULL);
    } else if (in->type == notify_admit_type) {
        struct slice owner = ((const struct notify_admit *)in->msg)->owner;
        if (!spawner || owner.n == 0)
            refuse(h, peer, owner, "admit-not-allowed");
        else if (h->n >= HUB_CHANNELS_MAX)
            refuse(h, peer, owner, "too-many-channels");
        else
            admit(h, owner, role != ROLE_IMAP_SESSION, in);
    } else {
        refuse(h, peer, SLICE_LIT(""), "watch-without-owner");
    }
}

void hub_free(struct hub *h)
{
    LIST_EACH(it, &h->channels)
    {
        struct channel *c = LIST_ENTRY(it, struct channel, link);
        ipc_free(c->ipc);
        channel_free(c);
    }
    map_clear(&h->topics);
    free(h);
}
