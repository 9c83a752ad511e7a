/* Messages with so many recipients that they are parked and loaded beside the loop. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "qmgr/history.h"
#include "tests/unit/qmgr/scene.h"

enum { MANY = 5000, PORTION = 1000 };

static int begin_scene(void **state)
{
    int rc = begin_sized(state, 1 << 20);
    struct scene *s = *state;
    s->w.q.set.portion = PORTION;
    return rc;
}

/* Threads of this process. */
static unsigned threads(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* Lets the one beside the loop do its work; the loop takes it up. */
static void beside(struct scene *s)
{
    sem_post(&s->slow.go);
    while (threads() > 1)
        usleep(100);
    settle(&s->w);
    while (sem_trywait(&s->slow.go) == 0)
        ;
}

static struct message *huge(struct scene *s)
{
    return queue_find(&s->w.q, HUGE_ID);
}

/* The message is tried in portions until it rests, or is gone. */
static void run(struct scene *s)
{
    for (int i = 0, resting = 0; i < 100 && huge(s) && resting < 5; i++) {
        pass(&s->w, 100);
        beside(s);
        const struct message *m = huge(s);
        resting = m && (m->content || m->moving || m->committing) ? 0 : resting + 1;
    }
}

/* It was tried, and waits. */
static void deferred(struct scene *s)
{
    inject(&s->w, HUGE_ID, "remote", MANY);
    assert_int_equal(s->w.code, 250);
    run(s);
    assert_null(huge(s)->content);
    assert_int_equal(s->w.starts, MANY / DELIVER_RECIPIENTS_MAX);
    assert_false(huge(s)->moving || huge(s)->committing);
    assert_int_equal(s->w.q.active, 0);
}

/* The process ends without warning, and another one starts. */
static void restart(struct scene *s)
{
    struct error err;
    close_spool(&s->w);
    simdisk_process_on(s->w.sim);
    s->w.q.loaded = s->w.q.active = s->w.q.attempts = 0;
    s->w.q.disk = s->slow.sim;
    open_spool(&s->w);
    s->w.q.disk = &s->slow.disk;
    s->w.q.beside = beside_new(s->w.q.loop, &err);
    assert_non_null(s->w.q.beside);
}

static void test_a_huge_message_is_delivered_to_each_once(void **state)
{
    struct scene *s = *state;
    s->w.answer = DELIVERED;
    inject(&s->w, HUGE_ID, "remote", MANY);
    assert_int_equal(s->w.code, 250);
    assert_true(huge(s)->committing); /* its file is put together */
    run(s);
    assert_null(huge(s));
    assert_int_equal(s->w.starts, MANY / DELIVER_RECIPIENTS_MAX);
    for (unsigned i = 0; i < s->w.starts; i++)
        assert_int_equal(s->w.deliveries[i], HUGE_ID + i * DELIVER_RECIPIENTS_MAX);
    assert_int_equal(s->w.q.loaded, 0);
}

static void test_qmgr_may_end_before_a_huge_message_is_parked(void **state)
{
    struct scene *s = *state;
    s->w.answer = DELIVERED;
    inject(&s->w, HUGE_ID, "remote", MANY);
    assert_int_equal(s->w.code, 250);
    restart(s);
    settle(&s->w);
    assert_non_null(huge(s));
    run(s);
    assert_null(huge(s));
    assert_int_equal(s->w.starts, MANY / DELIVER_RECIPIENTS_MAX);
}

static void test_a_disk_that_refuses_a_huge_message_its_file_keeps_it_in_the_log(void **state)
{
    struct scene *s = *state;
    s->w.answer = DELIVERED;
    inject(&s->w, HUGE_ID, "remote", MANY);
    simdisk_fail(s->w.sim, 1, 28 /* ENOSPC */);
    beside(s);
    pass(&s->w, 100);
    assert_false(huge(s)->parked || huge(s)->committing);
    assert_int_equal(huge(s)->content->count, MANY);
    simdisk_fail(s->w.sim, 0, 0);
    pass(&s->w, DISK_RETRY_MS);
    run(s);
    assert_null(huge(s));
    assert_int_equal(s->w.starts, MANY / DELIVER_RECIPIENTS_MAX);
}

static void test_others_are_served_while_a_huge_message_is_loaded(void **state)
{
    struct scene *s = *state;
    deferred(s);
    queue_wake_in(&s->w.q, huge(s), 0);
    pass(&s->w, 1);
    held_back(s);
    s->w.answer = DELIVERED;
    inject(&s->w, SMALL_ID, "remote", 1);
    pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, SMALL_ID));
    assert_true(huge(s)->moving);
    assert_int_equal(s->w.q.active, PORTION); /* no others come in over the limit */
    pass(&s->w, 3600000);
    beside(s);
    run(s);
    assert_int_equal(s->w.q.active, 0);
}

