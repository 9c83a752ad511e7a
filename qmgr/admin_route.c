/*
 * Routing a parked message again: its waiting recipients as they were given, all of them to
 * another address, or as they are to another node. What lookupd answers becomes new recipients
 * behind the old ones, which are then done: an index, and with it a delivery id, never changes its
 * meaning. The parked file learns it all with one update, so that a crash leaves the old recipients
 * or the new ones.
 */
#include <stdlib.h>

#include "libmail/proto/queue.h"
#include "libmail/proto/route.h"
#include "qmgr/admin.h"

enum { WAIT_MS = 20, WAITS = 250 };

/* What becomes of a recipient. */
enum fate { FATE_UNKNOWN, FATE_KEPT, FATE_LEFT, FATE_FAILED, FATE_REPLACED };

struct rerouting {
    struct list link; /* the peer's, while it is there */
    struct peer *peer;
    struct qmgr *q;
    struct message *m; /* moving is set, so it stays; NULL before */
    uint64_t qid;
    struct log log;
    struct timer timer; /* while the message is being worked on */
    unsigned waits;
    uint32_t id;
    struct actor who;
    char verb[17], address[ENVELOPE_ADDRESS_MAX + 1], text[400];
    bool drain;       /* address is a node, [HOST]:PORT */
    enum fate *fates; /* of the recipients there were */
    size_t at;        /* the one whose address is asked about */
    struct recipient *added;
    size_t known, nadded, changed;
    int code;
};

static struct rcpt *rcpt_at(const struct rerouting *r, size_t i)
{
    return &r->m->content->rcpts[i];
}

/* What the recipient was called when the message came; whom it was forwarded to is called what the
 * forwarding says, which must not be followed a second time. */
static struct slice given(const struct rcpt *rcpt)
{
    return rcpt->to.original.n && rcpt->to.via.n == 0 ? rcpt->to.original : rcpt->to.address;
}

/* Stands for a report only; those it was expanded to are recipients of their own. */
static bool is_expanded(const struct rerouting *r, size_t i)
{
    return slice_is(rcpt_at(r, i)->to.transport, TRANSPORT_EXPANDED);
}

/* Recipients that the present question is about. */
static bool concerned(const struct rerouting *r, size_t i)
{
    if (is_expanded(r, i))
        return false;
    return r->address[0] || slice_eq(given(rcpt_at(r, i)), given(rcpt_at(r, r->at)));
}

static void answer(struct rerouting *r)
{
    struct queue_acted reply = {
        .code = r->code, .count = r->code == OK, .text = slice_first(slice_of(r->text), 255)};
    if (r->peer && r->peer->ipc)
        ipc_reply(r->peer->ipc, r->id, r->qid, queue_acted_type, &reply, -1);
    actor_log(r->q, &r->log, &r->who, slice_of(r->verb), slice_of(r->address),
        r->text[0] ? r->text : "done", r->code == OK, SLICE_LIT(""));
}

/* Gives the message back to the queue. */
static void over(struct rerouting *r)
{
    struct qmgr *q = r->q;
    struct message *m = r->m;
    answer(r);
    list_remove(&r->link);
    free(r->added);
    free(r->fates);
    free(r);
    if (!m)
        return;
    m->moving = m->routing = false;
    if (m->deleted || (m->held && m->content))
        queue_settle(q, m);
    else if (!m->held)
        queue_wake_in(q, m, 0);
}

static void saved(struct spool_job *job, void *arg)
{
    struct rerouting *r = arg;
    struct message *m = r->m;
    if (job->code == OK) {
        m->saved = (uint32_t)job->generation;
        m->parked_end = job->offset + buf_len(&job->text);
    } else {
        /* Only the disk is right about who the recipients are. */
        r->code = job->code;
        snprintf(r->text, sizeof(r->text), "%.*s", (int)sizeof(r->text) - 1, job->error.text);
        queue_unload(r->q, m);
    }
    spool_job_free(job);
    over(r);
}

/* The update, where it is so long that it is written down beside the loop. Nobody changes the
 * recipients meanwhile: `routing` is set. */
struct saving {
    struct beside_job job;
    struct rerouting *r;
    struct spool_job *update;
    int code;
};

