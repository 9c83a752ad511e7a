#include "delivery/virtual/syncer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libstore/store.h"

struct syncer {
    struct io *io;
    int event;
    void (*done)(struct sync_job *, void *arg);
    void *arg;
    struct list waiting;      /* the loop's */
    struct sync_job *running; /* the thread's until it has written to event */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct sync_job *handed; /* under lock, as stop */
    bool stop;
};

static void run(struct sync_job *job)
{
    for (size_t i = 0; i < job->n && job->code == OK; i++)
        job->code = store_sync(job->fds[i], &job->error);
}

static void *thread_main(void *arg)
{
    struct syncer *s = arg;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->handed && !s->stop)
            pthread_cond_wait(&s->wake, &s->lock);
        struct sync_job *job = s->handed;
        s->handed = NULL;
        pthread_mutex_unlock(&s->lock);
        if (!job)
            return NULL;
        run(job);
        uint64_t one = 1;
        ssize_t written = write(s->event, &one, sizeof(one));
        (void)written; /* the counter cannot overflow: one job at a time */
    }
    return NULL;
}

static void next(struct syncer *s)
{
    if (s->running || list_empty(&s->waiting))
        return;
    s->running = LIST_ENTRY(s->waiting.next, struct sync_job, link);
    list_remove(&s->running->link);
    pthread_mutex_lock(&s->lock);
    s->handed = s->running;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

static void on_event(int fd, unsigned events, void *arg)
{
    struct syncer *s = arg;
    uint64_t count;
    (void)events;
    if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
        return;
    struct sync_job *job = s->running;
    s->running = NULL;
    next(s);
    s->done(job, s->arg);
}

/* It takes no signals: they are the loop's. */
static int start_thread(struct syncer *s, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    errno = pthread_create(&s->thread, NULL, thread_main, s);
    int rc = errno ? error_sys(err, "cannot start a thread") : OK;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

struct syncer *syncer_new(
    struct loop *loop, void (*done)(struct sync_job *, void *arg), void *arg, struct error *err)
{
    struct syncer *s = NEW(struct syncer);
    s->done = done;
    s->arg = arg;
    list_init(&s->waiting);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->event < 0)
        error_sys(err, "cannot make an eventfd");
    if (s->event < 0 || start_thread(s, err)) {
        fd_close(&s->event);
        free(s);
        return NULL;
    }
    s->io = io_new(loop, s->event, IO_READ, on_event, s);
    return s;
}

static void drop(struct sync_job *job, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < job->n; i++)
        fd_close(&job->fds[i]);
    free(job->arg);
    free(job);
}

void syncer_free(struct syncer *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    syncer_each(s, drop, NULL);
    io_free(s->io);
    fd_close(&s->event);
    free(s);
}

void syncer_add(struct syncer *s, struct sync_job *job)
{
    list_append(&s->waiting, &job->link);
    next(s);
}

bool syncer_busy(const struct syncer *s)
{
    return s->running != NULL;
}

void syncer_each(struct syncer *s, void (*fn)(struct sync_job *, void *arg), void *arg)
{
    if (s->running)
        fn(s->running, arg);
    LIST_EACH(it, &s->waiting)
    fn(LIST_ENTRY(it, struct sync_job, link), arg);
}
