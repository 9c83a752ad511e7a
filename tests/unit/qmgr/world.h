/* A queue manager with agents and clients played by the test over real channels, on a fake clock
 * and a simulated disk. */
#pragma once

#include <sys/socket.h>

#include "libmail/proto/inject.h"
#include "libmail/proto/queue.h"
#include "libmail/proto/route.h"
#include "qmgr/qmgr.h"
#include "tests/crash/simdisk.h"

enum { AGENTS = 4, ASKED_MAX = 256 };

/* The test's end of a channel. */
struct end {
    struct world *w;
    struct ipc *ipc;
    struct peer *peer; /* qmgr's end */
    enum role role;
};

struct world {
    struct simdisk *sim;
    struct daemon daemon;
    struct qmgr q;
    struct end client, agents[AGENTS];
    enum deliver_status answer;
    bool site, silent; /* silent: no answer at all */
    bool frozen;       /* not even to a ping */
    unsigned pings;
    bool twice;   /* the same answer again */
    uint32_t lie; /* added to every index */
    unsigned starts, syncs, reports;
    uint64_t deliveries[ASKED_MAX];
    enum report_kind kinds[ASKED_MAX];
    unsigned told[ASKED_MAX]; /* recipients of each report */
    unsigned coming;          /* of the one that comes in pieces */
    unsigned defer_from;      /* from this recipient of message 100 on; 0: none */
    unsigned silent_from;     /* these get no answer at first */
    uint32_t unanswered[ASKED_MAX];
    unsigned nunanswered;
    uint64_t about; /* what is injected says that it tells of this */
    bool refuse_reports;
    bool inject_reports; /* they become messages, but the agent says nothing */
    struct end injector; /* the bounce agent's channel for them */
    uint32_t code;       /* of the last inject_result */
    unsigned taken;      /* of all that was injected */
    uint32_t notify;
    int64_t hold_until;
    const char *sender, *listener;
    const char *targets[4];       /* the agent virtual says that these take the recipient's place */
    bool only;                    /* and nothing was stored */
    bool babble;                  /* it names them in a way that cannot be read */
    struct slice came_via;        /* of what is injected */
    const char *owners[4];        /* of its first recipients */
    const char *owner;            /* of what lookupd says */
    char senders[ASKED_MAX][64];  /* of the messages that agents get */
    char reported[ASKED_MAX][64]; /* to whom */
    unsigned starts_of[ROLE_COUNT];
    char via[ROLE_COUNT][2001], address[ROLE_COUNT][ENVELOPE_ADDRESS_MAX + 1];
    uint32_t notified[ROLE_COUNT];
    enum deliver_status local_answer;
    struct end lookup;
    unsigned lookups;
    uint32_t verdict; /* of the next lookups */
    bool mute;        /* lookupd does not answer */
};

static const enum role roles[AGENTS] = {ROLE_VIRTUAL, ROLE_REMOTE, ROLE_BOUNCE, ROLE_LOCAL};

/* --- the agents' side ------------------------------------------------------------------------ */

/* What came last to the agent of this role. */
static inline void note_start(struct end *e, const struct recipient *to)
{
    struct world *w = e->w;
    snprintf(w->via[e->role], sizeof(w->via[0]), "%.*s", SLICE_FMT(to->via));
    snprintf(w->address[e->role], sizeof(w->address[0]), "%.*s", SLICE_FMT(to->address));
    w->notified[e->role] = to->notify;
}

static inline void note_sender(char out[64], struct slice packed)
{
    struct reader r = reader_of(packed);
    struct envelope envelope = {0};
    assert_int_equal(record_get(&r, &envelope_record, &envelope), OK);
    snprintf(out, 64, "%.*s", SLICE_FMT(envelope.sender));
}

