/*
 * Random histories of the spool on a disk that loses, tears and reorders what was not synced.
 * After each crash: what was acknowledged is there, whole (I4, I5); what was finished stays
 * finished; nothing else appears; a failing disk loses nothing (I7).
 *
 * VEREDUS_SEED=n runs one history, VEREDUS_HISTORIES=n that many, VEREDUS_STORY=1 tells them.
 * Otherwise 150, or as many as half a minute holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "qmgr/message.h"
#include "tests/crash/simdisk.h"

enum { MESSAGES = 400, ROUNDS = 24, RCPTS = 3, HISTORIES = 150, SECONDS = 30, BATCH = 10 };

enum life { UNKNOWN_YET, MAYBE, LIVE, ENDING, ENDED };

struct model {
    uint64_t qid, size, generation, parked_end;
    enum life life;
    bool parked, touched, found;
    char big[LOGREC_BIG_NAME];
    unsigned done, maybe_done; /* bits of recipients: acknowledged, in the latest record */
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
    unsigned troubles;
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

static void story(const char *fmt, ...) PRINTF_LIKE(1, 2);

static void story(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (getenv("VEREDUS_STORY"))
        vfprintf(stderr, fmt, ap);
    va_end(ap);
}

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
    struct logrec_accept a = {.envelope = buf_slice(&envelope),
        .recipients = buf_slice(&recipients),
        .size = m->size,
        .big = slice_of(m->big),
        .body = m->big[0] ? SLICE_LIT("") : body_of(m)};
    assert_int_equal(logrec_put_accept(&job->record, SPOOL_FORMAT, m->qid, &a), OK);
    buf_clear(&envelope);
    buf_clear(&recipients);
    return job;
}

/* As long as a sector, so that two blocks can have one in common. */
static const char excuse[] =
    "The-first-of-them-said-that-it-would-rather-not-take-this-message-at-the-moment,"
    "the-second-one-did-not-answer,the-third-one-hung-up-in-the-middle-of-its-greeting,"
    "and-the-fourth-one-was-of-the-opinion-that-our-address-is-dynamic,which-it-is-not,"
    "so-that-we-shall-have-to-try-all-of-them-again-in-a-while,in-the-hope-that-somebody-"
    "has-seen-to-it-by-then,or-else-to-return-it-to-its-sender-with-this-explanation";

static void put_states(const struct model *m, struct parked_state states[RCPTS])
{
    for (uint32_t i = 0; i < RCPTS; i++)
        states[i] = (struct parked_state){.index = i,
            .state = m->maybe_done >> i & 1 ? RCPT_DONE : RCPT_WAITING,
            .text = {excuse, sizeof(excuse) - 1},
            .dsn = SLICE_LIT("4.0.0"),
            .mta = SLICE_LIT("")};
}

static struct parked_message line_of(const struct model *m, char id[ID_TEXT])
{
    id_print(m->qid, id);
    return (struct parked_message){.qid = slice_of(id), .due = 1000};
}