static void test_a_huge_message_is_held_and_released_when_it_has_been_loaded(void **state)
{
    struct scene *s = *state;
    deferred(s);
    unsigned before = s->w.starts;
    act(&s->a, "hold", HUGE_ID, "");
    held_back(s);
    act(&s->b, "hold", HUGE_ID, ""); /* waits for the same */
    settle(&s->w);
    assert_int_equal(s->a.answers + s->b.answers, 0);
    beside(s);
    assert_int_equal(s->a.count, 1);
    beside(s);
    assert_int_equal(s->b.answers, 1);
    assert_int_equal(s->b.count, 0); /* it is on hold already */
    run(s);
    assert_true(huge(s)->held);
    assert_null(huge(s)->content);
    assert_int_equal(huge(s)->saved, huge(s)->changes);
    pass(&s->w, 7000000);
    assert_int_equal(s->w.starts, before);
    s->w.answer = DELIVERED;
    act(&s->a, "release", HUGE_ID, "");
    held_back(s);
    beside(s);
    assert_int_equal(s->a.count, 1);
    run(s);
    assert_null(huge(s));
    assert_int_equal(s->w.starts, 2 * before);
}

static void test_a_huge_message_that_is_not_on_hold_is_put_back_when_it_is_released(void **state)
{
    struct scene *s = *state;
    deferred(s);
    act(&s->a, "release", HUGE_ID, "");
    held_back(s);
    beside(s);
    assert_int_equal(s->a.answers, 1);
    assert_int_equal(s->a.count, 0);
    assert_null(huge(s)->content);
    assert_true(huge(s)->due.index != 0); /* and wakes when it is due */
}

static void test_a_huge_message_deleted_while_it_is_loaded_is_gone(void **state)
{
    struct scene *s = *state;
    deferred(s);
    queue_wake_in(&s->w.q, huge(s), 0);
    pass(&s->w, 1);
    held_back(s);
    act(&s->a, "delete", HUGE_ID, "");
    settle(&s->w);
    assert_int_equal(s->a.count, 1);
    beside(s);
    pass(&s->w, 100);
    assert_null(huge(s));
}

static void test_all_recipients_of_a_huge_message_are_returned_in_one_report(void **state)
{
    struct scene *s = *state;
    deferred(s);
    unsigned before = s->w.starts;
    act(&s->a, "bounce", HUGE_ID, "no");
    settle(&s->w);
    assert_int_equal(s->a.count, 1);
    act(&s->b, "release", HUGE_ID, ""); /* not any more */
    settle(&s->w);
    assert_int_equal(s->b.count, 0);
    run(s);
    assert_null(huge(s));
    assert_int_equal(s->w.starts, before);
    assert_int_equal(s->w.reports, 1);
    assert_int_equal(s->w.told[0], MANY);
}

static void test_a_crash_while_a_huge_message_is_returned_delivers_to_nobody(void **state)
{
    struct scene *s = *state;
    deferred(s);
    unsigned before = s->w.starts;
    act(&s->a, "bounce", HUGE_ID, "no");
    pass(&s->w, 1);
    held_back(s);
    beside(s);
    while (huge(s)->content->rcpts[0].st.index == 0) /* the first portion is written */
        loop_poll(s->w.q.loop), loop_advance(s->w.q.loop, 10);
    assert_non_null(huge(s)->giving_up);
    restart(s);
    for (int i = 0; i < 10; i++)
        pass(&s->w, 600000);
    assert_true(huge(s)->held);
    assert_int_equal(s->w.starts, before);
}

static void test_a_damaged_huge_message_is_held_beside_the_loop_too(void **state)
{
    struct scene *s = *state;
    char path[PARKED_NAME];
    deferred(s);
    parked_path(HUGE_ID, 6, path);
    assert_true(simdisk_flip(s->w.sim, path, 3000));
    act(&s->a, "release", HUGE_ID, "");
    held_back(s);
    beside(s);
    assert_int_equal(s->a.answers, 1);
    assert_int_equal(s->a.count, 0);
    assert_true(huge(s)->damaged && huge(s)->held);
    assert_int_equal(s->w.q.active, 0);
    assert_int_equal(s->w.q.loaded, 0);
}

/* Acts on it until the answer is there. */
static void route(struct scene *s, const char *verb, const char *address)
{
    act(&s->a, verb, HUGE_ID, address);
    for (int i = 0; i < 20 && s->a.answers == 0; i++) {
        pass(&s->w, 50);
        beside(s);
    }
    assert_int_equal(s->a.answers, 1);
}