static inline void on_start(struct end *e, struct ipc_in *in)
{
    struct world *w = e->w;
    const struct deliver_start *s = in->msg;
    struct reader r = reader_of(s->recipients);
    struct recipient to;
    struct buf out, targets;
    uint32_t n = 0;
    note_sender(w->senders[w->starts], s->envelope);
    w->deliveries[w->starts++] = s->delivery;
    w->starts_of[e->role]++;
    if (w->silent)
        return;
    if (w->silent_from && s->delivery >= 100 + w->silent_from) {
        w->unanswered[w->nunanswered++] = in->id;
        return;
    }
    buf_init(&targets, DELIVER_TARGETS_MAX);
    for (size_t i = 0; e->role == ROLE_VIRTUAL && i < 4 && w->targets[i]; i++)
        assert_int_equal(buf_lv(&targets, slice_of(w->targets[i])), OK);
    if (w->babble)
        buf_puts(&targets, "\xff\xff\xff\xff!");
    buf_init(&out, 60000);
    enum deliver_status answer = e->role == ROLE_LOCAL ? w->local_answer : w->answer;
    while (r.rest.n && record_get(&r, &recipient_record, &to) == OK) {
        struct outcome o = {.index = w->lie + n++,
            .status = answer,
            .dsn = answer == FAILED ? SLICE_LIT("5.1.1") : SLICE_LIT("4.4.1"),
            .text = SLICE_LIT("because"),
            .mta = SLICE_LIT(""),
            .targets = answer == DELIVERED ? buf_slice(&targets) : SLICE_LIT(""),
            .only = w->only,
            .site = w->site};
        note_start(e, &to);
        if (w->defer_from && s->delivery + o.index >= 100 + w->defer_from)
            o.status = DEFERRED;
        assert_int_equal(record_put(&out, &outcome_record, &o), OK);
    }
    ipc_reply(e->ipc, in->id, in->trace, deliver_done_type,
        &(struct deliver_done){.outcomes = buf_slice(&out)}, -1);
    if (w->twice)
        ipc_reply(e->ipc, in->id, in->trace, deliver_done_type,
            &(struct deliver_done){.outcomes = buf_slice(&out)}, -1);
    buf_clear(&out);
    buf_clear(&targets);
}

/* lookupd: all addresses lead to the agent remote. */
static inline void on_lookup(struct end *e, struct ipc_in *in)
{
    struct world *w = e->w;
    const struct route_check *check = in->msg;
    struct recipient to = {.address = check->address,
        .transport = SLICE_LIT("remote"),
        .nexthop = SLICE_LIT("x.test"),
        .owner = slice_of(w->owner ? w->owner : "")};
    struct buf out;
    w->lookups++;
    if (w->mute)
        return;
    buf_init(&out, 4096);
    if (w->verdict == 250)
        assert_int_equal(record_put(&out, &recipient_record, &to), OK);
    ipc_reply(e->ipc, in->id, in->trace, route_verdict_type,
        &(struct route_verdict){.code = w->verdict, .recipients = buf_slice(&out)}, -1);
    buf_clear(&out);
}

/* Adds what is packed to the recipients of the report that is coming. */
static inline void count_told(struct world *w, uint32_t ahead, struct slice packed)
{
    struct reader r = reader_of(packed);
    struct report_recipient to;
    if (ahead == 0)
        w->coming = 0;
    while (r.rest.n && record_get(&r, &report_recipient_record, &to) == OK)
        w->coming++;
}

static inline void on_injected(struct ipc_in *in, void *arg)
{
    (void)in, (void)arg;
}

