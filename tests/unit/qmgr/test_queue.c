/* The life of a message, with agents and clients played by the test over real channels, on a
 * fake clock and a simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>

#include "libmail/proto/inject.h"
#include "qmgr/qmgr.h"
#include "tests/crash/simdisk.h"

enum { AGENTS = 3, ASKED_MAX = 64 };

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
    bool refuse_reports;
    uint32_t code; /* of the last inject_result */
    uint32_t notify;
    const char *sender, *listener;
};

static const enum role roles[AGENTS] = {ROLE_VIRTUAL, ROLE_REMOTE, ROLE_BOUNCE};

/* --- the agents' side ------------------------------------------------------------------------ */

static void on_start(struct end *e, struct ipc_in *in)
{
    struct world *w = e->w;
    const struct deliver_start *s = in->msg;
    struct reader r = reader_of(s->recipients);
    struct recipient to;
    struct buf out;
    uint32_t n = 0;
    w->deliveries[w->starts++] = s->delivery;
    if (w->silent)
        return;
    buf_init(&out, 60000);
    while (r.rest.n && record_get(&r, &recipient_record, &to) == OK) {
        struct outcome o = {.index = w->lie + n++,
            .status = w->answer,
            .dsn = w->answer == FAILED ? SLICE_LIT("5.1.1") : SLICE_LIT("4.4.1"),
            .text = SLICE_LIT("because"),
            .mta = SLICE_LIT(""),
            .site = w->site};
        assert_int_equal(record_put(&out, &outcome_record, &o), OK);
    }
    ipc_reply(e->ipc, in->id, in->trace, deliver_done_type,
        &(struct deliver_done){.outcomes = buf_slice(&out)}, -1);
    if (w->twice)
        ipc_reply(e->ipc, in->id, in->trace, deliver_done_type,
            &(struct deliver_done){.outcomes = buf_slice(&out)}, -1);
    buf_clear(&out);
}

static void on_agent_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    struct end *e = arg;
    struct world *w = e->w;
    w->pings += in->type == deliver_ping_type;
    if (in->type == deliver_ping_type && w->frozen)
        return;
    if (deliver_pong(ipc, in))
        return;
    if (in->type == deliver_start_type) {
        on_start(e, in);
    } else if (in->type == deliver_sync_type) {
        w->syncs++;
        ipc_reply(ipc, in->id, 0, deliver_synced_type,
            &(struct deliver_synced){.code = OK, .text = SLICE_LIT("")}, -1);
    } else {
        const struct deliver_report *r = in->msg;
        w->kinds[w->reports++] = (enum report_kind)r->kind;
        ipc_reply(ipc, in->id, 0, deliver_reported_type,
            &(struct deliver_reported){
                .code = w->refuse_reports ? ERR_TEMP : OK, .text = SLICE_LIT(""), .qid = 9},
            -1);
    }
}

static void end_closed(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc, (void)err;
    ((struct end *)arg)->ipc = NULL;
}

static void peer_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct peer *peer = arg;
    if (peer->conv == CONV_INJECT)
        inject_message(peer, in);
}

static void peer_closed(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc, (void)err;
    struct peer *peer = arg;
    list_remove(&peer->link);
    peer->ipc = NULL;
    if (peer->conv == CONV_DELIVER)
        agent_down(peer);
    else
        inject_down(peer);
    free(peer);
}

static void connect_end(struct world *w, struct end *e, enum conversation conv, enum role role)
{
    static const struct ipc_ops peer_ops = {peer_message, peer_closed};
    static const struct ipc_ops end_ops = {on_agent_message, end_closed};
    const struct ipc_proto *proto = conv == CONV_INJECT ? &inject_proto : &deliver_proto;
    enum ipc_side ours = conv == CONV_INJECT ? IPC_SERVER : IPC_CLIENT;
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
static void settle(struct world *w)
{
    for (int i = 0; i < 60; i++)
        loop_poll(w->q.loop);
}

static void pass(struct world *w, int64_t ms)
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
    {.proto = NULL}};
static const struct daemon_spec spec = {.convs = convs};