static void submit(struct rerouting *r, struct spool_job *job, int code)
{
    if (code == OK) {
        committer_submit(r->q->committer, job);
        return;
    }
    job->code = error_set(&job->error, ERR_LIMIT, "the envelope becomes too large");
    saved(job, r);
}

static void write_down(struct beside_job *job)
{
    struct saving *s = CONTAINER_OF(job, struct saving, job);
    s->code = message_put_growth(s->r->m, s->r->known, &s->update->text);
}

static void written_down(struct beside_job *job, bool ran)
{
    struct saving *s = CONTAINER_OF(job, struct saving, job);
    (void)ran; /* when qmgr stops, what was not is as if it had failed */
    submit(s->r, s->update, s->code);
    free(s);
}

static void save(struct rerouting *r)
{
    struct message *m = r->m;
    struct spool_job *job = spool_job_new(SPOOL_UPDATE, m->qid);
    m->changes++;
    m->due_wall = m->held ? m->due_wall : MAX(loop_wall(r->q->loop), (int64_t)1);
    job->size = m->size;
    job->offset = m->parked_end;
    job->generation = m->changes; /* what the file will know */
    job->due = m->held ? 0 : m->due_wall;
    job->done = saved;
    job->arg = r;
    if (!large_count(r->q, m->content->count)) {
        submit(r, job, message_put_growth(m, r->known, &job->text));
        return;
    }
    struct saving *s = NEW(struct saving);
    *s = (struct saving){
        .job = {.work = write_down, .done = written_down}, .r = r, .update = job, .code = ERR_TEMP};
    beside_run(r->q->beside, &s->job);
}

static struct slice keep(struct content *c, struct slice s)
{
    return arena_dup(&c->arena, s);
}

static void apply(struct rerouting *r)
{
    struct content *c = r->m->content;
    bool waits = queue_awaits_release(r->q, r->m); /* another route is no earlier time */
    for (size_t i = 0; i < r->known; i++) {
        struct rcpt *rcpt = rcpt_at(r, i);
        char text[ENVELOPE_ADDRESS_MAX + 32];
        if (r->fates[i] == FATE_FAILED)
            queue_rcpt_failed(r->q, r->m, rcpt);
        else if (r->fates[i] == FATE_KEPT && !waits)
            rcpt->st.next = 0;
        if (r->fates[i] != FATE_REPLACED)
            continue;
        snprintf(text, sizeof(text),
            r->drain        ? "drained to %s"
            : r->address[0] ? "redirected to %s"
                            : "routed again%s",
            r->address);
        rcpt_note(rcpt, rcpt->st.status, SLICE_LIT(""), slice_of(text), SLICE_LIT(""));
        rcpt->st.state = RCPT_DONE;
    }
    for (size_t i = 0; i < r->nadded; i++) {
        content_append(c, &r->added[i]);
        if (waits)
            c->rcpts[c->count - 1].st.next = c->envelope.hold_until;
    }
    if (r->changed > 0)
        save(r);
    else
        over(r);
}

/* Done because others took its place, as apply() says: the message did not get there. */
static bool was_replaced(const struct rcpt *rcpt)
{
    return rcpt->st.dsn.n == 0 &&
           (slice_is(rcpt->st.text, "routed again") || slice_starts(rcpt->st.text, "drained to ") ||
               slice_starts(rcpt->st.text, "redirected to "));
}

/* A recipient of this message that stands for the same; -1: none. One that waits counts before
 * those that are done: it may have taken the place of one of them. */
static ptrdiff_t find_same(const struct rerouting *r, const struct recipient *to)
{
    ptrdiff_t done = -1;
    for (size_t i = 0; i < r->known; i++) {
        const struct rcpt *rcpt = rcpt_at(r, i);
        if (!concerned(r, i) || !slice_eq(rcpt->to.address, to->address))
            continue;
        if (rcpt->st.state == RCPT_WAITING)
            return (ptrdiff_t)i;
        if (done < 0 && !r->address[0] && !was_replaced(rcpt))
            done = (ptrdiff_t)i;
    }
    return done;
}