/* A report becomes a message, which waits for long. */
static inline void inject_report(struct world *w, const struct deliver_report *r, uint64_t about)
{
    uint64_t qid = 9000 + w->reports;
    struct buf envelope, recipients;
    buf_init(&envelope, 4096);
    buf_init(&recipients, 4096);
    struct envelope e = {.listener = SLICE_LIT("bounce"),
        .received = loop_wall(w->q.loop),
        .hold_until = loop_wall(w->q.loop) + 36000000,
        .about = about,
        .about_serial = r->serial,
        .about_kind = r->kind,
        .about_group = r->group,
        .about_indexes = r->indexes};
    struct recipient to = {.address = SLICE_LIT("s@y.test"),
        .transport = SLICE_LIT("virtual"),
        .nexthop = SLICE_LIT("y.test/s")};
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    assert_int_equal(record_put(&recipients, &recipient_record, &to), OK);
    struct inject_accept msg = {.txn = qid,
        .envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = 7,
        .body = SLICE_LIT("report\n"),
        .qid = qid};
    ipc_call(w->injector.ipc, inject_accept_type, qid, &msg, -1, on_injected, w);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static inline void on_report(struct end *e, struct ipc_in *in)
{
    struct world *w = e->w;
    const struct deliver_report *r = in->msg;
    count_told(w, r->ahead, r->recipients);
    w->told[w->reports] = w->coming + r->left_out;
    note_sender(w->reported[w->reports], r->envelope);
    w->kinds[w->reports++] = (enum report_kind)r->kind;
    if (w->inject_reports) {
        inject_report(w, r, in->trace);
        return; /* and the agent never answers */
    }
    ipc_reply(e->ipc, in->id, 0, deliver_reported_type,
        &(struct deliver_reported){
            .code = w->refuse_reports ? ERR_TEMP : OK, .text = SLICE_LIT(""), .qid = 9},
        -1);
}

static inline void on_agent_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct end *e = arg;
    struct world *w = e->w;
    bool is_agent = e->role != ROLE_LOOKUPD;
    w->pings += is_agent && in->type == deliver_ping_type;
    if (is_agent && in->type == deliver_ping_type && w->frozen)
        return;
    if (is_agent && deliver_pong(ipc, in))
        return;
    if (e->role == ROLE_LOOKUPD) {
        on_lookup(e, in);
    } else if (in->type == deliver_start_type) {
        on_start(e, in);
    } else if (in->type == deliver_sync_type) {
        w->syncs++;
        ipc_reply(ipc, in->id, 0, deliver_synced_type,
            &(struct deliver_synced){.code = OK, .text = SLICE_LIT("")}, -1);
    } else if (in->type == deliver_report_more_type) {
        static const struct deliver_report_taken taken;
        const struct deliver_report_more *more = in->msg;
        count_told(w, more->ahead, more->recipients);
        ipc_reply(ipc, in->id, 0, deliver_report_taken_type, &taken, -1);
    } else {
        on_report(e, in);
    }
}

static inline void end_closed(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc, (void)err;
    ((struct end *)arg)->ipc = NULL;
}

static inline void peer_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct peer *peer = arg;
    if (peer->conv == CONV_INJECT)
        inject_message(peer, in);
    else if (peer->conv == CONV_QUEUE)
        admin_message(peer, in);
}

static inline void peer_closed(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc, (void)err;
    struct peer *peer = arg;
    list_remove(&peer->link);
    peer->ipc = NULL;
    if (peer->conv == CONV_DELIVER)
        agent_down(peer);
    else if (peer->conv == CONV_INJECT)
        inject_down(peer);
    else if (peer->conv == CONV_QUEUE)
        admin_down(peer);
    free(peer);
}