static void test_a_huge_message_is_redirected_in_one_update(void **state)
{
    struct scene *s = *state;
    deferred(s);
    unsigned before = s->w.starts;
    s->w.answer = DELIVERED;
    route(s, "redirect", "other@x.test");
    assert_int_equal(s->a.code, OK);
    run(s);
    assert_null(huge(s));
    assert_int_equal(s->w.starts, before + 1);
    assert_int_equal(s->w.deliveries[before], HUGE_ID + MANY);
}

static void test_a_huge_message_that_the_disk_lets_nobody_redirect_stays_as_it_was(void **state)
{
    struct scene *s = *state;
    deferred(s);
    act(&s->a, "redirect", HUGE_ID, "other@x.test");
    settle(&s->w);
    beside(s); /* it is read */
    simdisk_fail(s->w.sim, 1, 28 /* ENOSPC */);
    for (int i = 0; i < 20 && s->a.answers == 0; i++) {
        pass(&s->w, 50);
        beside(s);
    }
    simdisk_fail(s->w.sim, 0, 0);
    assert_int_equal(s->a.code, ERR_NO_SPACE);
    assert_false(huge(s)->moving || huge(s)->routing);
    unsigned before = s->w.starts;
    s->w.answer = DELIVERED;
    pass(&s->w, 3600000);
    run(s);
    assert_null(huge(s));
    assert_true(s->w.starts >= before + MANY / DELIVER_RECIPIENTS_MAX);
}

static void same_slice(struct slice a, struct slice b)
{
    assert_true(slice_eq(a, b));
}

static void same_content(const struct message *a, const struct message *b)
{
    const struct content *x = a->content, *y = b->content;
    same_slice(x->envelope_raw, y->envelope_raw);
    assert_int_equal(x->count, y->count);
    assert_int_equal(x->total, y->total);
    for (size_t i = 0; i < x->count; i++) {
        const struct rcpt *r = &x->rcpts[i], *t = &y->rcpts[i];
        same_slice(r->to.address, t->to.address);
        same_slice(r->to.nexthop, t->to.nexthop);
        same_slice(r->st.text, t->st.text);
        assert_int_equal(r->st.index, t->st.index);
        assert_int_equal(r->st.state, t->st.state);
        assert_int_equal(r->st.next, t->st.next);
        assert_int_equal(r->known, t->known);
    }
}

static struct message *copy_of(const struct message *m)
{
    struct message *copy = message_new(m->qid, m->size);
    copy->parked = true;
    return copy;
}

/* Of the file as it is, read at once and line by line. */
static void read_both_ways(struct scene *s, bool damaged)
{
    struct message *a = copy_of(huge(s)), *b = copy_of(huge(s));
    struct error err;
    assert_int_equal(message_load_small(a, 1 << 27, s->slow.sim, &err), OK);
    assert_int_equal(message_load_small(b, 1 << 20, s->slow.sim, &err), ERR_LIMIT);
    assert_int_equal(message_load_parked(b, s->slow.sim, &err), OK);
    same_content(a, b);
    assert_int_equal(a->parked_end, b->parked_end);
    assert_int_equal(a->held, b->held);
    assert_int_equal(a->delivered, b->delivered);
    assert_string_equal(a->crc, b->crc);
    assert_int_equal(a->rotten.from, b->rotten.from);
    assert_int_equal(a->rotten.to, b->rotten.to);
    assert_int_equal(a->rotten.to > 0, damaged);
    message_free(a);
    message_free(b);
}

static void test_a_huge_file_says_the_same_line_by_line(void **state)
{
    struct scene *s = *state;
    char path[PARKED_NAME];
    struct disk_stat st;
    deferred(s);
    act(&s->a, "hold", HUGE_ID, "");
    held_back(s);
    beside(s);
    run(s);
    read_both_ways(s, false);
    parked_path(HUGE_ID, 6, path);
    assert_int_equal(s->slow.sim->ops->stat(s->slow.sim, path, &st), 0);
    assert_true(simdisk_flip(s->w.sim, path, (uint32_t)st.size - 100000));
    read_both_ways(s, true);
}

static void on_past(struct ipc_in *in, void *arg)
{
    struct admin *a = arg;
    const struct queue_past *past = in ? in->msg : NULL;
    a->answers++;
    a->code = past ? past->code : -1;
    a->more = past && past->partial;
}

static void count_one(const struct parked_state *st, void *arg)
{
    (void)st;
    ++*(unsigned *)arg;
}

