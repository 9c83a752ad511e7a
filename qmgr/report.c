/* What senders are to hear, when, and what follows when they have been told. docs/smtp.md has the
 * rules. */
#include "qmgr/report.h"

#include <stdlib.h>

enum { INDEX_BITS = 64, WATCH_LEAST_MS = 60000 };

/* The bounce agent's own reports to the postmaster carry this listener: when even they fail,
 * there is nobody left to tell. */
static const char double_bounce[] = "double-bounce";

static const char *const kind_names[] = {
    [REPORT_FAILURE] = "failure", [REPORT_DELAY] = "delay", [REPORT_SUCCESS] = "success"};

static void log_report(struct message *m, const char *kind, struct slice sender, size_t n,
    uint64_t qid, struct slice reason)
{
    char id[ID_TEXT] = "";
    if (qid)
        id_print(qid, id);
    log_event(&m->log, msg_bounce, .kind = slice_of(kind), .sender = sender, .nrcpt = (uint32_t)n,
        .report = slice_of(id), .reason = reason);
}

/* --- who is to hear of what ------------------------------------------------------------------ */

/* Why nobody is told about this failure; NULL: somebody is. RFC 3461 §4.1, §6.2 (c). */
static const char *silent(const struct message *m, const struct rcpt *r)
{
    const struct envelope *e = &m->content->envelope;
    if (e->sender.n == 0 && slice_is(e->listener, double_bounce))
        return "the report to the postmaster failed";
    if (r->to.notify & NOTIFY_NEVER)
        return "NOTIFY=NEVER";
    if (r->to.notify && !(r->to.notify & NOTIFY_FAILURE))
        return "NOTIFY without FAILURE";
    return NULL;
}

void report_silent(struct qmgr *q, struct message *m)
{
    for (size_t i = 0; i < m->content->count; i++) {
        struct rcpt *r = &m->content->rcpts[i];
        const char *why = r->st.state == RCPT_FAILED ? silent(m, r) : NULL;
        if (!why)
            continue;
        log_report(m, "none", recipient_sender(&m->content->envelope, &r->to), 1, 0, slice_of(why));
        queue_rcpt_done(q, m, r, false);
    }
}

static bool late(const struct qmgr *q, const struct message *m, int64_t warning)
{
    const struct envelope *e = &m->content->envelope;
    return warning > 0 && loop_wall(q->loop) >= MAX(e->received, e->hold_until) + warning;
}

/* Whether a delay is to be told of to anybody, as far as the message itself says. */
static bool delay_possible(const struct qmgr *q, const struct message *m)
{
    bool any = late(q, m, q->set.retry.delay_warning);
    for (size_t i = 0; i < q->set.ntransports; i++)
        any = any || late(q, m, q->set.transports[i].retry.delay_warning);
    return any && !m->warned && !m->held && m->content->envelope.sender.n > 0;
}

static bool wants(const struct report *rep, const struct rcpt *r)
{
    const struct qmgr *q = rep->q;
    switch (rep->kind) {
    case REPORT_FAILURE:
        return r->st.state == RCPT_FAILED && !silent(rep->m, r);
    case REPORT_SUCCESS:
        return r->st.state == RCPT_DELIVERED;
    case REPORT_DELAY:
        return r->st.state == RCPT_WAITING && r->st.attempts > 0 && delay_possible(q, rep->m) &&
               r->to.owner.n == 0 && (r->to.notify == 0 || (r->to.notify & NOTIFY_DELAY)) &&
               late(q, rep->m, settings_retry(&q->set, r->to.transport)->delay_warning);
    }
    return false;
}

static uint32_t group_of(const struct report *rep, const struct rcpt *r)
{
    return recipient_group(rep->m->content->envelope.sender.n == 0, &r->to);
}

bool report_belongs(const struct report *rep, const struct rcpt *r)
{
    return wants(rep, r) && group_of(rep, r) == rep->group;
}

struct roster_choice report_choice(const struct report *rep)
{
    static const enum roster_what what[] = {[REPORT_FAILURE] = ROSTER_FAILED,
        [REPORT_DELAY] = ROSTER_WAITING,
        [REPORT_SUCCESS] = ROSTER_DELIVERED};
    return (struct roster_choice){.what = what[rep->kind], .one_group = true, .group = rep->group};
}

/* Chooses whom the report goes to: one each for the sender and for the owners of lists. False:
 * there is nothing to tell of this kind. */
static bool choose(struct report *rep)
{
    const struct content *c = rep->m->content;
    struct roster_choice any = report_choice(rep);
    any.one_group = false;
    for (size_t i = 0; i < c->count; i++) {
        if (!wants(rep, &c->rcpts[i]))
            continue;
        rep->group = group_of(rep, &c->rcpts[i]);
        return true;
    }
    if (!c->roster || !roster_has(c->roster, &any))
        return false;
    if (rep->kind == REPORT_DELAY)
        return !c->delay_told && delay_possible(rep->q, rep->m);
    rep->group = roster_group(c->roster, &any);
    return true;
}

/* --- when ------------------------------------------------------------------------------------ */

bool report_overdue(const struct qmgr *q, const struct message *m)
{
    int64_t now = loop_wall(q->loop);
    struct report failures = {
        .q = (struct qmgr *)q, .m = (struct message *)m, .kind = REPORT_FAILURE};
    return m->failed_since && m->content && !q->draining && now >= m->report_after &&
           now >= m->failed_since + q->set.report_wait && choose(&failures);
}