static inline void connect_end(
    struct world *w, struct end *e, enum conversation conv, enum role role)
{
    static const struct ipc_ops peer_ops = {peer_message, peer_closed};
    static const struct ipc_ops end_ops = {on_agent_message, end_closed};
    const struct ipc_proto *proto = conv == CONV_INJECT  ? &inject_proto
                                    : conv == CONV_ROUTE ? &route_proto
                                    : conv == CONV_QUEUE ? &queue_proto
                                                         : &deliver_proto;
    bool serves = conv == CONV_INJECT || conv == CONV_QUEUE;
    enum ipc_side ours = serves ? IPC_SERVER : IPC_CLIENT;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
    struct peer *peer = NEW(struct peer);
    *peer = (struct peer){.daemon = &w->daemon, .conv = conv, .side = ours, .role = role, .fd = -1};
    list_append(&w->daemon.peers, &peer->link);
    peer->ipc = ipc_new(w->q.loop, fds[0], proto, ours, &peer_ops, peer);
    *e = (struct end){.w = w, .peer = peer, .role = role};
    e->ipc = ipc_new(
        w->q.loop, fds[1], proto, ours == IPC_CLIENT ? IPC_SERVER : IPC_CLIENT, &end_ops, e);
}

/* --- the world ------------------------------------------------------------------------------- */

/* Lets everything that is under way go on. */
static inline void settle(struct world *w)
{
    for (int i = 0; i < 60; i++)
        loop_poll(w->q.loop);
}

static inline void pass(struct world *w, int64_t ms)
{
    settle(w);
    loop_advance(w->q.loop, ms);
    settle(w);
}

static const struct daemon_conv convs[] = {{.conv = CONV_DELIVER,
                                               .side = IPC_CLIENT,
                                               .proto = &deliver_proto,
                                               .on_message = agent_message,
                                               .on_down = agent_down},
    {.conv = CONV_ROUTE, .side = IPC_CLIENT, .proto = &route_proto}, {.proto = NULL}};
static const struct daemon_spec spec = {.convs = convs};

static inline void open_spool(struct world *w)
{
    static const struct schedule_policy policy = {
        .initial = 5, .each = {20, 0}, .host = {50, 0}, .remote = {200, 0}, .dead_ms = 300000};
    struct error err;
    struct qmgr *q = &w->q;
    map_init(&q->messages);
    list_init(&q->all);
    list_init(&q->young);
    list_init(&q->under_way);
    list_init(&q->sweeps);
    list_init(&q->awaited);
    heap_init(&q->due);
    q->fresh = (struct fresh){0};
    list_init(&q->fresh.messages);
    timer_init(&q->fresh.timer, q->loop, inject_deliver, q);
    list_init(&q->room.accepts);
    timer_init(&q->room.timer, q->loop, inject_again, q);
    timer_init(&q->due_timer, q->loop, queue_due, q);
    assert_int_equal(recover_open(q, &err), OK);
    q->schedule = schedule_new(q->loop, &policy, &attempt_ops, q);
    q->committer = committer_new(q->loop, q->spool, false, queue_on_batch, q, &err);
    assert_non_null(q->committer);
    recover_reports(q);
}

static inline void setup_sized(struct world *w, uint32_t segment_size)
{
    log_setup("test", LOG_ERROR + 1);
    *w = (struct world){.sim = simdisk_new(1), .answer = DELIVERED, .sender = "s@y.test"};
    w->local_answer = w->answer;
    w->verdict = 250;
    list_init(&w->daemon.peers);
    w->listener = "smtp";
    w->q = (struct qmgr){.daemon = &w->daemon,
        .log = &w->daemon.log,
        .loop = loop_new_fake(1000000),
        .disk = simdisk_disk(w->sim),
        .set = {.retry = {.from = 300000,
                    .to = 3600000,
                    .lifetime = 7200000,
                    .bounce_lifetime = 3600000},
            .agent_timeout = 36000000,
            .report_wait = 3600000,
            .message_size = 1 << 20,
            .max_loaded = 1000,
            .max_recipients = 10,
            .max_active = 1000,
            .portion = 100,
            .spool = {.segment_size = segment_size, .segments = 4}}};
    w->daemon.spec = &spec;
    w->daemon.loop = w->q.loop;
    timer_init(&w->q.agents_timer, w->q.loop, agents_watch, &w->q);
    timer_start(&w->q.agents_timer, 15000);
    w->daemon.data = &w->q;
    open_spool(w);
    connect_end(w, &w->client, CONV_INJECT, ROLE_SMTPD);
    connect_end(w, &w->injector, CONV_INJECT, ROLE_BOUNCE);
    for (int i = 0; i < AGENTS; i++)
        connect_end(w, &w->agents[i], CONV_DELIVER, roles[i]);
    connect_end(w, &w->lookup, CONV_ROUTE, ROLE_LOOKUPD);
    settle(w);
}

