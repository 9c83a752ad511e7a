#include "libutil/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <time.h>

#include "libutil/list.h"

struct io {
    struct loop *loop;
    struct event *event;
    struct list link; /* in loop->ios */
    int fd;
    unsigned events;
    io_fn *fn;
    void *arg;
};

struct deferred {
    struct list link;
    uint64_t round; /* of the loop when it was deferred */
    timer_fn *fn;
    void *arg;
};

struct watcher { /* of a signal */
    struct loop *loop;
    struct list link;
    struct event *event;
    signal_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event *wake; /* ends a poll when the next timer is due */
    struct heap timers;
    struct list deferred, last, signals, ios;
    int64_t now;
    uint64_t round;
    int64_t pace;
    char *scratch;
    size_t scratch_size;
    int64_t wall_step; /* fake: wall clock ahead of now */
    bool fake, stopped;
};

static int64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void wake_up(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

static struct loop *loop_make(void)
{
    struct loop *loop = NEW(struct loop);
    /* No change list: descriptors are passed to other processes, and a delayed EPOLL_CTL_DEL
     * would leave them watched here. */
    loop->base = event_base_new();
    loop->wake = loop->base ? evtimer_new(loop->base, wake_up, NULL) : NULL;
    if (!loop->wake)
        abort();
    heap_init(&loop->timers);
    list_init(&loop->deferred);
    list_init(&loop->last);
    list_init(&loop->signals);
    list_init(&loop->ios);
    return loop;
}

struct loop *loop_new(void)
{
    struct loop *loop = loop_make();
    loop->now = clock_ms(CLOCK_MONOTONIC);
    return loop;
}

struct loop *loop_new_fake(int64_t start_ms)
{
    struct loop *loop = loop_make();
    loop->fake = true;
    loop->now = start_ms;
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    LIST_EACH(it, &loop->deferred)
    free(LIST_ENTRY(it, struct deferred, link));
    LIST_EACH(it, &loop->last)
    free(LIST_ENTRY(it, struct deferred, link));
    LIST_EACH(it, &loop->signals)
    {
        struct watcher *w = LIST_ENTRY(it, struct watcher, link);
        event_free(w->event);
        free(w);
    }
    LIST_EACH(it, &loop->ios)
    io_free(LIST_ENTRY(it, struct io, link));
    heap_clear(&loop->timers);
    event_free(loop->wake);
    event_base_free(loop->base);
    free(loop->scratch);
    free(loop);
}

char *loop_scratch(struct loop *loop, size_t n)
{
    if (n > loop->scratch_size) {
        free(loop->scratch);
        loop->scratch = xrealloc(NULL, n, 1);
        loop->scratch_size = n;
    }
    return loop->scratch;
}

void *loop_event_base(struct loop *loop)
{
    return loop->base;
}

int64_t loop_now(const struct loop *loop)
{
    return loop->now;
}

int64_t loop_wall(const struct loop *loop)
{
    return loop->fake ? loop->now + loop->wall_step : clock_ms(CLOCK_REALTIME);
}

void loop_step_wall(struct loop *loop, int64_t ms)
{
    assert(loop->fake);
    loop->wall_step += ms;
}

/* --- io ------------------------------------------------------------------------------------- */

static void io_ready(evutil_socket_t fd, short what, void *arg)
{
    struct io *io = arg;
    unsigned events = (what & EV_READ ? IO_READ : 0u) | (what & EV_WRITE ? IO_WRITE : 0u);
    if (!io->loop->fake)
        io->loop->now = clock_ms(CLOCK_MONOTONIC);
    io->fn(fd, events, io->arg);
}

struct io *io_new(struct loop *loop, int fd, unsigned events, io_fn *fn, void *arg)
{
    struct io *io = NEW(struct io);
    io->loop = loop;
    io->fd = fd;
    io->fn = fn;
    io->arg = arg;
    io->event = event_new(loop->base, fd, EV_PERSIST, io_ready, io);
    if (!io->event)
        abort();
    list_append(&loop->ios, &io->link);
    io_set(io, events);
    return io;
}

void io_set(struct io *io, unsigned events)
{
    if (io->events == events)
        return;
    if (io->events)
        event_del(io->event);
    io->events = events;
    short what = (short)((events & IO_READ ? EV_READ : 0) | (events & IO_WRITE ? EV_WRITE : 0));
    event_assign(io->event, io->loop->base, io->fd, (short)(what | EV_PERSIST), io_ready, io);
    if (events)
        event_add(io->event, NULL);
}

void io_free(struct io *io)
{
    if (!io)
        return;
    list_remove(&io->link);
    event_free(io->event);
    free(io);
}

/* --- timers --------------------------------------------------------------------------------- */

void timer_init(struct timer *t, struct loop *loop, timer_fn *fn, void *arg)
{
    *t = (struct timer){.loop = loop, .fn = fn, .arg = arg};
}

void timer_start(struct timer *t, int64_t ms)
{
    t->due = t->loop->now + MAX(ms, 0);
    /* Most are put off again and again: one that is in the heap already is moved when its old time
     * has come. */
    if (!timer_active(t) || t->due < t->node.key)
        heap_set(&t->loop->timers, &t->node, t->due);
}

void timer_stop(struct timer *t)
{
    if (t->loop)
        heap_remove(&t->loop->timers, &t->node);
}

bool timer_active(const struct timer *t)
{
    return t->node.index != 0;
}

/* Runs what is due now; timers started by callbacks wait for the next round. */
static void run_timers(struct loop *loop)
{
    int64_t until = loop->now;
    for (struct heap_node *n; (n = heap_min(&loop->timers)) && n->key <= until;) {
        struct timer *t = CONTAINER_OF(n, struct timer, node);
        if (t->due > n->key) {
            heap_set(&loop->timers, n, t->due);
            continue;
        }
        heap_remove(&loop->timers, n);
        t->fn(t->arg);
    }
}

static void put_off(struct loop *loop, struct list *to, timer_fn *fn, void *arg)
{
    struct deferred *d = NEW(struct deferred);
    d->round = loop->round;
    d->fn = fn;
    d->arg = arg;
    list_append(to, &d->link);
}

void loop_defer(struct loop *loop, timer_fn *fn, void *arg)
{
    put_off(loop, &loop->deferred, fn, arg);
}

void loop_defer_last(struct loop *loop, timer_fn *fn, void *arg)
{
    put_off(loop, &loop->last, fn, arg);
}

static void cancel(struct list *calls, const void *arg)
{
    LIST_EACH(it, calls)
    {
        struct deferred *d = LIST_ENTRY(it, struct deferred, link);
        if (d->arg == arg) {
            list_remove(it);
            free(d);
        }
    }
}

void loop_cancel(struct loop *loop, void *arg)
{
    cancel(&loop->deferred, arg);
    cancel(&loop->last, arg);
}

/* Runs calls that were deferred in this round or before. */
static void run_calls(struct list *calls, uint64_t round)
{
    while (!list_empty(calls)) {
        struct deferred *d = LIST_ENTRY(calls->next, struct deferred, link);
        if (d->round > round)
            break;
        timer_fn *fn = d->fn;
        void *arg = d->arg;
        list_remove(&d->link);
        free(d);
        fn(arg);
    }
}

/* Runs the calls that are deferred now, not those they defer in turn. */
static void run_deferred(struct loop *loop)
{
    enum { LAST_ROUNDS = 3 }; /* so many rounds the last ones wait for others */
    uint64_t round = loop->round++;
    run_calls(&loop->deferred, round);
    if (list_empty(&loop->deferred))
        run_calls(&loop->last, round);
    else if (round >= LAST_ROUNDS)
        run_calls(&loop->last, round - LAST_ROUNDS);
}

/* --- signals -------------------------------------------------------------------------------- */

static void signal_ready(evutil_socket_t signo, short what, void *arg)
{
    (void)what;
    struct watcher *w = arg;
    if (!w->loop->fake)
        w->loop->now = clock_ms(CLOCK_MONOTONIC);
    w->fn(signo, w->arg);
}

void loop_signal(struct loop *loop, int signo, signal_fn *fn, void *arg)
{
    struct watcher *w = NEW(struct watcher);
    w->loop = loop;
    w->fn = fn;
    w->arg = arg;
    w->event = evsignal_new(loop->base, signo, signal_ready, w);
    if (!w->event || event_add(w->event, NULL) != 0)
        abort();
    list_append(&loop->signals, &w->link);
}

/* --- running -------------------------------------------------------------------------------- */

/* Milliseconds the poll may sleep; -1: until something happens. */
static int64_t sleep_time(const struct loop *loop)
{
    if (!list_empty(&loop->deferred) || !list_empty(&loop->last))
        return 0;
    const struct heap_node *n = heap_min(&loop->timers);
    return n ? MAX(n->key - loop->now, 0) : -1;
}

static void poll_once(struct loop *loop, int64_t wait_ms)
{
    if (wait_ms == 0) {
        event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY);
    } else {
        struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};
        if (wait_ms > 0)
            event_add(loop->wake, &tv);
        else
            event_del(loop->wake);
        event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    }
    if (!loop->fake)
        loop->now = clock_ms(CLOCK_MONOTONIC);
}

void loop_pace(struct loop *loop, int64_t ms)
{
    loop->pace = ms;
}

/* Nothing is missed meanwhile: it waits in the sockets. */
static void keep_pace(const struct loop *loop)
{
    if (loop->pace && list_empty(&loop->deferred))
        nanosleep(&(struct timespec){.tv_nsec = loop->pace * 1000000L}, NULL);
}

int loop_run(struct loop *loop)
{
    loop->stopped = false;
    while (!loop->stopped) {
        keep_pace(loop);
        poll_once(loop, sleep_time(loop));
        run_timers(loop);
        run_deferred(loop);
    }
    run_deferred(loop); /* what the last callbacks left to be sent */
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

void loop_poll(struct loop *loop)
{
    poll_once(loop, 0);
    run_timers(loop);
    run_deferred(loop);
}

void loop_advance(struct loop *loop, int64_t ms)
{
    assert(loop->fake);
    int64_t end = loop->now + ms;
    for (struct heap_node *n; (n = heap_min(&loop->timers)) && n->key <= end;) {
        loop->now = MAX(loop->now, n->key);
        run_timers(loop);
        run_deferred(loop);
    }
    loop->now = end;
    loop_poll(loop);
}
