/*
 * Random histories of the spool on a disk that loses, tears and reorders what was not synced.
 * After each crash: what was acknowledged is there, whole (I4, I5); what was finished stays
 * finished; nothing else appears; a failing disk loses nothing (I7).
 *
 * 20000 histories, one process per processor. VEREDUS_SEED=n runs one and tells it,
 * VEREDUS_HISTORIES=n that many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/crc32c.h"
#include "qmgr/message.h"
#include "qmgr/spool_private.h"
#include "tests/crash/simdisk.h"

enum {
    MESSAGES = 400,
    ROUNDS = 24, /* of a long history; most are shorter */
    RCPTS = 3,
    EXPANSIONS = 4, /* of one message, each with one recipient */
#if defined(__SANITIZE_ADDRESS__)
    HISTORIES = 2000,
#else
    HISTORIES = 20000,
#endif
    BATCH = 10,
    LOST_MAX = 32
};

enum life { UNKNOWN_YET, MAYBE, LIVE, ENDING, ENDED };

/* A recipient that took the place of another. */
struct expansion {
    unsigned parent, id;
};

struct model {
    uint64_t qid, size, generation, parked_end;
    enum life life;
    bool parked, touched, found;
    char big[LOGREC_BIG_NAME];
    unsigned done, maybe_done; /* bits of recipients: acknowledged, in the latest record */
    struct expansion expanded[EXPANSIONS], failed[EXPANSIONS];
    unsigned nexpanded, nfailed; /* failed: may be read or not, one of them */
    struct expansion pending;    /* of the job under way */
    bool held, maybe_held;
    unsigned written; /* in any record since the last start: what failed may be read or not */
};

struct history {
    uint64_t seed;
    struct simdisk *sim;
    struct disk *disk;
    struct spool *spool;
    struct model list[MESSAGES];
    size_t n;
    char wrong[256]; /* the first broken promise */
    unsigned troubles, ids, format;
    unsigned unread;    /* parked files that were found to be damaged */
    bool told, damaged; /* damaged: a bit was flipped, so what is wrong must have been noticed */
    bool old;           /* parts of it were written in format 1 */
    char flipped[128];  /* the file with that bit, or empty */
    unsigned named;     /* troubles that name the flipped file */
    char lost[LOST_MAX][SPOOL_PATH]; /* segments that somebody removed or overwrote with zeros */
    unsigned nlost, lost_named;
};

static void wrong(struct history *h, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void wrong(struct history *h, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!h->wrong[0])
        vsnprintf(h->wrong, sizeof(h->wrong), fmt, ap);
    va_end(ap);
}

#define STORY(h, ...) ((h)->told ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

static uint64_t dice(struct history *h, uint64_t n)
{
    return simdisk_random(h->sim) % n;
}

/* A piece of one long text in which no two sectors are alike. */
static struct slice body_of(const struct model *m)
{
    static char text[16384];
    for (uint32_t i = 0, x = 1; !text[sizeof(text) - 1] && i < sizeof(text); i++) {
        x = x * 1664525 + 1013904223;
        text[i] = (char)('a' + (x >> 24) % 26);
    }
    return (struct slice){text + m->qid * 131 % 8192, m->size};
}

static struct envelope envelope_of(const struct model *m, char sender[40])
{
    snprintf(sender, 40, "s%" PRIu64 "@test", m->qid);
    return (struct envelope){.sender = slice_of(sender), .received = (int64_t)m->qid};
}

static void put_recipients(struct buf *b)
{
    static const struct recipient to = {
        .address = {"r@test", 6}, .transport = {"remote", 6}, .nexthop = {"test", 4}};
    for (int i = 0; i < RCPTS; i++)
        assert_int_equal(record_put(b, &recipient_record, &to), OK);
}

static struct model *find(struct history *h, uint64_t qid)
{
    return qid >= 1 && qid <= h->n ? &h->list[qid - 1] : NULL;
}

/* --- jobs ------------------------------------------------------------------------------------ */

static void drop_job(struct spool_job *job, void *arg)
{
    (void)arg;
    spool_job_free(job);
}

static struct spool_job *new_job(enum spool_op op, struct model *m)
{
    struct spool_job *job = spool_job_new(op, m->qid);
    job->size = m->size;
    job->generation = m->generation;
    job->done = drop_job;
    job->due = 1000;
    m->touched = true;
    return job;
}

static void forget_record(struct spool_job *job)
{
    logrec_begin(&job->record, LOGREC_FORGET, job->qid);
    assert_int_equal(logrec_finish(&job->record), OK);
}

