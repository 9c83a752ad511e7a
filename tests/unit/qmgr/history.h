/*
 * A random history of the spool: what a test knows of the messages, and the jobs it makes up. Used
 * by test_spool_crash.c, which crashes and looks what is left.
 */
#pragma once

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

static inline void wrong(struct history *h, const char *fmt, ...) PRINTF_LIKE(2, 3);

static inline void wrong(struct history *h, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!h->wrong[0])
        vsnprintf(h->wrong, sizeof(h->wrong), fmt, ap);
    va_end(ap);
}

#define STORY(h, ...) ((h)->told ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

static inline uint64_t dice(struct history *h, uint64_t n)
{
    return simdisk_random(h->sim) % n;
}

/* A piece of one long text in which no two sectors are alike. */
static inline struct slice body_of(const struct model *m)
{
    static char text[16384];
    for (uint32_t i = 0, x = 1; !text[sizeof(text) - 1] && i < sizeof(text); i++) {
        x = x * 1664525 + 1013904223;
        text[i] = (char)('a' + (x >> 24) % 26);
    }
    return (struct slice){text + m->qid * 131 % 8192, m->size};
}

static inline struct envelope envelope_of(const struct model *m, char sender[40])
{
    snprintf(sender, 40, "s%" PRIu64 "@test", m->qid);
    return (struct envelope){.sender = slice_of(sender), .received = (int64_t)m->qid};
}

static inline void put_recipients(struct buf *b)
{
    static const struct recipient to = {
        .address = {"r@test", 6}, .transport = {"remote", 6}, .nexthop = {"test", 4}};
    for (int i = 0; i < RCPTS; i++)
        assert_int_equal(record_put(b, &recipient_record, &to), OK);
}

static inline struct model *find(struct history *h, uint64_t qid)
{
    return qid >= 1 && qid <= h->n ? &h->list[qid - 1] : NULL;
}

/* --- jobs ------------------------------------------------------------------------------------ */

static inline void drop_job(struct spool_job *job, void *arg)
{
    (void)arg;
    spool_job_free(job);
}

static inline struct spool_job *new_job(enum spool_op op, struct model *m)
{
    struct spool_job *job = spool_job_new(op, m->qid);
    job->size = m->size;
    job->generation = m->generation;
    job->done = drop_job;
    job->due = 1000;
    m->touched = true;
    return job;
}

static inline void forget_record(struct spool_job *job)
{
    logrec_begin(&job->record, LOGREC_FORGET, job->qid);
    assert_int_equal(logrec_finish(&job->record), OK);
}

/* A client writes a large body into the file it was lent. */
static inline bool write_big(struct history *h, struct model *m)
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

static inline struct spool_job *accept_job(struct history *h)
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

static inline unsigned count(const struct model *m)
{
    return RCPTS + m->nexpanded;
}

static inline void put_states(const struct model *m, struct parked_state states[RCPTS_MAX])
{
    for (uint32_t i = 0; i < RCPTS_MAX; i++)
        states[i] = (struct parked_state){.index = i,
            .state = m->maybe_done >> i & 1 ? RCPT_DONE : RCPT_WAITING,
            .text = {excuse, sizeof(excuse) - 1},
            .dsn = SLICE_LIT("4.0.0"),
            .mta = SLICE_LIT("")};
}

static inline struct parked_message line_of(const struct model *m, char id[ID_TEXT])
{
    id_print(m->qid, id);
    return (struct parked_message){.qid = slice_of(id), .due = 1000, .held = m->maybe_held};
}

static const struct recipient plain = {
    .address = {"r@test", 6}, .transport = {"remote", 6}, .nexthop = {"test", 4}};

static inline struct recipient expanded_to(const struct expansion *x, char address[32])
{
    struct recipient to = plain;
    snprintf(address, 32, "x%u@test", x->id);
    to.address = slice_of(address);
    to.via = SLICE_LIT("r@test");
    to.owner = x->id % 2 ? SLICE_LIT("owner-l@test") : SLICE_LIT("");
    return to;
}

static inline struct spool_job *park_job(const struct history *h, struct model *m)
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

static inline struct spool_job *update_job(const struct history *h, struct model *m)
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
static inline struct spool_job *expand_job(struct history *h, struct model *m)
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

static inline struct spool_job *done_job(struct model *m)
{
    struct spool_job *job = new_job(SPOOL_DONE, m);
    logrec_begin(&job->record, LOGREC_DONE, m->qid);
    for (uint32_t i = 0; i < count(m); i++)
        if (m->maybe_done >> i & 1)
            buf_u32(&job->record, i);
    assert_int_equal(logrec_finish(&job->record), OK);
    return job;
}

static inline struct spool_job *end_job(struct model *m)
{
    struct spool_job *job = new_job(m->parked ? SPOOL_REMOVE : SPOOL_FORGET, m);
    m->life = ENDING;
    snprintf(job->big, sizeof(job->big), "%s", m->parked ? "" : m->big);
    if (!m->parked)
        forget_record(job);
    return job;
}

static inline struct spool_job *random_job(struct history *h)
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
static inline void recipients_written(struct model *m)
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

static inline void states_written(struct model *m)
{
    recipients_written(m);
    m->done = m->maybe_done;
    m->held = m->maybe_held;
}

static inline void job_succeeded(struct model *m, const struct spool_job *job)
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

static inline void run_batch(struct history *h)
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