static void open_spool(struct world *w)
{
    static const struct schedule_policy policy = {
        .initial = 5, .each = {20, 0}, .host = {50, 0}, .remote = {200, 0}, .dead_ms = 300000};
    struct error err;
    struct qmgr *q = &w->q;
    map_init(&q->messages);
    list_init(&q->all);
    list_init(&q->under_way);
    heap_init(&q->due);
    timer_init(&q->due_timer, q->loop, queue_due, q);
    assert_int_equal(recover_open(q, &err), OK);
    q->schedule = schedule_new(q->loop, &policy, &attempt_ops, q);
    q->committer = committer_new(q->loop, q->spool, false, queue_on_batch, q, &err);
    assert_non_null(q->committer);
}

static void setup(struct world *w)
{
    log_setup("test", LOG_ERROR + 1);
    *w = (struct world){.sim = simdisk_new(1), .answer = DELIVERED, .sender = "s@y.test"};
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
            .message_size = 1 << 20,
            .max_loaded = 1000,
            .max_recipients = 10,
            .max_active = 1000,
            .portion = 100,
            .spool = {.segment_size = 65536, .segments = 4}}};
    w->daemon.spec = &spec;
    w->daemon.loop = w->q.loop;
    timer_init(&w->q.agents_timer, w->q.loop, agents_watch, &w->q);
    timer_start(&w->q.agents_timer, 15000);
    w->daemon.data = &w->q;
    open_spool(w);
    connect_end(w, &w->client, CONV_INJECT, ROLE_SMTPD);
    for (int i = 0; i < AGENTS; i++)
        connect_end(w, &w->agents[i], CONV_DELIVER, roles[i]);
    settle(w);
}

static void close_spool(struct world *w)
{
    void *value;
    committer_free(w->q.committer);
    schedule_free(w->q.schedule);
    timer_stop(&w->q.due_timer);
    timer_stop(&w->q.agents_timer);
    spool_close(w->q.spool);
    heap_clear(&w->q.due);
    for (size_t pos = 0; map_next(&w->q.messages, &pos, NULL, &value);)
        message_free(value);
    map_clear(&w->q.messages);
}

static void teardown(struct world *w)
{
    for (int i = 0; i < AGENTS; i++)
        if (w->agents[i].ipc)
            ipc_free(w->agents[i].ipc);
    ipc_free(w->client.ipc);
    settle(w);
    close_spool(w);
    loop_free(w->q.loop);
    simdisk_free(w->sim);
}

static void on_result(struct ipc_in *in, void *arg)
{
    ((struct world *)arg)->code = in ? ((const struct inject_result *)in->msg)->code : 0;
}

static void inject(struct world *w, uint64_t qid, const char *transport, unsigned n)
{
    struct buf envelope, recipients;
    buf_init(&envelope, 4096);
    buf_init(&recipients, 11264);
    struct envelope e = {.sender = slice_of(w->sender),
        .listener = slice_of(w->listener),
        .received = loop_wall(w->q.loop)};
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    for (unsigned i = 0; i < n; i++) {
        struct recipient to = {.address = SLICE_LIT("r@x.test"),
            .transport = slice_of(transport),
            .nexthop = SLICE_LIT("x.test"),
            .notify = w->notify};
        assert_int_equal(record_put(&recipients, &recipient_record, &to), OK);
    }
    struct inject_accept msg = {.txn = qid,
        .envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = 6,
        .body = SLICE_LIT("hello\n"),
        .qid = qid};
    ipc_call(w->client.ipc, inject_accept_type, qid, &msg, -1, on_result, w);
    settle(w);
    buf_clear(&envelope);
    buf_clear(&recipients);
}

static size_t queued(const struct world *w)
{
    return map_count(&w->q.messages);
}

/* --- tests ----------------------------------------------------------------------------------- */