/* A client writes a large body into the file it was lent. */
static bool write_big(struct history *h, struct model *m)
{
    int fd = spool_big_create(h->disk, m->big);
    struct slice body = body_of(m);
    struct iovec iov = {(char *)body.p, body.n};
    if (fd < 0)
        return false;
    int rc = h->disk->ops->write(h->disk, fd, &iov, 1, 0);
    h->disk->ops->close(h->disk, fd);
    return rc == 0;
}

static struct spool_job *accept_job(struct history *h)
{
    struct buf envelope, recipients;
    char sender[40];
    struct model *m = &h->list[h->n++];
    *m = (struct model){.qid = h->n, .size = 1 + dice(h, 2500), .life = MAYBE};
    buf_init(&envelope, 4096);
    buf_init(&recipients, 4096);
    struct envelope e = envelope_of(m, sender);
    assert_int_equal(record_put(&envelope, &envelope_record, &e), OK);
    put_recipients(&recipients);
    struct spool_job *job = new_job(SPOOL_ACCEPT, m);
    if (dice(h, 4) == 0 && !write_big(h, m))
        m->big[0] = '\0';
    snprintf(job->big, sizeof(job->big), "%s", m->big);
    struct buf e1, to1;
    buf_init(&e1, 4096);
    buf_init(&to1, 4096);
    assert_int_equal(
        format_convert(buf_slice(&envelope), &envelope_record, format_envelope(h->format), &e1),
        OK);
    assert_int_equal(format_convert(buf_slice(&recipients), &recipient_record,
                         format_recipient(h->format), &to1),
        OK);
    struct logrec_accept a = {.envelope = buf_slice(&e1),
        .recipients = buf_slice(&to1),
        .size = m->size,
        .big = slice_of(m->big),
        .body = m->big[0] ? SLICE_LIT("") : body_of(m)};
    assert_int_equal(logrec_put_accept(&job->record, h->format, m->qid, &a), OK);
    buf_clear(&envelope);
    buf_clear(&recipients);
    buf_clear(&e1);
    buf_clear(&to1);
    return job;
}

/* As long as a sector, so that two blocks can have one in common. */
static const char excuse[] =
    "The-first-of-them-said-that-it-would-rather-not-take-this-message-at-the-moment,"
    "the-second-one-did-not-answer,the-third-one-hung-up-in-the-middle-of-its-greeting,"
    "and-the-fourth-one-was-of-the-opinion-that-our-address-is-dynamic,which-it-is-not,"
    "so-that-we-shall-have-to-try-all-of-them-again-in-a-while,in-the-hope-that-somebody-"
    "has-seen-to-it-by-then,or-else-to-return-it-to-its-sender-with-this-explanation";

enum { RCPTS_MAX = RCPTS + EXPANSIONS };

static unsigned count(const struct model *m)
{
    return RCPTS + m->nexpanded;
}

static void put_states(const struct model *m, struct parked_state states[RCPTS_MAX])
{
    for (uint32_t i = 0; i < RCPTS_MAX; i++)
        states[i] = (struct parked_state){.index = i,
            .state = m->maybe_done >> i & 1 ? RCPT_DONE : RCPT_WAITING,
            .text = {excuse, sizeof(excuse) - 1},
            .dsn = SLICE_LIT("4.0.0"),
            .mta = SLICE_LIT("")};
}

static struct parked_message line_of(const struct model *m, char id[ID_TEXT])
{
    id_print(m->qid, id);
    return (struct parked_message){.qid = slice_of(id), .due = 1000, .held = m->maybe_held};
}

static const struct recipient plain = {
    .address = {"r@test", 6}, .transport = {"remote", 6}, .nexthop = {"test", 4}};

static struct recipient expanded_to(const struct expansion *x, char address[32])
{
    struct recipient to = plain;
    snprintf(address, 32, "x%u@test", x->id);
    to.address = slice_of(address);
    to.via = SLICE_LIT("r@test");
    to.owner = x->id % 2 ? SLICE_LIT("owner-l@test") : SLICE_LIT("");
    return to;
}

static struct spool_job *park_job(const struct history *h, struct model *m)
{
    struct recipient to[RCPTS_MAX];
    struct parked_state states[RCPTS_MAX];
    char addresses[EXPANSIONS][32];
    char id[ID_TEXT], sender[40];
    struct spool_job *job = new_job(SPOOL_PARK, m);
    for (unsigned i = 0; i < RCPTS; i++)
        to[i] = plain;
    for (unsigned i = 0; i < m->nexpanded; i++)
        to[RCPTS + i] = expanded_to(&m->expanded[i], addresses[i]);
    put_states(m, states);
    struct parked p = {.message = line_of(m, id),
        .envelope = envelope_of(m, sender),
        .recipients = to,
        .states = states,
        .format = h->format,
        .count = count(m)};
    char crc[9];
    snprintf(crc, sizeof(crc), "%08" PRIx32, crc32c(0, body_of(m)));
    p.message.crc = slice_of(crc);
    assert_int_equal(parked_put(&job->text, &p), OK);
    forget_record(job);
    snprintf(job->big, sizeof(job->big), "%s", m->big);
    if (!m->big[0]) { /* the batch may hold several: each needs its own copy */
        struct slice body = body_of(m);
        char *copy = xmemdup0(body.p, body.n);
        job->body = (struct slice){copy, body.n};
    }
    return job;
}

