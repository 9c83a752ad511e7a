/* Very large messages that somebody looks at, or acts on, while others are to be served. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/qmgr/world.h"

/* Enough lines that the file is not read in the loop. */
enum { MANY = 1000, HUGE_ID = 100, SMALL_ID = 200 };

/* The simulated disk, except that a thread beside the loop waits before it reads. */
struct slow {
    struct disk disk;
    struct disk_ops ops;
    struct disk *sim;
    pthread_t loop;
    sem_t go, waits;
    _Atomic int reads; /* of threads */
};

static struct slow *slow_of(struct disk *disk)
{
    return CONTAINER_OF(disk, struct slow, disk);
}

static int slow_open(struct disk *disk, const char *path, enum disk_open how)
{
    static _Thread_local bool waited;
    struct slow *s = slow_of(disk);
    if (!waited && !pthread_equal(pthread_self(), s->loop)) {
        waited = true; /* what is open is read as often as it likes */
        s->reads++;
        sem_post(&s->waits);
        sem_wait(&s->go);
    }
    return s->sim->ops->open(s->sim, path, how);
}

static void slow_close(struct disk *disk, int fd)
{
    slow_of(disk)->sim->ops->close(slow_of(disk)->sim, fd);
}

static ssize_t slow_read(struct disk *disk, int fd, void *to, size_t n, int64_t offset)
{
    return slow_of(disk)->sim->ops->read(slow_of(disk)->sim, fd, to, n, offset);
}

static int slow_stat(struct disk *disk, const char *path, struct disk_stat *st)
{
    return slow_of(disk)->sim->ops->stat(slow_of(disk)->sim, path, st);
}

/* An administrator, and what he was answered last. */
struct admin {
    struct end end;
    unsigned answers;
    bool gone;
    int64_t code;
    uint64_t count, next;
    bool more;
    unsigned entries;
    uint64_t listed[8];
    uint32_t recipients;
    char state[17];
};

struct scene {
    struct world w;
    struct slow slow;
    struct admin a, b;
};

static void slow_init(struct slow *s, struct disk *sim)
{
    s->sim = sim;
    s->loop = pthread_self();
    sem_init(&s->go, 0, 0);
    sem_init(&s->waits, 0, 0);
    s->ops = (struct disk_ops){
        .open = slow_open, .close = slow_close, .read = slow_read, .stat = slow_stat};
    s->disk.ops = &s->ops;
}

static int begin_scene(void **state)
{
    struct scene *s = NEW(struct scene);
    struct error err;
    setup_sized(&s->w, 1 << 18);
    s->w.q.set.max_recipients = 10000;
    s->w.q.set.max_active = 10000;
    s->w.answer = DEFERRED;
    slow_init(&s->slow, s->w.q.disk);
    s->w.q.disk = &s->slow.disk;
    s->w.q.beside = beside_new(s->w.q.loop, &err);
    assert_non_null(s->w.q.beside);
    connect_end(&s->w, &s->a.end, CONV_QUEUE, ROLE_CTL);
    connect_end(&s->w, &s->b.end, CONV_QUEUE, ROLE_CTL);
    settle(&s->w);
    *state = s;
    return 0;
}

static int end_scene(void **state)
{
    struct scene *s = *state;
    for (int i = 0; i < 8; i++)
        sem_post(&s->slow.go);
    if (!s->a.gone)
        ipc_free(s->a.end.ipc);
    ipc_free(s->b.end.ipc);
    settle(&s->w);
    teardown(&s->w);
    free(s);
    return 0;
}

/* One message with very many recipients and one with one, both of which wait. */
static void two_messages(struct scene *s)
{
    inject(&s->w, HUGE_ID, "remote", MANY);
    inject(&s->w, SMALL_ID, "remote", 1);
    for (int i = 0; i < 100; i++)
        pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, HUGE_ID)->content);
    assert_null(queue_find(&s->w.q, SMALL_ID)->content);
    assert_int_equal(s->slow.reads, 0);
}