static void take_recipient(struct rerouting *r, const struct recipient *to)
{
    struct content *c = r->m->content;
    const struct recipient *old = &rcpt_at(r, r->at)->to;
    ptrdiff_t same = find_same(r, to);
    if (same >= 0) {
        const struct rcpt *rcpt = rcpt_at(r, (size_t)same);
        if (rcpt->st.state != RCPT_WAITING)
            return; /* it has the message already */
        if (slice_eq(rcpt->to.transport, to->transport) &&
            slice_eq(rcpt->to.nexthop, to->nexthop)) {
            r->fates[same] = FATE_KEPT;
            return;
        }
    }
    r->added = xrealloc(r->added, r->nadded + 1, sizeof(*r->added));
    r->added[r->nadded++] = (struct recipient){.address = keep(c, to->address),
        .original = keep(c, to->original),
        .orcpt = old->orcpt,
        .notify = old->notify,
        .via = old->via,
        .owner = to->owner.n ? keep(c, to->owner) : old->owner,
        .transport = keep(c, to->transport),
        .nexthop = keep(c, to->nexthop)};
}

static void take_route(struct rerouting *r, struct slice packed)
{
    struct reader reader = reader_of(packed);
    struct recipient to;
    while (reader.rest.n > 0 && record_get(&reader, &recipient_record, &to) == OK)
        take_recipient(r, &to);
}

/* The recipients concerned that are not kept get this fate. */
static void decide(struct rerouting *r, enum fate fate, const struct route_verdict *v)
{
    for (size_t i = 0; i < r->known; i++) {
        struct rcpt *rcpt = rcpt_at(r, i);
        if (rcpt->st.state != RCPT_WAITING || !concerned(r, i))
            continue;
        if (r->fates[i] != FATE_KEPT)
            r->fates[i] = fate;
        r->changed += r->fates[i] != FATE_LEFT;
        if (fate == FATE_FAILED) {
            rcpt_note(rcpt, FAILED, v->dsn, v->text, SLICE_LIT(""));
            rcpt->st.last = loop_wall(r->q->loop);
        }
    }
}

/* Everything that waits goes to the other node as it is; no question arises. */
static void drain(struct rerouting *r)
{
    struct content *c = r->m->content;
    struct slice node = keep(c, slice_of(r->address));
    for (size_t i = 0; i < r->known; i++) {
        const struct rcpt *rcpt = rcpt_at(r, i);
        bool there =
            slice_is(rcpt->to.transport, TRANSPORT_DRAIN) && slice_eq(rcpt->to.nexthop, node);
        if (rcpt->st.state != RCPT_WAITING || is_expanded(r, i))
            continue;
        r->fates[i] = there ? FATE_KEPT : FATE_REPLACED;
        r->changed++;
        if (there)
            continue;
        r->added = xrealloc(r->added, r->nadded + 1, sizeof(*r->added));
        r->added[r->nadded] = rcpt->to;
        r->added[r->nadded].transport = SLICE_LIT(TRANSPORT_DRAIN);
        r->added[r->nadded++].nexthop = node;
    }
    r->m->held = false;
    apply(r);
}

static void ask_next(struct rerouting *r);

static void on_route(struct ipc_in *in, void *arg)
{
    struct rerouting *r = arg;
    const struct route_verdict *v = in ? in->msg : NULL;
    if (v && v->code == 250 && v->recipients.n > 0) {
        take_route(r, v->recipients);
        if (r->known + r->nadded > r->q->set.max_recipients) {
            r->code = ERR_LIMIT;
            snprintf(r->text, sizeof(r->text), "too many recipients");
            over(r);
            return;
        }
        decide(r, FATE_REPLACED, v);
    } else if (v && v->code >= 500 && !r->address[0]) {
        decide(r, FATE_FAILED, v);
    } else {
        r->code = v && v->code >= 500 ? ERR_NOT_FOUND : ERR_TEMP;
        if (v)
            snprintf(r->text, sizeof(r->text), "%u %.*s", v->code, SLICE_FMT(v->text));
        else
            snprintf(r->text, sizeof(r->text), "lookupd does not answer");
        decide(r, FATE_LEFT, v);
    }
    if (r->address[0])
        apply(r);
    else
        ask_next(r);
}