static void test_of_a_history_that_is_too_long_the_end_is_told(void **state)
{
    struct scene *s = *state;
    struct error err;
    struct buf tail;
    unsigned all = 0;
    deferred(s);
    struct message *m = copy_of(huge(s));
    assert_int_equal(message_load_parked(m, s->slow.sim, &err), OK);
    assert_int_equal(history_each(m, HISTORY_MOST, s->slow.sim, count_one, &all, &err), OK);
    assert_int_equal(all, MANY);
    assert_int_equal(history_each(m, 1000, s->slow.sim, count_one, &all, &err), ERR_LIMIT);
    buf_init(&tail, 1000);
    assert_int_equal(message_read_trailer(m, true, s->slow.sim, &tail, &err), OK);
    assert_int_equal(buf_len(&tail), 1000);
    assert_true(slice_find(buf_slice(&tail), SLICE_LIT("end crc=")) > 0);
    buf_clear(&tail);
    message_free(m);
}

/* The states of all recipients in it a few hundred times, as after as many tries. */
static void lengthen(struct scene *s, int64_t most)
{
    struct disk *disk = s->slow.sim;
    struct error err;
    struct disk_stat st;
    struct buf text;
    char path[PARKED_NAME];
    struct message *m = copy_of(huge(s));
    buf_init(&text, 1 << 22);
    assert_int_equal(message_read_trailer(m, false, disk, &text, &err), OK);
    struct slice all = buf_slice(&text), rest = all, block, last = {NULL, 0};
    while (parked_next_block(&rest, &block))
        last = block;
    assert_non_null(last.p);
    last.n = (size_t)(all.p + all.n - last.p); /* with its end line */
    parked_path(HUGE_ID, m->size, path);
    assert_int_equal(disk->ops->stat(disk, path, &st), 0);
    int fd = disk->ops->open(disk, path, DISK_WRITE);
    assert_true(fd >= 0);
    size_t times = (size_t)most / last.n + 1;
    char *many = xcalloc(times, last.n);
    for (size_t i = 0; i < times; i++)
        memcpy(many + i * last.n, last.p, last.n);
    struct iovec iov = {many, times * last.n};
    assert_int_equal(disk->ops->write(disk, fd, &iov, 1, st.size), 0);
    assert_int_equal(disk->ops->sync(disk, fd), 0);
    free(many);
    disk->ops->close(disk, fd);
    buf_clear(&text);
    message_free(m);
}

static bool is_told_in_part(struct scene *s, struct admin *a)
{
    struct queue_history msg = {.qid = HUGE_ID};
    a->answers = 0;
    a->code = -1;
    ipc_call(a->end.ipc, queue_history_type, HUGE_ID, &msg, -1, on_past, a);
    settle(&s->w);
    let_go(s, a);
    assert_int_equal(a->code, OK);
    return a->more;
}

static void test_it_is_said_when_a_history_is_told_in_part(void **state)
{
    struct scene *s = *state;
    deferred(s);
    act(&s->a, "hold", HUGE_ID, "");
    held_back(s);
    beside(s);
    run(s);
    assert_false(is_told_in_part(s, &s->a));
    while (sem_trywait(&s->slow.waits) == 0)
        ;
    lengthen(s, HISTORY_MOST);
    assert_true(is_told_in_part(s, &s->b));
}

static void test_qmgr_ends_while_a_huge_message_is_loaded_for_somebody(void **state)
{
    struct scene *s = *state;
    deferred(s);
    act(&s->a, "hold", HUGE_ID, "");
    end_while_held_back(s);
    assert_int_equal(s->a.answers, 0);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, begin_scene, end_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_a_huge_message_is_delivered_to_each_once),
        SCENE(test_qmgr_may_end_before_a_huge_message_is_parked),
        SCENE(test_a_disk_that_refuses_a_huge_message_its_file_keeps_it_in_the_log),
        SCENE(test_others_are_served_while_a_huge_message_is_loaded),
        SCENE(test_a_huge_message_is_held_and_released_when_it_has_been_loaded),
        SCENE(test_a_huge_message_that_is_not_on_hold_is_put_back_when_it_is_released),
        SCENE(test_a_huge_message_deleted_while_it_is_loaded_is_gone),
        SCENE(test_all_recipients_of_a_huge_message_are_returned_in_one_report),
        SCENE(test_a_crash_while_a_huge_message_is_returned_delivers_to_nobody),
        SCENE(test_a_damaged_huge_message_is_held_beside_the_loop_too),
        SCENE(test_a_huge_message_is_redirected_in_one_update),
        SCENE(test_a_huge_message_that_the_disk_lets_nobody_redirect_stays_as_it_was),
        SCENE(test_a_huge_file_says_the_same_line_by_line),
        SCENE(test_of_a_history_that_is_too_long_the_end_is_told),
        SCENE(test_it_is_said_when_a_history_is_told_in_part),
        SCENE(test_qmgr_ends_while_a_huge_message_is_loaded_for_somebody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
