#include "qmgr/beside.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct beside {
    struct loop *loop;
    struct io *io;
    int event;               /* the thread has done its job */
    struct list waiting;     /* jobs; the first is under way when busy */
    struct beside_job *busy; /* NULL: none */
    bool threaded;           /* it has a thread, to be joined */
    pthread_t thread;
};

static void tell(struct beside *b)
{
    uint64_t one = 1;
    ssize_t written = write(b->event, &one, sizeof(one));
    (void)written; /* the counter cannot overflow: one job at a time */
}

static void *thread_main(void *arg)
{
    struct beside *b = arg;
    b->busy->work(b->busy);
    tell(b);
    return NULL;
}

/* The thread takes no signals: they are the loop's. */
static int start_thread(struct beside *b)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&b->thread, NULL, thread_main, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void next(struct beside *b)
{
    if (b->busy || list_empty(&b->waiting))
        return;
    b->busy = LIST_ENTRY(b->waiting.next, struct beside_job, link);
    list_remove(&b->busy->link);
    b->threaded = start_thread(b) == 0;
    if (b->threaded)
        return;
    b->busy->work(b->busy); /* slow is better than never */
    tell(b);
}

static struct beside_job *finish(struct beside *b)
{
    struct beside_job *job = b->busy;
    if (b->threaded)
        pthread_join(b->thread, NULL);
    b->threaded = false;
    b->busy = NULL;
    return job;
}

static void on_event(int fd, unsigned events, void *arg)
{
    (void)events;
    struct beside *b = arg;
    uint64_t count;
    if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
        return;
    struct beside_job *job = finish(b);
    job->done(job, true);
    next(b);
}

void beside_run(struct beside *b, struct beside_job *job)
{
    list_append(&b->waiting, &job->link);
    next(b);
}

struct beside *beside_new(struct loop *loop, struct error *err)
{
    struct beside *b = NEW(struct beside);
    *b = (struct beside){.loop = loop, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    list_init(&b->waiting);
    if (b->event < 0) {
        error_sys(err, "cannot make an eventfd");
        free(b);
        return NULL;
    }
    b->io = io_new(loop, b->event, IO_READ, on_event, b);
    return b;
}

void beside_free(struct beside *b)
{
    if (!b)
        return;
    if (b->busy) {
        struct beside_job *job = finish(b);
        job->done(job, false);
    }
    LIST_EACH(it, &b->waiting)
    {
        list_remove(it);
        struct beside_job *job = LIST_ENTRY(it, struct beside_job, link);
        job->done(job, false);
    }
    io_free(b->io);
    fd_close(&b->event);
    free(b);
}