static void on_page(struct ipc_in *in, void *arg)
{
    struct admin *a = arg;
    const struct queue_page *page = in ? in->msg : NULL;
    struct queue_entry e;
    a->answers++;
    if (!page)
        return;
    a->more = page->more;
    a->next = page->next;
    a->entries = 0;
    for (struct reader r = reader_of(page->entries);
         r.rest.n && record_get(&r, &queue_entry_record, &e) == OK && a->entries < 8;) {
        a->listed[a->entries++] = e.qid;
        a->recipients = e.recipients;
        snprintf(a->state, sizeof(a->state), "%.*s", SLICE_FMT(e.state));
    }
}

static void list(struct admin *a, uint64_t after)
{
    struct queue_list msg = {.after = after, .filter = SLICE_LIT("")};
    a->answers = 0;
    ipc_call(a->end.ipc, queue_list_type, 0, &msg, -1, on_page, a);
}

static void on_details(struct ipc_in *in, void *arg)
{
    struct admin *a = arg;
    a->answers++;
    a->code = in ? ((const struct queue_details *)in->msg)->code : 1;
    a->next = in ? ((const struct queue_details *)in->msg)->next : 0;
}

static void show(struct admin *a, uint64_t qid, uint32_t from)
{
    struct queue_show msg = {.qid = qid, .from = from};
    a->answers = 0;
    ipc_call(a->end.ipc, queue_show_type, qid, &msg, -1, on_details, a);
}

static void on_acted(struct ipc_in *in, void *arg)
{
    struct admin *a = arg;
    a->answers++;
    a->code = in ? ((const struct queue_acted *)in->msg)->code : 1;
    a->count = in ? ((const struct queue_acted *)in->msg)->count : 0;
}

static void act(struct admin *a, const char *verb, uint64_t qid, const char *argument)
{
    struct queue_act msg = {.verb = slice_of(verb), .qid = qid, .argument = slice_of(argument)};
    a->answers = 0;
    ipc_call(a->end.ipc, queue_act_type, qid, &msg, -1, on_acted, a);
}

/* A thread is about to read. */
static void held_back(struct scene *s)
{
    settle(&s->w);
    sem_wait(&s->slow.waits);
}

static void let_go(struct scene *s, const struct admin *a)
{
    sem_post(&s->slow.go);
    while (a->answers == 0) {
        loop_poll(s->w.q.loop);
        usleep(100);
    }
}

static void test_others_are_served_while_a_huge_message_is_read_for_a_listing(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    held_back(s);
    assert_int_equal(s->a.answers, 0);
    show(&s->b, SMALL_ID, 0); /* another administrator */
    settle(&s->w);
    assert_int_equal(s->b.answers, 1);
    assert_int_equal(s->b.code, OK);
    s->w.answer = DELIVERED; /* and a client */
    inject(&s->w, 300, "remote", 1);
    assert_int_equal(s->w.code, 250);
    pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, 300));
    assert_int_equal(s->a.answers, 0);
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 2);
    assert_int_equal(s->a.listed[0], HUGE_ID);
    assert_false(s->a.more);
}

static void test_a_page_ends_before_a_huge_message(void **state)
{
    struct scene *s = *state;
    inject(&s->w, SMALL_ID, "remote", 1);
    inject(&s->w, HUGE_ID, "remote", MANY);
    for (int i = 0; i < 100; i++)
        pass(&s->w, 100);
    list(&s->a, 0);
    settle(&s->w);
    assert_int_equal(s->a.answers, 1);
    assert_int_equal(s->a.entries, 1);
    assert_true(s->a.more);
    list(&s->a, s->a.next);
    held_back(s);
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 1);
    assert_int_equal(s->a.listed[0], HUGE_ID);
    assert_int_equal(s->a.recipients, MANY);
}

static void test_a_message_that_goes_while_it_is_read_is_not_listed(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    held_back(s);
    act(&s->b, "delete", HUGE_ID, "");
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_int_equal(s->b.code, OK);
    assert_null(queue_find(&s->w.q, HUGE_ID));
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 1);
    assert_int_equal(s->a.listed[0], SMALL_ID);
}

static void test_a_message_that_goes_while_it_is_read_is_not_found(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    show(&s->a, HUGE_ID, 0);
    held_back(s);
    act(&s->b, "delete", HUGE_ID, "");
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    let_go(s, &s->a);
    assert_int_equal(s->a.code, ERR_NOT_FOUND);
}