static struct spool_job *update_job(const struct history *h, struct model *m)
{
    struct parked_state states[RCPTS_MAX];
    char id[ID_TEXT];
    struct spool_job *job = new_job(SPOOL_UPDATE, m);
    struct parked_message line = line_of(m, id);
    char crc[9];
    snprintf(crc, sizeof(crc), "%08" PRIx32, crc32c(0, body_of(m)));
    line.crc = slice_of(crc);
    put_states(m, states);
    job->offset = m->parked_end;
    if (!m->pending.id) {
        assert_int_equal(parked_put_update(&job->text, h->format, &line, states, count(m)), OK);
        return job;
    }
    char address[32];
    struct recipient to = expanded_to(&m->pending, address);
    states[m->pending.parent].state = RCPT_DONE;
    assert_int_equal(
        parked_put_growth(&job->text, h->format, &line, &to, 1, states, count(m) + 1), OK);
    return job;
}

/* A recipient that nothing was said about yet stands for another. */
static struct spool_job *expand_job(struct history *h, struct model *m)
{
    unsigned parent = (unsigned)dice(h, count(m));
    if (m->nexpanded == EXPANSIONS || m->nfailed == EXPANSIONS || (m->written >> parent & 1) ||
        (!m->parked && h->format == 1))
        return NULL;
    m->pending = (struct expansion){parent, ++h->ids};
    m->failed[m->nfailed++] = m->pending;
    if (m->parked)
        return update_job(h, m);
    struct spool_job *job = new_job(SPOOL_EXPAND, m);
    struct buf packed, done;
    char address[32];
    struct recipient to = expanded_to(&m->pending, address);
    buf_init(&packed, 4096);
    buf_init(&done, 4);
    buf_u32(&done, parent);
    assert_int_equal(record_put(&packed, &recipient_record, &to), OK);
    struct logrec_expand x = {
        .first = count(m), .done = buf_slice(&done), .recipients = buf_slice(&packed)};
    assert_int_equal(logrec_put_expand(&job->record, m->qid, &x), OK);
    buf_clear(&packed);
    buf_clear(&done);
    return job;
}

static struct spool_job *done_job(struct model *m)
{
    struct spool_job *job = new_job(SPOOL_DONE, m);
    logrec_begin(&job->record, LOGREC_DONE, m->qid);
    for (uint32_t i = 0; i < count(m); i++)
        if (m->maybe_done >> i & 1)
            buf_u32(&job->record, i);
    assert_int_equal(logrec_finish(&job->record), OK);
    return job;
}

static struct spool_job *end_job(struct model *m)
{
    struct spool_job *job = new_job(m->parked ? SPOOL_REMOVE : SPOOL_FORGET, m);
    m->life = ENDING;
    snprintf(job->big, sizeof(job->big), "%s", m->parked ? "" : m->big);
    if (!m->parked)
        forget_record(job);
    return job;
}

static struct spool_job *random_job(struct history *h)
{
    struct spool_figures f;
    spool_figures(h->spool, &f);
    if (h->n < MESSAGES && dice(h, 2) == 0)
        return accept_job(h);
    struct model *m = h->n ? &h->list[dice(h, h->n)] : NULL;
    if (!m || m->touched || (m->life != LIVE && m->life != ENDING))
        return NULL;
    m->pending = (struct expansion){0};
    if (m->life == ENDING)
        return end_job(m); /* tried again */
    if (!m->parked && (f.free_segments <= 1 || dice(h, 4) == 0))
        return park_job(h, m);
    switch (dice(h, 6)) {
    case 0:
    case 1:
        m->maybe_done |= 1u << dice(h, count(m));
        m->written |= m->maybe_done;
        return m->parked ? update_job(h, m) : done_job(m);
    case 2:
        return expand_job(h, m);
    case 3:
        if (!m->parked)
            return NULL;
        m->maybe_held = !m->held;
        return update_job(h, m);
    default:
        break;
    }
    return end_job(m);
}

