#include "delivery/virtual/virtual.h"

#include <fcntl.h>
#include <unistd.h>

#include "delivery/virtual/events.h"
#include "delivery/virtual/stores.h"
#include "delivery/virtual/syncer.h"
#include "libmail/coexist.h"
#include "libmail/nexthop.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/notify.h"
#include "libmail/proto/quota.h"
#include "libstore/deliver.h"
#include "libstore/quota.h"
#include "libutil/map.h"

enum {
    TEXT_SIZE = 481,
    /* What nobody waits for goes together: texts for caches, and who has new mail. */
    GATHER_MS = 50,
    GATHER_MAX = 256, /* mailboxes with news */
    NEWS_NAME = STORES_PATH + 256
};

struct agent {
    struct daemon *daemon;
    char root[4096];
    struct stores stores;
    struct coexist coexist;
    struct timer sweep;    /* while stores are open */
    struct timer gather;   /* while stores have texts to be written, or there is news */
    struct map news;       /* path, 0, folder: the last sequence, allocated */
    struct syncer *syncer; /* NULL until it is needed */
};

/* To notifyd, if there is one: without it sessions look for themselves, only later. */
static void tell(struct agent *v, struct peer *p)
{
    struct slice name;
    void *sequence;
    for (size_t pos = 0; map_next(&v->news, &pos, &name, &sequence);) {
        struct slice owner = slice_cut(&name, '\0');
        struct notify_changed m = {
            .owner = owner, .mailbox = name, .sequence = *(const uint64_t *)sequence};
        if (p)
            (void)!ipc_send(p->ipc, notify_changed_type, 0, &m, -1);
        free(sequence);
    }
    map_clear(&v->news);
}

/* The texts first: who hears of new mail asks for them. */
static void flush(void *arg)
{
    struct agent *v = arg;
    stores_flush(&v->stores);
    tell(v, daemon_peer(v->daemon, CONV_NOTIFY, -1));
}

static void announce(void *arg, struct slice path, struct slice folder, uint64_t sequence)
{
    struct agent *v = arg;
    struct buf name;
    buf_init(&name, NEWS_NAME);
    buf_put(&name, path);
    buf_putc(&name, '\0');
    buf_put(&name, folder);
    uint64_t *last = NEW(uint64_t);
    *last = sequence;
    free(map_set(&v->news, buf_slice(&name), last));
    buf_clear(&name);
    if (map_count(&v->news) == GATHER_MAX)
        timer_start(&v->gather, 0);
}

static void sweep(void *arg)
{
    struct agent *v = arg;
    if (stores_expire(&v->stores, loop_now(v->daemon->loop)))
        timer_start(&v->sweep, STORES_AGE_MS);
}

static int open_store(
    struct agent *v, struct slice path, bool coexist, struct store **out, struct error *err)
{
    if (!timer_active(&v->sweep))
        timer_start(&v->sweep, STORES_AGE_MS);
    if (!timer_active(&v->gather))
        timer_start(&v->gather, GATHER_MS);
    return stores_get(&v->stores, path, coexist, loop_now(v->daemon->loop), out, err);
}

