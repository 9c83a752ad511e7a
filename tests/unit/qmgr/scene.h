/* Administrators of a queue manager whose disk keeps threads waiting that read beside its loop. */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "tests/unit/qmgr/world.h"

enum { HUGE_ID = 100, SMALL_ID = 200 };

/* The simulated disk, except that a thread beside the loop waits before it reads. */
struct slow {
    struct disk disk;
    struct disk_ops ops;
    struct disk *sim;
    pthread_t loop;
    sem_t go, waits;
    _Atomic int reads; /* of threads */
};

static inline struct slow *slow_of(struct disk *disk)
{
    return CONTAINER_OF(disk, struct slow, disk);
}

static inline int slow_open(struct disk *disk, const char *path, enum disk_open how)
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

static inline void slow_close(struct disk *disk, int fd)
{
    slow_of(disk)->sim->ops->close(slow_of(disk)->sim, fd);
}

static inline ssize_t slow_read(struct disk *disk, int fd, void *to, size_t n, int64_t offset)
{
    return slow_of(disk)->sim->ops->read(slow_of(disk)->sim, fd, to, n, offset);
}

static inline int slow_stat(struct disk *disk, const char *path, struct disk_stat *st)
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

static inline void slow_init(struct slow *s, struct disk *sim)
{
    s->sim = sim;
    s->loop = pthread_self();
    sem_init(&s->go, 0, 0);
    sem_init(&s->waits, 0, 0);
    s->ops = (struct disk_ops){
        .open = slow_open, .close = slow_close, .read = slow_read, .stat = slow_stat};
    s->disk.ops = &s->ops;
}

static inline int begin_sized(void **state, uint32_t segment_size)
{
    struct scene *s = NEW(struct scene);
    struct error err;
    setup_sized(&s->w, segment_size);
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

static inline int end_scene(void **state)
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

static inline void on_page(struct ipc_in *in, void *arg)
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

static inline void list(struct admin *a, uint64_t after)
{
    struct queue_list msg = {.after = after, .filter = SLICE_LIT("")};
    a->answers = 0;
    ipc_call(a->end.ipc, queue_list_type, 0, &msg, -1, on_page, a);
}

static inline void on_details(struct ipc_in *in, void *arg)
{
    struct admin *a = arg;
    a->answers++;
    a->code = in ? ((const struct queue_details *)in->msg)->code : 1;
    a->next = in ? ((const struct queue_details *)in->msg)->next : 0;
}

static inline void show(struct admin *a, uint64_t qid, uint32_t from)
{
    struct queue_show msg = {.qid = qid, .from = from};
    a->answers = 0;
    ipc_call(a->end.ipc, queue_show_type, qid, &msg, -1, on_details, a);
}

static inline void on_acted(struct ipc_in *in, void *arg)
{
    struct admin *a = arg;
    a->answers++;
    a->code = in ? ((const struct queue_acted *)in->msg)->code : 1;
    a->count = in ? ((const struct queue_acted *)in->msg)->count : 0;
}

static inline void act(struct admin *a, const char *verb, uint64_t qid, const char *argument)
{
    struct queue_act msg = {.verb = slice_of(verb), .qid = qid, .argument = slice_of(argument)};
    a->answers = 0;
    ipc_call(a->end.ipc, queue_act_type, qid, &msg, -1, on_acted, a);
}

/* A thread is about to read. */
static inline void held_back(struct scene *s)
{
    settle(&s->w);
    sem_wait(&s->slow.waits);
}

static inline void let_go(struct scene *s, const struct admin *a)
{
    sem_post(&s->slow.go);
    while (a->answers == 0) {
        loop_poll(s->w.q.loop);
        usleep(100);
    }
}

/* qmgr ends while a thread is about to read. */
static inline void end_while_held_back(struct scene *s)
{
    held_back(s);
    sem_post(&s->slow.go);
    beside_free(s->w.q.beside);
    s->w.q.beside = NULL;
    settle(&s->w);
}