/* What was tried before cannot come back, or has happened. */
static void recipients_written(struct model *m)
{
    if (m->pending.id) {
        m->expanded[m->nexpanded++] = m->pending;
        m->maybe_done |= 1u << m->pending.parent;
        m->written |= m->maybe_done;
        m->done |= 1u << m->pending.parent;
        m->pending.id = 0;
    }
    m->nfailed = 0;
}

static void states_written(struct model *m)
{
    recipients_written(m);
    m->done = m->maybe_done;
    m->held = m->maybe_held;
}

static void job_succeeded(struct model *m, const struct spool_job *job)
{
    switch (job->op) {
    case SPOOL_ACCEPT:
        m->life = LIVE;
        m->generation = job->generation;
        break;
    case SPOOL_DONE:
        m->done = m->maybe_done;
        break;
    case SPOOL_PARK:
        m->parked = true;
        m->parked_end = m->size + buf_len(&job->text);
        states_written(m);
        m->generation = 0;
        break;
    case SPOOL_EXPAND:
        recipients_written(m);
        break;
    case SPOOL_UPDATE:
        m->parked_end += buf_len(&job->text);
        states_written(m);
        break;
    case SPOOL_FORGET:
    case SPOOL_REMOVE:
        m->life = ENDED;
        break;
    }
}

static void run_batch(struct history *h)
{
    struct list batch;
    list_init(&batch);
    for (size_t i = 0, n = 1 + dice(h, BATCH); i < n; i++) {
        struct spool_job *job = random_job(h);
        if (job)
            list_append(&batch, &job->link);
    }
    spool_run(h->spool, &batch);
    LIST_EACH(it, &batch)
    {
        struct spool_job *job = LIST_ENTRY(it, struct spool_job, link);
        struct model *m = find(h, job->qid);
        m->touched = false;
        STORY(h, "  message %" PRIu64 " op %d big=%s: %s\n", m->qid, job->op, job->big,
            job->code ? job->error.text : "ok");
        if (job->code == OK)
            job_succeeded(m, job);
        else if (job->op == SPOOL_ACCEPT && job->big[0]) {
            char path[SPOOL_BIG_PATH]; /* as qmgr does */
            spool_big_path(job->big, path);
            h->disk->ops->unlink(h->disk, path);
        }
        if (job->op == SPOOL_PARK && !job->big[0])
            free((char *)job->body.p);
        list_remove(it);
        job->done(job, NULL);
    }
}

/* --- after a crash --------------------------------------------------------------------------- */

/* Who the recipients are: those that were acknowledged, and perhaps one of those that failed. */
static void check_recipients(struct history *h, struct model *m, const struct content *c)
{
    char address[32];
    struct expansion *found = NULL;
    if (c->count < count(m) || c->count > count(m) + 1) {
        wrong(h, "message %" PRIu64 " has %zu recipients, not %u", m->qid, c->count, count(m));
        return;
    }
    for (unsigned i = 0; i < m->nexpanded; i++) {
        const struct recipient *to = &c->rcpts[RCPTS + i].to;
        struct recipient meant = expanded_to(&m->expanded[i], address);
        bool owned = slice_eq(to->owner, meant.owner) || (h->old && to->owner.n == 0);
        if (!slice_eq(to->address, meant.address) || !owned)
            wrong(h, "message %" PRIu64 ": expansion %u has become another", m->qid, i);
    }
    for (unsigned i = 0; i < m->nfailed && c->count > count(m); i++)
        if (slice_eq(
                c->rcpts[c->count - 1].to.address, expanded_to(&m->failed[i], address).address))
            found = &m->failed[i];
    if (c->count == count(m))
        return;
    if (!found || c->rcpts[found->parent].st.state != RCPT_DONE)
        wrong(h, "message %" PRIu64 ": an expansion is half there", m->qid);
    else if (!simdisk_crashed(h->sim)) {
        m->expanded[m->nexpanded++] = *found;
        m->written |= 1u << found->parent;
    } else {
        m->written |= 1u << found->parent; /* until the next start */
    }
}

static void check_content(struct history *h, struct model *m, struct message *msg)
{
    char sender[40];
    struct buf body;
    unsigned done = 0;
    h->unread += h->damaged && !msg->crc[0] && !msg->content->body.p; /* format 1 */
    struct envelope e = envelope_of(m, sender);
    buf_init(&body, 65536);
    if (!slice_eq(msg->content->envelope.sender, e.sender))
        wrong(h, "message %" PRIu64 " has another envelope", m->qid);
    check_recipients(h, m, msg->content);
    if (m->parked && msg->held != m->held && msg->held != m->maybe_held)
        wrong(h, "message %" PRIu64 " has held %d", m->qid, msg->held);
    int rc = message_read_body(msg, h->disk, 0, MIN(m->size, msg->size), &body);
    if (msg->size != m->size ||
        (!simdisk_crashed(h->sim) && (rc != OK || !slice_eq(buf_slice(&body), body_of(m)))))
        wrong(h, "message %" PRIu64 " has another body", m->qid);
    for (size_t i = 0; i < msg->content->count; i++)
        done |= msg->content->rcpts[i].st.state == RCPT_DONE ? 1u << i : 0;
    if ((m->done & ~done) || (done & ~m->written))
        wrong(h, "message %" PRIu64 ": done %x, acknowledged %x, written %x", m->qid, done, m->done,
            m->written);
    if (!simdisk_crashed(h->sim)) /* else it may not be durable yet */
    {
        m->written = m->maybe_done = m->done = done;
        m->nfailed = 0;
        m->held = m->maybe_held = msg->held;
    }
    buf_clear(&body);
}