int virtual_configure(struct daemon *d, struct error *err)
{
    struct agent *v = NEW(struct agent);
    if (!slice_to_cstr(conf_string(conf_root(d->conf), "mail-root"), v->root, sizeof(v->root)))
        return error_set(err, ERR_LIMIT, "mail-root is too long");
    int root = open(v->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_sys(err, "mail-root %s", v->root);
    v->daemon = d;
    stores_init(&v->stores, root, announce, v);
    coexist_init(&v->coexist, d->conf);
    timer_init(&v->sweep, d->loop, sweep, v);
    timer_init(&v->gather, d->loop, flush, v);
    map_init(&v->news);
    d->paths.root = v->root;
    d->data = v;
    return OK;
}

void virtual_free(struct daemon *d)
{
    struct agent *v = d->data;
    syncer_free(v->syncer);
    timer_stop(&v->sweep);
    timer_stop(&v->gather);
    tell(v, NULL);
    stores_clear(&v->stores);
    coexist_clear(&v->coexist);
    fd_close(&v->stores.root);
    free(v);
    d->data = NULL;
}

/* What an error means for the sender (RFC 3463). */
static void refuse(struct outcome *o, int code, const char *text)
{
    o->status = DEFERRED;
    o->text = slice_of(text);
    o->dsn = code == ERR_NO_SPACE ? SLICE_LIT("4.3.1")
             : code == ERR_BUSY   ? SLICE_LIT("4.2.0")
             : code == ERR_DENIED ? SLICE_LIT("4.3.5")
             : code == ERR_QUOTA  ? SLICE_LIT("4.2.2")
                                  : SLICE_LIT("4.3.0");
}

/* A message that was delivered before is never too much. */
static int check_quota(struct store *store, struct slice folder, const struct store_delivery *d,
    bool *final, struct error *err)
{
    struct quota q;
    struct error ignored;
    int rc = store_quota_check(store, folder, d->size, 1, QUOTA_DELIVERY, err);
    if (rc != ERR_QUOTA || store_delivered(store, folder, d->id))
        return rc == ERR_QUOTA ? OK : rc;
    *final = store_quota_get(store, &q, &ignored) == OK && !q.defer;
    return rc;
}

static int deliver_into(struct agent *v, struct slice nexthop, const struct store_delivery *d,
    struct slice *folder, struct store_appended *out, bool *final, struct error *err)
{
    struct slice path, detail;
    nexthop_split(nexthop, &path, &detail);
    int rc = ERR_NOT_FOUND;
    /* A directory that was kept open may have been removed: once more from its path. */
    for (int turn = 0; turn < 2 && rc == ERR_NOT_FOUND; turn++) {
        struct store *store;
        rc = open_store(v, path, coexist_has(&v->coexist, d->address), &store, err);
        if (!rc) {
            *folder = store_deliver_folder(store, detail, d);
            rc = check_quota(store, *folder, d, final, err);
        }
        if (!rc)
            rc = store_deliver(store, *folder, d, out, err);
        if (rc && rc != ERR_QUOTA)
            stores_drop(&v->stores, path);
    }
    return rc;
}

static void deliver_one(struct agent *v, const struct log *log, const struct recipient *r,
    struct store_delivery *d, struct outcome *o, char text[TEXT_SIZE])
{
    struct store_appended done;
    struct error err = {0};
    d->address = r->address;
    d->original = r->original;
    d->via = r->via;
    struct slice folder = SLICE_LIT("INBOX");
    bool final = false;
    int rc = deliver_into(v, r->nexthop, d, &folder, &done, &final, &err);
    if (rc) {
        snprintf(text, TEXT_SIZE, "%.*s", (int)TEXT_SIZE - 1, err.text);
        refuse(o, rc, text);
        if (final) {
            o->status = FAILED;
            o->dsn = SLICE_LIT("5.2.2");
        }
        log_event(log, dlv_store_fail, .to = r->address, .mailbox = r->nexthop,
            .rule = slice_of(error_name(rc)), .reason = o->text);
        return;
    }
    snprintf(text, TEXT_SIZE, "delivered to mailbox %.*s uid %u%s", SLICE_FMT(folder), done.uid,
        done.duplicate ? " (by an attempt before)" : "");
    *o = (struct outcome){
        .index = o->index, .status = DELIVERED, .dsn = SLICE_LIT("2.0.0"), .text = slice_of(text)};
    log_event(log, dlv_store, .to = r->address, .mailbox = r->nexthop, .uid = done.uid,
        .size = d->size, .again = done.duplicate);
}

/* All recipients in turn; what is malformed gets no outcome, which means deferred. */
static void start(struct agent *v, struct peer *peer, struct ipc_in *in)
{
    const struct deliver_start *m = in->msg;
    struct envelope envelope;
    struct reader er = reader_of(m->envelope), rr = reader_of(m->recipients);
    struct store_delivery d = {.body = m->body, .fd = in->fd, .size = m->size};
    struct buf outcomes;
    struct log log;
    struct recipient r;
    buf_init(&outcomes, 60000);
    log_set_id(&log, &v->daemon->log, "qid", in->trace);
    bool good = record_get(&er, &envelope_record, &envelope) == OK &&
                (m->body.n == m->size || (m->body.n == 0 && in->fd >= 0));
    d.sender = good ? envelope.sender : SLICE_LIT("");
    d.login = good ? envelope.login : SLICE_LIT("");
    for (uint32_t i = 0; good && i < DELIVER_RECIPIENTS_MAX && rr.rest.n; i++) {
        char text[TEXT_SIZE];
        struct outcome o = {.index = i};
        if (record_get(&rr, &recipient_record, &r))
            break;
        d.id = m->delivery + i;
        deliver_one(v, &log, &r, &d, &o, text);
        if (record_put(&outcomes, &outcome_record, &o))
            break;
    }
    struct deliver_done done = {.outcomes = buf_slice(&outcomes)};
    (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_done_type, &done, -1);
    buf_clear(&outcomes);
}

/* Who asked for a sync. */
struct asker {
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    uint64_t trace;
};

static void synced(struct sync_job *job, void *arg)
{
    struct agent *v = arg;
    struct asker *asker = job->arg;
    struct deliver_synced done = {
        .code = job->code, .text = slice_first(slice_of(job->error.text), 255)};
    if (job->code)
        log_event(&v->daemon->log, log_trouble, .what = SLICE_LIT("sync"),
            .reason = slice_of(job->error.text));
    stores_give_back(&v->stores, job->fds, job->n, job->code == OK);
    if (asker->peer)
        (void)!ipc_reply(asker->peer->ipc, asker->id, asker->trace, deliver_synced_type, &done, -1);
    free(asker);
    free(job);
    if (v->daemon->draining && !(v->syncer && syncer_busy(v->syncer)))
        daemon_exit(v->daemon);
}

static void sync_stores(struct agent *v, struct peer *peer, struct ipc_in *in)
{
    struct sync_job *job = NEW(struct sync_job);
    struct asker *asker = NEW(struct asker);
    *asker = (struct asker){peer, in->id, in->trace};
    job->arg = asker;
    job->n = stores_take_dirty(&v->stores, job->fds);
    if (!v->syncer)
        v->syncer = syncer_new(v->daemon->loop, synced, v, &job->error);
    if (v->syncer) {
        syncer_add(v->syncer, job);
        return;
    }
    job->code = ERR_TEMP;
    synced(job, v);
}

static void forget_asker(struct sync_job *job, void *gone)
{
    struct asker *asker = job->arg;
    if (asker->peer == gone)
        asker->peer = NULL;
}

void virtual_down(struct peer *peer)
{
    struct agent *v = peer->daemon->data;
    if (v->syncer)
        syncer_each(v->syncer, forget_asker, peer);
}

void virtual_drain(struct daemon *d)
{
    struct agent *v = d->data;
    struct peer *p = daemon_peer(d, CONV_NOTIFY, -1);
    flush(v);
    if (p)
        ipc_flush(p->ipc);
    if (!v->syncer || !syncer_busy(v->syncer))
        daemon_exit(d);
}

static int tell_totals(struct store *store, struct quota_answer *a, struct error *err)
{
    struct quota q;
    struct quota_usage used;
    int rc = store_quota_get(store, &q, err);
    if (!rc)
        rc = store_quota_usage(store, &used, err);
    if (rc)
        return rc;
    a->used_bytes = used.bytes;
    a->used_messages = used.messages;
    a->max_bytes = q.bytes;
    a->max_messages = q.messages;
    return OK;
}

/* No limits, and none that are remembered: most mailboxes. */
static bool is_free(const struct agent *v, const struct quota_ask *ask)
{
    char path[STORES_PATH];
    return ask->limits.n && slice_trim(ask->limits).n == 0 && !ask->append &&
           slice_to_cstr(ask->mail, path, sizeof(path)) &&
           !quota_is_remembered(v->stores.root, path);
}

void virtual_quota(struct peer *peer, struct ipc_in *in)
{
    struct agent *v = peer->daemon->data;
    const struct quota_ask *ask = in->msg;
    struct quota_answer answer = {.verdict = QUOTA_UNKNOWN};
    const struct store_delivery unknown = {.id = 0}; /* who will send it */
    struct store *store;
    struct error err = {0};
    struct quota q;
    if (is_free(v, ask)) {
        answer.verdict = QUOTA_FITS;
        (void)!ipc_reply(peer->ipc, in->id, in->trace, quota_answer_type, &answer, -1);
        return;
    }
    int rc = open_store(v, ask->mail, ask->coexist, &store, &err);
    if (!rc && ask->limits.n)
        rc = store_quota_set(store, ask->limits, &err);
    if (!rc && ask->append && !ask->messages)
        rc = tell_totals(store, &answer, &err);
    else if (!rc && ask->append)
        rc = store_quota_check(store, ask->folder, ask->size, ask->messages, QUOTA_APPEND, &err);
    else if (!rc)
        rc = store_quota_check(store, store_deliver_folder(store, ask->folder, &unknown), ask->size,
            1, QUOTA_ADDRESS, &err);
    if (rc == OK)
        answer.verdict = QUOTA_FITS;
    else if (rc == ERR_QUOTA && store_quota_get(store, &q, &err) == OK)
        answer.verdict = q.defer ? QUOTA_FULL_DEFER : QUOTA_FULL;
    else
        log_event(
            &v->daemon->log, log_trouble, .what = SLICE_LIT("quota"), .reason = slice_of(err.text));
    (void)!ipc_reply(peer->ipc, in->id, in->trace, quota_answer_type, &answer, -1);
}

int virtual_let_go(struct daemon *d, struct slice mail)
{
    struct agent *v = d->data;
    stores_drop(&v->stores, mail);
    return v->stores.root;
}

void virtual_message(struct peer *peer, struct ipc_in *in)
{
    struct agent *v = peer->daemon->data;
    if (deliver_pong(peer->ipc, in))
        return;
    if (in->type == deliver_start_type) {
        start(v, peer, in);
    } else if (in->type == deliver_sync_type) {
        sync_stores(v, peer, in);
    } else {
        struct deliver_reported no = {
            .code = ERR_UNSUPPORTED, .text = SLICE_LIT("virtual writes no reports")};
        (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_reported_type, &no, -1);
    }
}
