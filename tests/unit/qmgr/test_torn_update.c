/*
 * Two updates of a parked file at the same place, of which the first was lost when power failed.
 * Where they have sectors in common, the second one's could complete what the disk kept of the
 * first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "qmgr/message.h"
#include "tests/crash/simdisk.h"

enum { RCPTS = 2, CUTS = 4000 };

static const struct spool_config config = {.segment_size = 16384, .segments = 3};

struct world {
    struct simdisk *sim;
    struct spool *spool;
    struct message *m;
    unsigned done; /* what its file says of the recipients */
};

static void drop_message(struct spool_found *found, void *arg)
{
    (void)found, (void)arg;
}

static void load(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct world *w = arg;
    struct error err;
    (void)due;
    message_free(w->m);
    w->m = message_new(qid, size);
    w->m->parked = true;
    assert_int_equal(message_load_parked(w->m, simdisk_disk(w->sim), &err), OK);
    assert_int_equal(w->m->rotten.to, 0); /* a cut is no damage */
    w->done = 0;
    for (size_t i = 0; i < RCPTS; i++)
        w->done |= w->m->content->rcpts[i].st.state == RCPT_DONE ? 1u << i : 0;
}

static void trouble(const char *what, const char *reason, void *arg)
{
    (void)arg;
    fail_msg("%s: %s", what, reason);
}

static void start(struct world *w)
{
    static const struct spool_found_ops ops = {drop_message, load, trouble};
    struct error err;
    w->spool = spool_open(simdisk_disk(w->sim), &config, &ops, w, &err);
    assert_non_null(w->spool);
}

static void cut_power(struct world *w)
{
    spool_close(w->spool);
    simdisk_power_on(w->sim);
    start(w);
}

static void run(struct world *w, struct spool_job *job)
{
    struct list batch;
    list_init(&batch);
    list_append(&batch, &job->link);
    spool_run(w->spool, &batch);
    list_remove(&job->link);
    spool_job_free(job);
}

/* The second line is in another sector than the first. */
static void fill(struct parked_state states[RCPTS], struct recipient to[RCPTS], char text[400])
{
    memset(text, 'x', 400);
    for (uint32_t i = 0; i < RCPTS; i++) {
        to[i] =
            (struct recipient){.address = SLICE_LIT("r@test"), .transport = SLICE_LIT("remote")};
        states[i] = (struct parked_state){
            .index = i, .state = RCPT_WAITING, .text = {text, i == 0 ? 400 : 40}};
    }
}

static void park(struct world *w)
{
    char text[400];
    struct recipient to[RCPTS];
    struct parked_state states[RCPTS];
    struct spool_job *job = spool_job_new(SPOOL_PARK, 7);
    fill(states, to, text);
    struct parked p = {.message = {.due = 1}, .recipients = to, .states = states, .count = RCPTS};
    char id[ID_TEXT];
    id_print(7, id);
    p.message.qid = slice_of(id);
    assert_int_equal(parked_put(&job->text, &p), OK);
    assert_int_equal(logrec_begin(&job->record, LOGREC_FORGET, 7), OK);
    assert_int_equal(logrec_finish(&job->record), OK);
    job->body = SLICE_LIT("hello");
    job->size = 5;
    job->due = 1;
    run(w, job);
}

/* The states differ, what lies between does not. The machine may die at any step. */
static void update(struct world *w, unsigned done)
{
    struct message *m = w->m;
    struct spool_job *job = spool_job_new(SPOOL_UPDATE, m->qid);
    for (size_t i = 0; i < RCPTS; i++) {
        m->content->rcpts[i].st.state = done >> i & 1 ? RCPT_DONE : RCPT_WAITING;
        m->content->rcpts[i].known = 0; /* all are written */
    }
    assert_int_equal(message_put_update(m, &job->text), OK);
    job->size = m->size;
    job->offset = m->parked_end;
    job->due = 1;
    simdisk_crash_after(w->sim, 3 + simdisk_random(w->sim) % 5);
    run(w, job);
}

/* True when an update that was lost came back after the next one. */
static bool comes_back(uint64_t seed, const char *bug)
{
    struct world w = {.sim = simdisk_new(seed)};
    bool back = false;
    start(&w);
    park(&w);
    cut_power(&w);
    update(&w, 3);
    cut_power(&w);
    if (w.done == 0) {
        simdisk_lie(w.sim, bug);
        update(&w, 1);
        simdisk_lie(w.sim, NULL);
        cut_power(&w);
        back = (w.done & ~1u) != 0;
    }
    message_free(w.m);
    spool_close(w.spool);
    simdisk_free(w.sim);
    return back;
}

static void test_an_update_that_was_lost_stays_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= CUTS; seed++)
        if (comes_back(seed, NULL))
            fail_msg("seed %llu: it came back", (unsigned long long)seed);
}

static void test_without_the_truncation_it_comes_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= CUTS; seed++)
        if (comes_back(seed, "truncate"))
            return;
    fail_msg("%d power cuts found nothing", CUTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_update_that_was_lost_stays_lost),
        cmocka_unit_test(test_without_the_truncation_it_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