static struct model *expect(struct history *h, uint64_t qid)
{
    struct model *m = find(h, qid);
    if (!m || m->life == UNKNOWN_YET)
        wrong(h, "unknown message %" PRIu64 " appeared", qid);
    else if (m->life == ENDED)
        wrong(h, "finished message %" PRIu64 " came back", qid);
    else if (m->found)
        wrong(h, "message %" PRIu64 " is there twice", qid);
    if (m)
        m->found = true;
    STORY(h, "  found %" PRIu64 "\n", qid);
    return m;
}

static void found_message(struct spool_found *found, void *arg)
{
    struct history *h = arg;
    struct model *m = expect(h, found->qid);
    struct error err;
    if (!m)
        return;
    struct message *msg = message_new(found->qid, found->accept.size);
    m->generation = found->generation;
    m->parked = false;
    if (message_load_found(msg, found, &err) != OK) {
        wrong(h, "message %" PRIu64 ": %s", m->qid, err.text);
    } else {
        snprintf(m->big, sizeof(m->big), "%s", msg->big);
        h->unread += message_check_body(msg, h->disk, &err) == ERR_CORRUPT;
        check_content(h, m, msg);
    }
    message_free(msg);
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct history *h = arg;
    struct model *m = expect(h, qid);
    struct error err;
    (void)due;
    if (!m)
        return;
    struct message *msg = message_new(qid, size);
    msg->parked = m->parked = true;
    m->generation = 0;
    m->big[0] = '\0';
    if (message_load_parked(msg, h->disk, &err) != OK) {
        h->unread++;
        if (!simdisk_crashed(h->sim))
            wrong(h, "parked message %" PRIu64 ": %s", qid, err.text);
    } else if (message_check_body(msg, h->disk, &err) != OK) {
        h->unread++;
        if (!simdisk_crashed(h->sim))
            wrong(h, "parked message %" PRIu64 ": %s", qid, err.text);
    } else {
        m->parked_end = msg->parked_end;
        h->unread += msg->rotten.to > 0;
        if (msg->rotten.to > 0 && !h->damaged)
            wrong(h, "an update of message %" PRIu64 " passes for damaged", qid);
        check_content(h, m, msg);
    }
    message_free(msg);
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    struct history *h = arg;
    h->troubles++;
    h->named += h->flipped[0] && strstr(reason, h->flipped) != NULL;
    for (unsigned i = 0; i < h->nlost; i++)
        h->lost_named += strcmp(what, "segment lost") == 0 && strstr(reason, h->lost[i]) != NULL;
    STORY(h, "  %s: %s\n", what, reason);
    /* A body that its client's refused message left without is no damage. */
    if (strcmp(what, "body missing") != 0 && !h->damaged)
        wrong(h, "%s: %s", what, reason);
}

static struct spool *try_open(struct history *h)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    /* Sometimes the administrator has changed his mind. */
    struct spool_config config = {
        .segment_size = 16384, .segments = dice(h, 8) == 0 ? 3 + (unsigned)dice(h, 4) : 4};
    struct error err = {.text = ""};
    for (size_t i = 0; i < h->n; i++)
        h->list[i].found = false;
    STORY(h, "start\n");
    return spool_open(h->disk, &config, &ops, h, &err);
}

static void settle_model(struct history *h)
{
    for (size_t i = 0; i < h->n; i++) {
        struct model *m = &h->list[i];
        m->touched = false;
        if (m->life == LIVE && !m->found)
            wrong(h, "acknowledged message %" PRIu64 " is lost", m->qid);
        if (m->life == MAYBE || m->life == ENDING)
            m->life = m->found ? LIVE : ENDED;
    }
}

static void power_on(struct history *h)
{
    if (dice(h, 4) == 0)
        simdisk_process_on(h->sim);
    else
        simdisk_power_on(h->sim);
}