static void ask(struct rerouting *r)
{
    const struct envelope *e = &r->m->content->envelope;
    struct route_check msg = {
        .address = r->address[0] ? slice_of(r->address) : given(rcpt_at(r, r->at)),
        .sender = e->sender,
        .login = SLICE_LIT(""),
        .client = SLICE_LIT(""),
        .may_relay = true};
    daemon_call(
        r->q->daemon, CONV_ROUTE, ROLE_LOOKUPD, route_check_type, r->m->qid, &msg, -1, on_route, r);
}

static void ask_next(struct rerouting *r)
{
    while (r->at < r->known && (rcpt_at(r, r->at)->st.state != RCPT_WAITING ||
                                   is_expanded(r, r->at) || r->fates[r->at] != FATE_UNKNOWN))
        r->at++;
    if (r->at < r->known)
        ask(r);
    else
        apply(r);
}

static int check(struct qmgr *q, struct message *m, struct error *err)
{
    if (!m)
        return error_set(err, ERR_NOT_FOUND, "no such message in the queue");
    if (!admin_idle(m) || m->committing || m->giving_up || !m->parked)
        return error_set(err, ERR_BUSY, "it is being worked on: put it on hold first");
    if (admin_must_wait(q, m, false))
        return ERR_AGAIN;
    if (queue_load_whole(q, m, err) != OK)
        return err->code;
    for (size_t i = 0; i < m->content->count; i++)
        if (m->content->rcpts[i].st.state == RCPT_WAITING)
            return OK;
    return error_set(err, ERR_NOT_FOUND, "no recipient of it waits");
}

/* Begins once nothing else is under way with the message. */
static void try_begin(void *arg)
{
    struct rerouting *r = arg;
    struct message *m = admin_find(r->q, r->qid);
    struct error err = {0};
    r->code = check(r->q, m, &err);
    if (r->code == ERR_AGAIN && !r->q->draining) {
        admin_wait_for(r->q, m, try_begin, r);
        return;
    }
    if (r->code == ERR_BUSY && r->waits++ < WAITS && !r->q->draining) {
        timer_start(&r->timer, WAIT_MS);
        return;
    }
    if (r->code != OK) {
        snprintf(r->text, sizeof(r->text), "%.*s", (int)sizeof(r->text) - 1, err.text);
        over(r);
        return;
    }
    r->m = m;
    r->known = m->content->count;
    r->fates = xcalloc(r->known, sizeof(*r->fates));
    m->moving = m->routing = true;
    heap_remove(&r->q->due, &m->due);
    if (r->drain)
        drain(r);
    else
        ask_next(r);
}

int admin_route(struct peer *peer, uint32_t id, struct message *m, const struct queue_act *ask,
    struct error *err)
{
    struct qmgr *q = peer->daemon->data;
    struct slice verb = ask->verb, address = ask->argument;
    if (slice_is(verb, "requeue") != (address.n == 0))
        return error_set(err, ERR_SYNTAX, "redirect and drain take an address, requeue none");
    struct rerouting *r = NEW(struct rerouting);
    *r = (struct rerouting){.peer = peer,
        .q = q,
        .qid = m->qid,
        .id = id,
        .who = {peer->uid, ask->act, NULL},
        .log = m->log};
    r->drain = slice_is(verb, "drain");
    snprintf(r->verb, sizeof(r->verb), "%.*s", SLICE_FMT(verb));
    snprintf(r->address, sizeof(r->address), "%.*s", SLICE_FMT(address));
    timer_init(&r->timer, q->loop, try_begin, r);
    if (!peer->data) {
        struct list *mine = NEW(struct list);
        list_init(mine);
        peer->data = mine;
    }
    list_append(peer->data, &r->link);
    try_begin(r);
    return OK;
}

void admin_down(struct peer *peer)
{
    struct list *mine = peer->data;
    admin_sweep_peer_down(peer);
    admin_look_down(peer);
    if (!mine)
        return;
    LIST_EACH(it, mine)
    {
        LIST_ENTRY(it, struct rerouting, link)->peer = NULL;
        list_remove(it);
    }
    free(mine);
    peer->data = NULL;
}