static void test_a_message_held_while_it_is_read_is_listed_as_held(void **state)
{
    struct scene *s = *state;
    inject(&s->w, HUGE_ID, "remote", MANY);
    for (int i = 0; i < 100; i++)
        pass(&s->w, 100);
    list(&s->a, 0);
    held_back(s);
    act(&s->b, "hold", HUGE_ID, "");
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_int_equal(s->b.count, 1);
    let_go(s, &s->a);
    assert_int_equal(s->a.entries, 1);
    assert_string_equal(s->a.state, "held");
}

static void test_pages_of_a_huge_message_are_shown_from_one_reading(void **state)
{
    struct scene *s = *state;
    unsigned pages = 1;
    two_messages(s);
    show(&s->a, HUGE_ID, 0);
    held_back(s);
    let_go(s, &s->a);
    for (; s->a.next; pages++) {
        show(&s->a, HUGE_ID, (uint32_t)s->a.next);
        settle(&s->w);
        assert_int_equal(s->a.answers, 1);
    }
    assert_true(pages > 1);
    assert_int_equal(s->slow.reads, 1);
}

static void test_a_huge_message_that_changes_while_it_is_read_is_read_again_to_be_bounced(
    void **state)
{
    struct scene *s = *state;
    two_messages(s);
    act(&s->a, "bounce", HUGE_ID, "");
    held_back(s);
    act(&s->b, "hold", HUGE_ID, ""); /* its file is written to */
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_int_equal(s->b.count, 1);
    sem_post(&s->slow.go);
    while (s->slow.reads < 2) {
        loop_poll(s->w.q.loop);
        usleep(100);
    }
    assert_int_equal(s->a.answers, 0);
    let_go(s, &s->a);
    assert_int_equal(s->a.count, 1);
    for (int i = 0; i < 50 && s->w.reports == 0; i++)
        pass(&s->w, 100);
    assert_int_equal(s->w.reports, 1);
    assert_int_equal(s->w.told[0], MANY);
    for (int i = 0; i < 5; i++)
        pass(&s->w, 100);
    assert_null(queue_find(&s->w.q, HUGE_ID));
}

static void test_a_flush_of_a_domain_goes_on_behind_a_huge_message(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    unsigned before = s->w.starts;
    act(&s->a, "flush", 0, "x.test");
    held_back(s);
    inject(&s->w, 300, "remote", 1);
    assert_int_equal(s->w.code, 250);
    let_go(s, &s->a);
    assert_int_equal(s->a.count, 2); /* what came later is left alone */
    pass(&s->w, 100);
    assert_true(s->w.starts > before + 2);
}

static void test_an_administrator_who_leaves_is_not_answered(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    held_back(s);
    ipc_free(s->a.end.ipc);
    s->a.gone = true;
    settle(&s->w);
    list(&s->b, 0); /* waits behind the other */
    settle(&s->w);
    sem_post(&s->slow.go);
    let_go(s, &s->b);
    assert_int_equal(s->b.entries, 2);
}

static void test_qmgr_ends_while_a_huge_message_is_read(void **state)
{
    struct scene *s = *state;
    two_messages(s);
    list(&s->a, 0);
    show(&s->b, HUGE_ID, 0);
    held_back(s);
    sem_post(&s->slow.go);
    beside_free(s->w.q.beside);
    s->w.q.beside = NULL;
    settle(&s->w);
    assert_int_equal(s->a.answers, 0);
    assert_int_equal(s->b.answers, 0);
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, begin_scene, end_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_others_are_served_while_a_huge_message_is_read_for_a_listing),
        SCENE(test_a_page_ends_before_a_huge_message),
        SCENE(test_a_message_that_goes_while_it_is_read_is_not_listed),
        SCENE(test_a_message_that_goes_while_it_is_read_is_not_found),
        SCENE(test_a_message_held_while_it_is_read_is_listed_as_held),
        SCENE(test_pages_of_a_huge_message_are_shown_from_one_reading),
        SCENE(test_a_huge_message_that_changes_while_it_is_read_is_read_again_to_be_bounced),
        SCENE(test_a_flush_of_a_domain_goes_on_behind_a_huge_message),
        SCENE(test_an_administrator_who_leaves_is_not_answered),
        SCENE(test_qmgr_ends_while_a_huge_message_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