/* Perhaps somebody commits to the newest format between two starts. */
static void choose_format(struct history *h, bool first)
{
    struct error err;
    unsigned format = dice(h, 4) == 0 ? 1 : 2;
    if (first ? format == 1 : h->format == 1 && format == 2) {
        assert_int_equal(format_write(h->disk, format, &err), OK);
        h->format = format;
    }
    h->old |= h->format == 1;
}

/* Starts again, perhaps crashing while at it. */
static void recover(struct history *h)
{
    simdisk_fail(h->sim, 0, 0);
    spool_close(h->spool);
    for (;;) {
        power_on(h);
        simdisk_crash_after(h->sim, 0);
        choose_format(h, false);
        simdisk_crash_after(h->sim, dice(h, 3) == 0 ? 1 + dice(h, 120) : 0);
        h->spool = try_open(h);
        if (h->spool && !simdisk_crashed(h->sim))
            break;
        if (!h->spool && !simdisk_crashed(h->sim)) {
            wrong(h, "the spool does not open");
            return;
        }
        spool_close(h->spool);
    }
    simdisk_crash_after(h->sim, 0);
    settle_model(h);
}

/* How it ends: regularly, or because the machine stops in the middle of something. */
static void end(struct history *h, bool regularly)
{
    for (uint64_t i = dice(h, 4); i > 0; i--)
        run_batch(h);
    if (!regularly) {
        simdisk_crash_after(h->sim, 1 + dice(h, 20));
        for (int i = 0; i < 10 && !simdisk_crashed(h->sim); i++)
            run_batch(h);
        simdisk_crash_after(h->sim, 1);
    }
    spool_close(h->spool);
    h->spool = NULL;
    simdisk_power_on(h->sim);
}

/* Something rots in a file. Whatever is wrong then has to be noticed: reported at the start, with
 * the name of that file, or by what reads the file. */
static void damage(struct history *h, const char *path)
{
    h->damaged = true;
    h->unread = 0;
    if (!path)
        return;
    snprintf(h->flipped, sizeof(h->flipped), "%s", path);
    h->spool = try_open(h);
    settle_model(h);
    STORY(h, "damage of %s: named %u times, %u unread: %s\n", h->flipped, h->named, h->unread,
        h->wrong);
    if (!h->spool)
        wrong(h, "damage keeps the spool from opening");
    else if (h->named > 0 || (h->unread > 0 && strncmp(h->flipped, "log/", 4) != 0))
        h->wrong[0] = '\0';
}

static void damage_bit(struct history *h)
{
    end(h, dice(h, 2) == 0);
    if (!h->old && dice(h, 3) == 0)
        damage(h, simdisk_flip_newest(h->sim, "log", simdisk_random(h->sim)));
    else
        damage(h, simdisk_flip_any(h->sim, !h->old, simdisk_random(h->sim)));
}

/* A write to the log that the disk said was durable had never happened. Of the last commit only its
 * mark knows, so it has to be there. */
static void damage_sector(struct history *h)
{
    end(h, true);
    damage(h, h->old ? NULL : simdisk_lose_sector(h->sim, "log", simdisk_random(h->sim)));
}

static void note_segment(const char *name, void *arg)
{
    struct history *h = arg;
    assert_true(h->nlost < LOST_MAX);
    snprintf(h->lost[h->nlost++], SPOOL_PATH, "log/%.32s", name);
}

/* One that is about to be removed, since there are too many, is not on the list any more. */
static unsigned count_listed(struct history *h)
{
    char text[1024] = "", line[SPOOL_PATH];
    unsigned n = 0;
    int fd = h->disk->ops->open(h->disk, "segments", DISK_READ);
    assert_true(h->disk->ops->read(h->disk, fd, text, sizeof(text) - 1, 0) > 0);
    h->disk->ops->close(h->disk, fd);
    for (unsigned i = 0; i < h->nlost; i++) {
        snprintf(line, sizeof(line), "\n%.5s\n", strchr(h->lost[i], '/') + 1);
        n += strstr(text, line) != NULL;
    }
    return n;
}

static void destroy(struct history *h, const char *path, bool zeros)
{
    static char nothing[65536];
    struct disk_stat st;
    STORY(h, "%s %s\n", zeros ? "zeros over" : "removal of", path);
    if (!zeros) {
        assert_int_equal(h->disk->ops->unlink(h->disk, path), 0);
        return;
    }
    assert_int_equal(h->disk->ops->stat(h->disk, path, &st), 0);
    assert_true(st.size <= (int64_t)sizeof(nothing));
    struct iovec iov = {nothing, (size_t)st.size};
    int fd = h->disk->ops->open(h->disk, path, DISK_WRITE);
    assert_int_equal(h->disk->ops->write(h->disk, fd, &iov, 1, 0), 0);
    h->disk->ops->close(h->disk, fd);
}

