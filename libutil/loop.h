/*
 * The event loop: io, timers, signals, child exits; and the clock. libevent does the polling
 * and appears nowhere else (dnsd excepted, which lends its base to libunbound).
 *
 * A loop made by loop_new_fake polls nothing by itself and has a clock that moves only by
 * loop_advance, so schedulers and sessions are tested on it without waiting.
 *
 * All times are milliseconds. loop_now is monotonic and cached per iteration; loop_wall is
 * seconds-precise real time in milliseconds since 1970 and may step.
 */
#pragma once

#include "libutil/heap.h"

struct loop;
struct io;

enum { IO_READ = 1, IO_WRITE = 2 };

typedef void io_fn(int fd, unsigned events, void *arg);
typedef void timer_fn(void *arg);
typedef void signal_fn(int signo, void *arg);

/* Embedded in its owner; zero it (or timer_init) before use. */
struct timer {
    struct heap_node node; /* no later than due */
    int64_t due;
    struct loop *loop;
    timer_fn *fn;
    void *arg;
};

struct loop *loop_new(void);
struct loop *loop_new_fake(int64_t start_ms);
void loop_free(struct loop *);

/* Turns begin at least this far apart. For processes that are only told things: they wake up less
 * often, for more at once, and whoever tells them need not wake them. */
void loop_pace(struct loop *, int64_t ms);
/* Runs until loop_stop. Returns 0. */
int loop_run(struct loop *);
void loop_stop(struct loop *);
int64_t loop_now(const struct loop *);
int64_t loop_wall(const struct loop *);
/* Somebody sets the clock of a fake loop: loop_wall jumps, loop_now does not. */
void loop_step_wall(struct loop *, int64_t ms);
/* Fake loops: moves the clock by ms, running timers as they fall due; then polls ready io once. */
void loop_advance(struct loop *, int64_t ms);
/* Polls ready descriptors and due timers once without waiting (both kinds of loop). */
void loop_poll(struct loop *);
/* Room of n bytes shared by everything on this loop, for use until the callback returns. */
char *loop_scratch(struct loop *, size_t n);
/* The struct event_base, for libraries that need one. */
void *loop_event_base(struct loop *);

/* Watches fd (not owned) for events; level triggered. events may be 0 for later io_set. */
struct io *io_new(struct loop *, int fd, unsigned events, io_fn *, void *arg);
void io_set(struct io *, unsigned events);
/* NULL is ignored. Safe inside the io's own callback. */
void io_free(struct io *);

void timer_init(struct timer *, struct loop *, timer_fn *, void *arg);
/* (Re)starts: fn runs once, ms from now. */
void timer_start(struct timer *, int64_t ms);
void timer_stop(struct timer *);
bool timer_active(const struct timer *);

/* Calls fn in the loop (not in signal context). The registration lasts as long as the loop. */
void loop_signal(struct loop *, int signo, signal_fn *, void *arg);
/* Runs fn once, in the next iteration, after the current callbacks. */
void loop_defer(struct loop *, timer_fn *, void *arg);
/* As loop_defer, but behind all calls that are deferred until then, and those that they defer in
 * turn: for what nobody waits for. */
void loop_defer_last(struct loop *, timer_fn *, void *arg);
/* Cancels all deferred calls with this arg. */
void loop_cancel(struct loop *, void *arg);