static struct spool_job *park_job(struct model *m)
{
    static struct recipient to[RCPTS];
    struct parked_state states[RCPTS];
    char id[ID_TEXT], sender[40];
    struct spool_job *job = new_job(SPOOL_PARK, m);
    for (int i = 0; i < RCPTS; i++)
        to[i] = (struct recipient){.address = SLICE_LIT("r@test"),
            .transport = SLICE_LIT("remote"),
            .nexthop = SLICE_LIT("test")};
    put_states(m, states);
    struct parked p = {.message = line_of(m, id),
        .envelope = envelope_of(m, sender),
        .recipients = to,
        .states = states,
        .count = RCPTS};
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

static struct spool_job *update_job(struct model *m)
{
    struct parked_state states[RCPTS];
    char id[ID_TEXT];
    struct spool_job *job = new_job(SPOOL_UPDATE, m);
    struct parked_message line = line_of(m, id);
    put_states(m, states);
    job->offset = m->parked_end;
    assert_int_equal(parked_put_update(&job->text, SPOOL_FORMAT, &line, states, RCPTS), OK);
    return job;
}

static struct spool_job *done_job(struct model *m)
{
    struct spool_job *job = new_job(SPOOL_DONE, m);
    logrec_begin(&job->record, LOGREC_DONE, m->qid);
    for (uint32_t i = 0; i < RCPTS; i++)
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
    if (m->life == ENDING)
        return end_job(m); /* tried again */
    if (!m->parked && (f.free_segments <= 1 || dice(h, 4) == 0))
        return park_job(m);
    if (dice(h, 2) == 0) {
        m->maybe_done |= 1u << dice(h, RCPTS);
        m->written |= m->maybe_done;
        return m->parked ? update_job(m) : done_job(m);
    }
    return end_job(m);
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
        m->done = m->maybe_done;
        m->generation = 0;
        break;
    case SPOOL_EXPAND:
        break;
    case SPOOL_UPDATE:
        m->parked_end += buf_len(&job->text);
        m->done = m->maybe_done;
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
        story("  message %" PRIu64 " op %d big=%s: %s\n", m->qid, job->op, job->big,
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

static void check_content(struct history *h, struct model *m, struct message *msg)
{
    char sender[40];
    struct buf body;
    unsigned done = 0;
    struct envelope e = envelope_of(m, sender);
    buf_init(&body, 65536);
    if (!slice_eq(msg->content->envelope.sender, e.sender) || msg->content->count != RCPTS)
        wrong(h, "message %" PRIu64 " has another envelope", m->qid);
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
        m->written = m->maybe_done = m->done = done;
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
    story("  found %" PRIu64 "\n", qid);
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
    if (message_load_record(msg, &found->record, &err) != OK) {
        wrong(h, "message %" PRIu64 ": %s", m->qid, err.text);
    } else {
        for (size_t i = 0; i < found->ndone; i++)
            msg->content->rcpts[found->done[i]].st.state = RCPT_DONE;
        snprintf(m->big, sizeof(m->big), "%s", msg->big);
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
        if (!simdisk_crashed(h->sim))
            wrong(h, "parked message %" PRIu64 ": %s", qid, err.text);
    } else {
        m->parked_end = msg->parked_end;
        check_content(h, m, msg);
    }
    message_free(msg);
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    struct history *h = arg;
    h->troubles++;
    story("  %s: %s\n", what, reason);
    /* A body that its client's refused message left without is no damage. */
    if (strcmp(what, "body missing") != 0)
        wrong(h, "%s: %s", what, reason);
}

static struct spool *try_open(struct history *h)
{
    static const struct spool_config config = {.segment_size = 16384, .segments = 4};
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    struct error err = {.text = ""};
    for (size_t i = 0; i < h->n; i++)
        h->list[i].found = false;
    story("start\n");
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

/* Starts again, perhaps crashing while at it. */
static void recover(struct history *h)
{
    simdisk_fail(h->sim, 0, 0);
    spool_close(h->spool);
    for (;;) {
        power_on(h);
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

/* One history; returns whether every promise was kept. */
static bool run_history(uint64_t seed, const char *lie, struct history *h)
{
    *h = (struct history){.seed = seed, .sim = simdisk_new(seed)};
    h->disk = simdisk_disk(h->sim);
    h->spool = try_open(h);
    simdisk_lie(h->sim, lie);
    for (unsigned round = 0; round < ROUNDS && h->spool && !h->wrong[0]; round++) {
        static const int errors[] = {ENOSPC, EIO, EMFILE};
        simdisk_fail(h->sim, dice(h, 3) == 0 ? 20 : 0, errors[dice(h, 3)]);
        simdisk_crash_after(h->sim, 1 + dice(h, 200));
        for (int i = 0; i < 60 && !simdisk_crashed(h->sim) && !h->wrong[0]; i++)
            run_batch(h);
        recover(h);
    }
    if (!h->spool)
        wrong(h, "the spool does not open");
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

static void test_no_crash_loses_or_repeats_anything(void **state)
{
    (void)state;
    uint64_t count = number_from("VEREDUS_HISTORIES", HISTORIES);
    uint64_t first = number_from("VEREDUS_SEED", id_new() >> 16);
    bool all = getenv("VEREDUS_HISTORIES") != NULL;
    time_t begun = time(NULL);
    uint64_t i = 0;
    if (getenv("VEREDUS_SEED") && !all)
        count = 1;
    for (; i < count && (all || time(NULL) - begun < SECONDS); i++)
        if (!run_history(first + i, NULL, &history))
            fail_msg("VEREDUS_SEED=%" PRIu64 ": %s", first + i, history.wrong);
    print_message("%" PRIu64 " histories from VEREDUS_SEED=%" PRIu64 "\n", i, first);
}

/* The test must be able to fail: a missing sync has to be noticed. */
static void finds_missing_sync(const char *where)
{
    for (uint64_t seed = 1; seed <= 200; seed++)
        if (!run_history(seed, where, &history))
            return;
    fail_msg("200 histories without the sync of %s broke no promise", where);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_crash_loses_or_repeats_anything),
        cmocka_unit_test(test_a_missing_sync_of_the_log_is_found),
        cmocka_unit_test(test_a_missing_sync_of_parked_files_is_found),
        cmocka_unit_test(test_a_missing_sync_of_the_parked_directory_is_found),
        cmocka_unit_test(test_a_missing_sync_of_large_bodies_is_found),
        cmocka_unit_test(test_what_is_read_at_start_has_to_be_synced_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