static inline void setup(struct world *w)
{
    setup_sized(w, 65536);
}

static inline void close_spool(struct world *w)
{
    void *value;
    beside_free(w->q.beside);
    w->q.beside = NULL;
    committer_free(w->q.committer);
    schedule_free(w->q.schedule);
    timer_stop(&w->q.due_timer);
    timer_stop(&w->q.fresh.timer);
    timer_stop(&w->q.room.timer);
    timer_stop(&w->q.agents_timer);
    spool_close(w->q.spool);
    heap_clear(&w->q.due);
    for (size_t pos = 0; map_next(&w->q.messages, &pos, NULL, &value);)
        message_free(value);
    map_clear(&w->q.messages);
}

static inline void teardown(struct world *w)
{
    for (int i = 0; i < AGENTS; i++)
        if (w->agents[i].ipc)
            ipc_free(w->agents[i].ipc);
    if (w->lookup.ipc)
        ipc_free(w->lookup.ipc);
    ipc_free(w->client.ipc);
    ipc_free(w->injector.ipc);
    settle(w);
    close_spool(w);
    loop_free(w->q.loop);
    simdisk_free(w->sim);
}

static inline void on_result(struct ipc_in *in, void *arg)
{
    struct world *w = arg;
    w->code = in ? ((const struct inject_result *)in->msg)->code : 0;
    w->taken += w->code == 250;
}

/* Sends it; the loop has to run. */
static inline void offer(struct world *w, uint64_t qid, const char *transport, unsigned n)
{
    struct buf envelope, recipients;
    buf_init(&envelope, 4096);
    buf_init(&recipients, 11264);
    struct envelope e = {.sender = slice_of(w->sender),
        .listener = slice_of(w->listener),
        .hold_until = w->hold_until,
        .about = w->about,
        .received = loop_wall(w->q.loop)};
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    for (unsigned i = 0; i < n; i++) {
        struct recipient to = {.address = SLICE_LIT("r@x.test"),
            .transport = slice_of(transport),
            .nexthop = SLICE_LIT("x.test"),
            .via = w->came_via,
            .owner = slice_of(i < 4 && w->owners[i] ? w->owners[i] : ""),
            .notify = w->notify};
        if (buf_len(&recipients) > 11000) {
            struct inject_more more = {.txn = qid, .recipients = buf_slice(&recipients)};
            ipc_send(w->client.ipc, inject_more_type, qid, &more, -1);
            buf_reset(&recipients);
        }
        assert_int_equal(record_put(&recipients, &recipient_record, &to), OK);
    }
    struct inject_accept msg = {.txn = qid,
        .envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = 6,
        .body = SLICE_LIT("hello\n"),
        .qid = qid};
    ipc_call(w->client.ipc, inject_accept_type, qid, &msg, -1, on_result, w);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static inline void inject(struct world *w, uint64_t qid, const char *transport, unsigned n)
{
    offer(w, qid, transport, n);
    settle(w);
}

static inline size_t queued(const struct world *w)
{
    return map_count(&w->q.messages);
}

/* --- cmocka's fixture: a world for each test, in *state -------------------------------------- */

static inline int begin_with(void **state, void (*prepare)(struct world *))
{
    struct world *w = NEW(struct world);
    prepare(w);
    *state = w;
    return 0;
}

static inline int begin(void **state)
{
    return begin_with(state, setup);
}

static inline int end(void **state)
{
    teardown(*state);
    free(*state);
    return 0;
}