void report_watch(struct qmgr *q, struct message *m)
{
    if (m->failed_since == 0 || m->busy == 0)
        return;
    int64_t due = m->failed_since + q->set.report_wait - loop_wall(q->loop);
    queue_wake_in(q, m, MAX(due, (int64_t)WATCH_LEAST_MS));
}

/* --- what follows ---------------------------------------------------------------------------- */

static void settle_roster(struct report *rep)
{
    struct message *m = rep->m;
    struct roster_choice told = report_choice(rep);
    size_t n = roster_settle(m->content->roster, &told);
    if (rep->kind == REPORT_SUCCESS)
        m->delivered += (uint32_t)(n - MIN(n, rep->expanded));
    else
        m->bounced += (uint32_t)n;
}

/* Those it tells of need nothing more. */
static void settle_told(struct report *rep)
{
    struct qmgr *q = rep->q;
    struct message *m = rep->m;
    struct content *c = m->content;
    m->changes++;
    if (rep->kind == REPORT_DELAY) {
        m->warned |= rep->n > 0;
        c->delay_told = true;
        queue_note_done(q, m, NULL, 0);
        return;
    }
    if (rep->kind == REPORT_FAILURE)
        m->failed_since = 0;
    if (c->roster)
        settle_roster(rep);
    for (size_t i = 0; !c->roster && i < rep->n; i++)
        queue_rcpt_done(q, m, &c->rcpts[rep->places[i]], rep->kind == REPORT_SUCCESS);
    queue_note_done(q, m, rep->places, rep->n);
}

static void accepted(struct report *rep)
{
    struct message *m = rep->m;
    rep->accepted = true;
    m->reports = m->told.serial = rep->serial;
    m->told.kind = rep->kind;
    m->told.group = rep->group;
    settle_told(rep);
}

void report_accepted(struct qmgr *q, const struct envelope *e)
{
    struct message *m = e->about ? queue_find(q, e->about) : NULL;
    struct report *rep = m ? m->reporting : NULL;
    if (rep && !rep->accepted && rep->serial == e->about_serial)
        accepted(rep);
}

/* The report was accepted before a crash. What is not parked is found with everything waiting. */
static void settle_found(struct qmgr *q, struct message *m, const struct envelope *e)
{
    uint32_t places[INDEX_BITS];
    size_t n = 0;
    for (uint32_t i = 0; i < INDEX_BITS && i < m->content->count; i++) {
        struct rcpt *r = &m->content->rcpts[i];
        if (!(e->about_indexes >> i & 1) || r->st.state == RCPT_DONE)
            continue;
        queue_rcpt_done(q, m, r, e->about_kind == REPORT_SUCCESS);
        places[n++] = i;
    }
    m->reports = MAX(m->reports, e->about_serial);
    queue_note_done(q, m, places, n);
}

void report_found(struct qmgr *q, const struct envelope *e)
{
    struct message *m = e->about ? queue_find(q, e->about) : NULL;
    if (!m)
        return;
    m->warned |= e->about_kind == REPORT_DELAY;
    if (m->content) {
        settle_found(q, m, e);
    } else if (e->about_serial > m->told.serial) {
        m->told.serial = e->about_serial;
        m->told.kind = e->about_kind;
        m->told.group = e->about_group;
        queue_wake_in(q, m, 0); /* so that its file learns it */
    }
}

static void report_free(struct report *rep)
{
    content_free(rep->portion);
    buf_clear(&rep->envelope);
    buf_clear(&rep->packed);
    free(rep->places);
    free(rep);
}

void report_over(struct report *rep, int code, uint64_t qid, struct slice why)
{
    struct qmgr *q = rep->q;
    struct message *m = rep->m;
    m->reporting = NULL;
    if (code == OK || rep->accepted) {
        if (rep->n > 0)
            log_report(m, kind_names[rep->kind], slice_of(rep->sender), rep->n, qid, SLICE_LIT(""));
        if (!rep->accepted)
            settle_told(rep);
    } else {
        log_report(m, kind_names[rep->kind], slice_of(rep->sender), rep->n, 0, why);
        m->report_after = loop_wall(q->loop) + REPORT_RETRY_MS;
    }
    report_free(rep);
    queue_settle(q, m);
}

/* --- beginning ------------------------------------------------------------------------------- */

/* Whether the disk is ready for it: it has to know what happened to those that are told of, and
 * which they are after a crash. Otherwise the message goes on when it is. */
static bool prepared(struct report *rep)
{
    struct qmgr *q = rep->q;
    struct message *m = rep->m;
    if (m->parked && m->saved != m->changes) {
        queue_update(q, m);
        return false;
    }
    if (!m->parked && m->content->count > INDEX_BITS) {
        m->due_wall = loop_wall(q->loop);
        queue_park(q, m, "many recipients are reported");
        return false;
    }
    return !m->content->roster || portion_leave(q, m) == OK;
}

static void begin(const struct report *chosen)
{
    struct report *rep = NEW(struct report);
    struct message *m = chosen->m;
    *rep = *chosen;
    rep->serial = m->reports + 1;
    if (!m->content->roster)
        rep->places = xcalloc(m->content->count + 1, sizeof(*rep->places));
    m->reporting = rep;
    report_send(rep);
}

bool report_begin(struct qmgr *q, struct message *m)
{
    static const enum report_kind kinds[] = {REPORT_FAILURE, REPORT_SUCCESS, REPORT_DELAY};
    if (q->draining || loop_wall(q->loop) < m->report_after)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct report rep = {.q = q, .m = m, .kind = kinds[i]};
        if (!choose(&rep))
            continue;
        if (prepared(&rep))
            begin(&rep);
        return true;
    }
    return false;
}