/* Somebody removes one segment of the log or all, the oldest and the newest like any other, or
 * there are only zeros in it. Each has to be reported by its name, whatever it held; and once. */
static void lose_segments(struct history *h)
{
    end(h, dice(h, 2) == 0);
    if (h->format == 1)
        return;
    assert_int_equal(h->disk->ops->list(h->disk, "log", note_segment, h), 0);
    bool zeros = dice(h, 2) == 0;
    if (dice(h, 4) > 0) {
        memcpy(h->lost[0], h->lost[dice(h, h->nlost)], SPOOL_PATH);
        h->nlost = 1;
    }
    unsigned listed = count_listed(h);
    for (unsigned i = 0; i < h->nlost; i++)
        destroy(h, h->lost[i], zeros);
    h->damaged = true;
    h->spool = try_open(h);
    settle_model(h);
    if (!h->spool || h->lost_named != listed) {
        h->wrong[0] = '\0';
        wrong(h, "%u segments are lost, %u are reported", listed, h->lost_named);
    }
    if (!h->spool || h->lost_named != listed || listed == 0)
        return;
    spool_close(h->spool);
    h->lost_named = 0;
    h->spool = try_open(h);
    h->wrong[0] = '\0';
    if (h->lost_named > 0)
        wrong(h, "what was lost is reported again");
}

/* --- bugs planted on purpose ----------------------------------------------------------------- */

/* A disk that forgets syncs; others are below. */
static const char NO_MARKS[] = "no marks", EARLY_MARKS[] = "early marks", LATE[] = "late ";

/* Writes the MARK of a commit before the commit: the sequence it ends with is in its last sector.
 */
static int mark_first(struct disk *disk, int fd, const struct iovec *iov, int n, int64_t offset)
{
    const struct disk_ops *honest = simdisk_ops();
    char head[SECTOR], mark[SECTOR];
    struct iovec out = {mark, sizeof(mark)};
    struct logrec rec;
    bool log = offset >= SECTOR_FIRST * SECTOR && n == 1 && iov->iov_len % SECTOR == 0 &&
               honest->read(disk, fd, head, SECTOR, 0) == SECTOR &&
               logrec_decode(slice_from(head, SECTOR), &rec) == OK && rec.type == LOGREC_SEGMENT;
    if (log) {
        struct reader last =
            reader_of(slice_from((const char *)iov->iov_base + iov->iov_len - SECTOR, SECTOR_ROOM));
        spool_log_put_mark(mark, rec.version, rec.sequence, get_u64(&last));
        (void)honest->write(disk, fd, &out, 1, SECTOR_MARK * SECTOR);
    }
    return honest->write(disk, fd, iov, n, offset);
}

static void plant(struct history *h, const char *bug)
{
    static struct disk_ops ops;
    if (!bug)
        return;
    if (strcmp(bug, NO_MARKS) == 0) {
        simdisk_lose_writes(h->sim, "log/", SECTOR_MARK * SECTOR, SECTOR);
    } else if (strcmp(bug, EARLY_MARKS) == 0) {
        ops = *simdisk_ops();
        ops.write = mark_first;
        h->disk->ops = &ops;
    } else if (strncmp(bug, LATE, sizeof(LATE) - 1) == 0) {
        simdisk_late(h->sim, bug + sizeof(LATE) - 1);
    } else {
        simdisk_lie(h->sim, bug);
    }
}

/* One history; returns whether every promise was kept. */
static bool run_history(uint64_t seed, const char *lie, bool told, struct history *h)
{
    *h = (struct history){.seed = seed, .sim = simdisk_new(seed), .format = 2, .told = told};
    h->disk = simdisk_disk(h->sim);
    bool no_marks = lie && strcmp(lie, NO_MARKS) == 0;
    if (!no_marks)
        choose_format(h, true);
    h->spool = try_open(h);
    plant(h, lie);
    uint64_t rounds = dice(h, 16) == 0 ? ROUNDS : 1 + dice(h, 6);
    for (uint64_t round = 0; round < rounds && h->spool && !h->wrong[0]; round++) {
        static const int errors[] = {ENOSPC, EIO, EMFILE};
        simdisk_fail(h->sim, dice(h, 3) == 0 ? 20 : 0, errors[dice(h, 3)]);
        simdisk_crash_after(h->sim, 1 + dice(h, 200));
        for (int i = 0; i < 60 && !simdisk_crashed(h->sim) && !h->wrong[0]; i++)
            run_batch(h);
        recover(h);
    }
    if (!h->spool)
        wrong(h, "the spool does not open");
    else if ((!lie || no_marks) && !h->wrong[0] && dice(h, 3) == 0) {
        unsigned kind = (unsigned)dice(h, 4);
        if (no_marks || kind == 0)
            damage_sector(h);
        else if (kind == 1)
            lose_segments(h);
        else
            damage_bit(h);
    }
    spool_close(h->spool);
    simdisk_free(h->sim);
    return h->wrong[0] == '\0';
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    uint64_t n;
    const char *text = getenv(name);
    return text && slice_u64(slice_of(text), 0, UINT64_MAX, &n) == OK ? n : otherwise;
}