static void test_a_local_message_is_forgotten_only_after_its_sync(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    inject(&w, 100, "virtual", 3);
    assert_int_equal(w.code, 250);
    assert_int_equal(w.starts, 1);
    assert_int_equal(w.deliveries[0], 100);
    assert_int_equal(w.syncs, 0);
    assert_int_equal(queued(&w), 1);
    pass(&w, SYNC_DELAY_MS);
    assert_int_equal(w.syncs, 1);
    pass(&w, SPOOL_LAZY_MS);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_an_agent_that_dies_before_the_sync_gets_the_same_delivery_again(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    inject(&w, 100, "virtual", 1);
    ipc_free(w.agents[0].ipc);
    w.agents[0].ipc = NULL;
    pass(&w, SYNC_DELAY_MS);
    assert_int_equal(queued(&w), 1);
    connect_end(&w, &w.agents[0], CONV_DELIVER, ROLE_VIRTUAL);
    for (int i = 0; i < 10; i++)
        pass(&w, 1000);
    assert_int_equal(w.starts, 2);
    assert_int_equal(w.deliveries[1], w.deliveries[0]);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_deferred_message_is_parked_and_tried_again_when_due(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    pass(&w, 1000);
    struct message *m = queue_find(&w.q, 100);
    assert_true(m->parked);
    assert_null(m->content);
    assert_int_equal(w.starts, 1);
    pass(&w, 290000);
    assert_int_equal(w.starts, 1);
    w.answer = DELIVERED;
    pass(&w, 90000); /* 300 s, and at most a quarter of jitter */
    pass(&w, 1000);
    assert_int_equal(w.starts, 2);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_failure_is_reported_before_it_is_forgotten(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = FAILED;
    w.refuse_reports = true;
    inject(&w, 100, "remote", 2);
    pass(&w, 1000);
    assert_int_equal(w.reports, 1);
    assert_int_equal(queued(&w), 1); /* the report was not taken */
    w.refuse_reports = false;
    pass(&w, REPORT_RETRY_MS + 1000);
    pass(&w, 1000);
    assert_int_equal(w.reports, 2);
    assert_int_equal(w.kinds[1], REPORT_FAILURE);
    assert_int_equal(w.starts, 1); /* nobody was tried again */
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_notify_never_is_silent(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = FAILED;
    w.notify = NOTIFY_NEVER;
    inject(&w, 100, "remote", 1);
    pass(&w, 1000);
    assert_int_equal(w.reports, 0);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_notify_success_of_local_mail_is_reported(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.notify = NOTIFY_SUCCESS;
    inject(&w, 100, "virtual", 1);
    pass(&w, SYNC_DELAY_MS);
    pass(&w, 1000);
    assert_int_equal(w.reports, 1);
    assert_int_equal(w.kinds[0], REPORT_SUCCESS);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_failed_double_bounce_ends_there(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = FAILED;
    w.sender = "";
    inject(&w, 100, "remote", 1);
    pass(&w, 1000);
    assert_int_equal(w.reports, 1); /* to the postmaster */
    w.listener = "double-bounce";
    inject(&w, 101, "remote", 1);
    pass(&w, 1000);
    assert_int_equal(w.reports, 1);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_what_cannot_be_delivered_in_its_lifetime_fails(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    for (int i = 0; i < 80 && queued(&w); i++)
        pass(&w, 120000);
    assert_int_equal(w.reports, 1);
    assert_int_equal(w.kinds[0], REPORT_FAILURE);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_an_unknown_transport_waits_with_a_reason(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    inject(&w, 100, "pigeon", 1);
    assert_int_equal(w.code, 250);
    pass(&w, 1000);
    assert_int_equal(w.starts, 0);
    assert_true(queue_find(&w.q, 100)->parked);
    teardown(&w);
}

static void test_a_qid_that_is_queued_is_not_taken_again(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.silent = true;
    inject(&w, 100, "remote", 1);
    assert_int_equal(w.code, 250);
    inject(&w, 100, "remote", 1);
    assert_int_equal(w.code, 451);
    teardown(&w);
}

static void test_too_many_recipients_are_452(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    inject(&w, 100, "remote", 11);
    assert_int_equal(w.code, 452);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_disk_that_refuses_gives_452_or_451(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    simdisk_fail(w.sim, 1, 28 /* ENOSPC */);
    inject(&w, 100, "remote", 1);
    assert_int_equal(w.code, 452);
    simdisk_fail(w.sim, 1, 5 /* EIO */);
    inject(&w, 101, "remote", 1);
    assert_int_equal(w.code, 451);
    simdisk_fail(w.sim, 0, 0);
    inject(&w, 102, "remote", 1);
    assert_int_equal(w.code, 250);
    teardown(&w);
}

static void test_an_agent_that_hangs_is_given_up_and_others_go_on(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.agent_timeout = 60000;
    w.silent = w.frozen = true;
    inject(&w, 100, "remote", 1);
    w.silent = false;
    inject(&w, 200, "virtual", 1);
    pass(&w, SYNC_DELAY_MS);
    pass(&w, 1000);
    assert_int_equal(queued(&w), 1); /* only the one that hangs */
    for (int i = 0; i < 8; i++)
        pass(&w, 15000);
    assert_null(w.agents[1].ipc); /* its channel was closed; master would start another */
    connect_end(&w, &w.agents[1], CONV_DELIVER, ROLE_REMOTE);
    for (int i = 0; i < 10; i++)
        pass(&w, 1000);
    assert_int_equal(w.starts, 3);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_an_agent_that_is_only_slow_is_left_alone(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.agent_timeout = 60000;
    w.silent = true;
    inject(&w, 100, "remote", 1);
    for (int i = 0; i < 100; i++)
        pass(&w, 15000);
    assert_true(w.pings > 20);
    assert_int_equal(w.starts, 1);
    assert_int_equal(queue_find(&w.q, 100)->busy, 1);
    teardown(&w);
}

static void test_an_idle_agent_is_not_asked(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    inject(&w, 100, "remote", 1);
    for (int i = 0; i < 20; i++)
        pass(&w, 15000);
    assert_int_equal(w.pings, 0);
    teardown(&w);
}

static void test_a_delivery_that_an_agent_forgot_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.retry.lifetime = 36000000;
    w.silent = true;
    inject(&w, 100, "remote", 1);
    w.silent = false;
    for (int i = 0; i < 500 && queued(&w) > 0; i++)
        pass(&w, 15000);
    assert_int_equal(w.starts, 2);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_the_second_answer_of_an_agent_changes_nothing(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.twice = true;
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    inject(&w, 101, "virtual", 1);
    pass(&w, 1000);
    assert_int_equal(queued(&w), 2);
    assert_int_equal(w.starts, 2);
    assert_int_equal(queue_find(&w.q, 100)->busy, 0);
    w.answer = DELIVERED;
    for (int i = 0; i < 20; i++)
        pass(&w, 20000);
    pass(&w, 1000);
    assert_int_equal(w.starts, 4);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_an_agent_that_lies_about_recipients_delivers_nothing(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.lie = 2; /* of three, the first is said to be the third, the others do not exist */
    w.answer = FAILED;
    inject(&w, 100, "remote", 3);
    pass(&w, 100);
    assert_int_equal(queued(&w), 1);
    assert_int_equal(w.reports, 1); /* about the one that it could have meant */
    w.lie = 0;
    w.answer = DELIVERED;
    for (int i = 0; i < 10; i++)
        pass(&w, 10000);
    assert_int_equal(w.starts, 2);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static const int64_t ten_years = INT64_C(3652) * 86400 * 1000;

static void test_a_clock_set_back_delays_no_longer_than_the_longest_retry(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    loop_step_wall(w.q.loop, ten_years);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    pass(&w, 1000);
    loop_step_wall(w.q.loop, -ten_years);
    w.answer = DELIVERED;
    for (int i = 0; i < 38; i++)
        pass(&w, 120000); /* 3600 s and a quarter */
    assert_int_equal(w.starts, 2);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_clock_set_forward_returns_nothing_untried(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    inject(&w, 101, "remote", 1);
    pass(&w, 1000);
    loop_step_wall(w.q.loop, ten_years);
    w.answer = DELIVERED;
    for (int i = 0; i < 5; i++)
        pass(&w, 90000);
    pass(&w, 1000);
    assert_int_equal(w.reports, 0);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_read_only_disk_refuses_new_mail_and_keeps_the_old(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    pass(&w, 1000);
    simdisk_fail(w.sim, 1, 30 /* EROFS */);
    inject(&w, 101, "remote", 1);
    assert_int_equal(w.code, 451);
    pass(&w, 400000);
    assert_int_equal(queued(&w), 1);
    simdisk_fail(w.sim, 0, 0);
    w.answer = DELIVERED;
    for (int i = 0; i < 10; i++)
        pass(&w, 60000);
    assert_int_equal(queued(&w), 0);
    teardown(&w);
}

static void test_a_damaged_parked_file_is_held_and_others_go_on(void **state)
{
    (void)state;
    struct world w;
    char path[PARKED_NAME];
    setup(&w);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 1);
    inject(&w, 101, "remote", 1);
    pass(&w, 1000);
    parked_path(100, 6, path);
    assert_true(simdisk_flip(w.sim, path, 60));
    w.answer = DELIVERED;
    for (int i = 0; i < 5; i++)
        pass(&w, 90000);
    pass(&w, 1000);
    assert_int_equal(queued(&w), 1);
    assert_true(queue_find(&w.q, 100)->damaged && queue_find(&w.q, 100)->held);
    assert_true(simdisk_flip(w.sim, path, 60)); /* the file is still there, as it was */
    teardown(&w);
}

static void test_a_destination_block_of_the_configuration_limits_its_next_hop(void **state)
{
    (void)state;
    struct world w;
    struct error err;
    setup(&w);
    w.daemon.conf =
        conf_parse("test", SLICE_LIT("destination other.test X.test { concurrency 1 }\n"),
            &conf_root_schema, NULL, &err);
    assert_non_null(w.daemon.conf);
    w.silent = true;
    inject(&w, 100, "remote", 1);
    inject(&w, 101, "remote", 1);
    assert_int_equal(w.starts, 1);
    teardown(&w);
    conf_free(w.daemon.conf);
}

/* Recipient 0 of a loaded message turns out to stand for two others. */
static void expand(struct world *w, struct message *m)
{
    struct buf packed, via;
    buf_init(&packed, 4096);
    buf_init(&via, 4096);
    assert_int_equal(via_extend(&via, &m->content->rcpts[0].to), OK);
    for (int i = 0; i < 2; i++) {
        struct recipient to = {.address = i ? SLICE_LIT("b@x.test") : SLICE_LIT("a@x.test"),
            .transport = SLICE_LIT("remote"),
            .nexthop = SLICE_LIT("x.test"),
            .via = buf_slice(&via)};
        assert_int_equal(record_put(&packed, &recipient_record, &to), OK);
    }
    queue_unschedule(&w->q, m);
    m->content->rcpts[0].busy = true;
    m->busy++;
    queue_expand(&w->q, m, 0, buf_slice(&packed));
    settle(w);
    buf_clear(&via);
    buf_clear(&packed);
}

static void disconnect_remote(struct world *w)
{
    ipc_free(w->agents[1].ipc);
    w->agents[1].ipc = NULL;
    settle(w);
}

/* Power fails, and all is read again. */
static struct message *restart(struct world *w, uint64_t qid)
{
    struct error err;
    close_spool(w);
    simdisk_power_on(w->sim);
    open_spool(w);
    struct message *m = queue_find(&w->q, qid);
    assert_non_null(m);
    assert_int_equal(queue_load(&w->q, m, &err), OK);
    return m;
}

static void check_expanded(const struct message *m)
{
    const struct rcpt *r = m->content->rcpts;
    assert_int_equal(m->content->count, 4);
    assert_int_equal(r[0].st.state, RCPT_DONE);
    assert_int_equal(r[1].st.state, RCPT_WAITING);
    assert_true(slice_is(r[2].to.address, "a@x.test") && slice_is(r[3].to.address, "b@x.test"));
    assert_int_equal(r[2].st.state, RCPT_WAITING);
    assert_true(via_holds(r[3].to.via, SLICE_LIT("R@x.test")));
}

static void test_recipients_that_take_the_place_of_another_survive_a_power_cut(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    disconnect_remote(&w);
    inject(&w, 100, "remote", 2);
    expand(&w, queue_find(&w.q, 100));
    struct message *m = restart(&w, 100);
    assert_false(m->parked);
    check_expanded(m);
    connect_end(&w, &w.agents[1], CONV_DELIVER, ROLE_REMOTE);
    w.answer = DEFERRED;
    pass(&w, 1000);
    pass(&w, 1000);
    m = restart(&w, 100);
    assert_true(m->parked);
    check_expanded(m);
    teardown(&w);
}

static void test_a_parked_message_is_expanded_in_its_file(void **state)
{
    (void)state;
    struct world w;
    struct error err;
    setup(&w);
    w.answer = DEFERRED;
    inject(&w, 100, "remote", 2);
    pass(&w, 1000);
    struct message *m = queue_find(&w.q, 100);
    assert_true(m->parked);
    assert_int_equal(queue_load(&w.q, m, &err), OK);
    disconnect_remote(&w);
    expand(&w, m);
    m = restart(&w, 100);
    assert_true(m->parked);
    check_expanded(m);
    teardown(&w);
}

static void test_an_expansion_that_the_disk_refuses_changes_nothing_and_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    disconnect_remote(&w);
    inject(&w, 100, "remote", 2);
    struct message *m = queue_find(&w.q, 100);
    simdisk_fail(w.sim, 1, 5 /* EIO */);
    expand(&w, m);
    simdisk_fail(w.sim, 0, 0);
    assert_int_equal(m->content->count, 2);
    assert_int_equal(m->content->rcpts[0].st.state, RCPT_WAITING);
    settle(&w);
    expand(&w, m);
    check_expanded(restart(&w, 100));
    teardown(&w);
}

static void test_an_expansion_beyond_the_limit_of_recipients_fails(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.q.set.max_recipients = 3;
    disconnect_remote(&w);
    inject(&w, 100, "remote", 2);
    struct message *m = queue_find(&w.q, 100);
    expand(&w, m);
    assert_int_equal(m->content->count, 2);
    assert_int_equal(m->content->rcpts[0].st.state, RCPT_FAILED);
    assert_true(slice_is(m->content->rcpts[0].st.dsn, "5.4.6"));
    teardown(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_local_message_is_forgotten_only_after_its_sync),
        cmocka_unit_test(test_an_agent_that_dies_before_the_sync_gets_the_same_delivery_again),
        cmocka_unit_test(test_a_deferred_message_is_parked_and_tried_again_when_due),
        cmocka_unit_test(test_a_failure_is_reported_before_it_is_forgotten),
        cmocka_unit_test(test_notify_never_is_silent),
        cmocka_unit_test(test_notify_success_of_local_mail_is_reported),
        cmocka_unit_test(test_a_failed_double_bounce_ends_there),
        cmocka_unit_test(test_what_cannot_be_delivered_in_its_lifetime_fails),
        cmocka_unit_test(test_an_unknown_transport_waits_with_a_reason),
        cmocka_unit_test(test_a_qid_that_is_queued_is_not_taken_again),
        cmocka_unit_test(test_too_many_recipients_are_452),
        cmocka_unit_test(test_a_disk_that_refuses_gives_452_or_451),
        cmocka_unit_test(test_a_destination_block_of_the_configuration_limits_its_next_hop),
        cmocka_unit_test(test_an_agent_that_hangs_is_given_up_and_others_go_on),
        cmocka_unit_test(test_an_agent_that_is_only_slow_is_left_alone),
        cmocka_unit_test(test_an_idle_agent_is_not_asked),
        cmocka_unit_test(test_a_delivery_that_an_agent_forgot_is_tried_again),
        cmocka_unit_test(test_the_second_answer_of_an_agent_changes_nothing),
        cmocka_unit_test(test_an_agent_that_lies_about_recipients_delivers_nothing),
        cmocka_unit_test(test_a_clock_set_back_delays_no_longer_than_the_longest_retry),
        cmocka_unit_test(test_a_clock_set_forward_returns_nothing_untried),
        cmocka_unit_test(test_a_read_only_disk_refuses_new_mail_and_keeps_the_old),
        cmocka_unit_test(test_a_damaged_parked_file_is_held_and_others_go_on),
        cmocka_unit_test(test_recipients_that_take_the_place_of_another_survive_a_power_cut),
        cmocka_unit_test(test_a_parked_message_is_expanded_in_its_file),
        cmocka_unit_test(
            test_an_expansion_that_the_disk_refuses_changes_nothing_and_is_tried_again),
        cmocka_unit_test(test_an_expansion_beyond_the_limit_of_recipients_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