static struct history history;

/* Every step-th history; ends the process. */
static void work(uint64_t first, uint64_t count, uint64_t at, uint64_t step)
{
    for (uint64_t i = at; i < count; i += step)
        if (!run_history(first + i, NULL, false, &history)) {
            print_error("VEREDUS_SEED=%" PRIu64 ": %s\n", first + i, history.wrong);
            _exit(1);
        }
    _exit(0);
}

static void test_no_crash_loses_or_repeats_anything(void **state)
{
    (void)state;
    uint64_t first = number_from("VEREDUS_SEED", id_new() >> 16);
    uint64_t number = number_from("VEREDUS_HISTORIES", HISTORIES);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t workers = processors > 0 ? (uint64_t)processors : 1;
    if (getenv("VEREDUS_SEED") && !getenv("VEREDUS_HISTORIES")) {
        if (!run_history(first, NULL, true, &history))
            fail_msg("VEREDUS_SEED=%" PRIu64 ": %s", first, history.wrong);
        return;
    }
    print_message("%" PRIu64 " histories from VEREDUS_SEED=%" PRIu64 "\n", number, first);
    fflush(NULL);
    for (uint64_t i = 0; i < workers; i++)
        if (fork() == 0)
            work(first, number, i, workers);
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status;
    assert_int_equal(failed, 0);
}

/* The test must be able to fail: a missing sync has to be noticed. */
static void finds_missing_sync(const char *where)
{
    for (uint64_t seed = 1; seed <= 1000; seed++)
        if (!run_history(seed, where, false, &history))
            return;
    fail_msg("1000 histories without the sync of %s broke no promise", where);
}

/* The last commit looks cut off when the disk has lost a sector of it, but for the mark. */
static void test_a_missing_mark_is_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4000; seed++)
        if (!run_history(seed, NO_MARKS, false, &history))
            return;
    fail_msg("4000 histories without marks passed over no damage");
}

static void test_a_missing_sync_of_the_log_is_found(void **state)
{
    (void)state;
    finds_missing_sync("log/");
}

static void test_a_missing_sync_of_parked_files_is_found(void **state)
{
    (void)state;
    finds_missing_sync("parked/");
}

static void test_a_missing_sync_of_the_parked_directory_is_found(void **state)
{
    (void)state;
    finds_missing_sync("dir:parked");
}

/* The log forgets a message, and its segment is used again, before the parked file is durable. */
static void test_a_segment_given_up_before_parked_files_are_durable_is_found(void **state)
{
    (void)state;
    finds_missing_sync("late dir:parked");
    finds_missing_sync("late parked/");
}

static void test_a_mark_that_is_written_before_its_records_is_found(void **state)
{
    (void)state;
    finds_missing_sync(EARLY_MARKS);
}

static void test_a_missing_sync_of_large_bodies_is_found(void **state)
{
    (void)state;
    finds_missing_sync("big/");
    finds_missing_sync("dir:big");
}

static void test_what_is_read_at_start_has_to_be_synced_first(void **state)
{
    (void)state;
    finds_missing_sync("all");
}

/* A segment that was removed because there are too many would pass for lost, or the list would be
 * one that cannot be read. */
static void test_a_missing_sync_of_the_list_of_segments_is_found(void **state)
{
    (void)state;
    finds_missing_sync("segments.new");
    finds_missing_sync("dir:.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_crash_loses_or_repeats_anything),
        cmocka_unit_test(test_a_missing_sync_of_the_log_is_found),
        cmocka_unit_test(test_a_missing_mark_is_found),
        cmocka_unit_test(test_a_missing_sync_of_parked_files_is_found),
        cmocka_unit_test(test_a_missing_sync_of_the_parked_directory_is_found),
        cmocka_unit_test(test_a_segment_given_up_before_parked_files_are_durable_is_found),
        cmocka_unit_test(test_a_mark_that_is_written_before_its_records_is_found),
        cmocka_unit_test(test_a_missing_sync_of_large_bodies_is_found),
        cmocka_unit_test(test_a_missing_sync_of_the_list_of_segments_is_found),
        cmocka_unit_test(test_what_is_read_at_start_has_to_be_synced_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
