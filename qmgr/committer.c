#include "qmgr/committer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A change of threads and back costs about as much as the commit on a disk that is this quick. */
enum { QUICK_US = 500, RECORD_IN_LOOP = 256 * 1024 };

struct committer {
    struct loop *loop;
    struct spool *spool;
    bool threaded;
    void (*on_batch)(void *arg);
    void *arg;
    /* the loop's, or while it is busy the thread's */
    bool quick; /* the last commit was */
    /* the loop's */
    struct list waiting;
    struct list files; /* lazy jobs with a file of their own: others may pass them, for no message
                        * has a second job under way beside one of these, but DONE */
    size_t nfiles, pending;
    bool urgent; /* somebody waits for one of `waiting` */
    bool busy, kicked;
    struct timer lazy, mark;
    struct spool_figures figures;
    struct io *io;
    int event;
    pthread_t thread;
    /* shared, under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list handed, finished;
    bool work; /* what was handed over, or the mark when that is nothing */
    bool stop;
};

static void move_all(struct list *to, struct list *from)
{
    LIST_EACH(it, from)
    {
        list_remove(it);
        list_append(to, it);
    }
}

static bool has_file(const struct spool_job *job)
{
    return job->op > SPOOL_FORGET || job->big[0];
}

/* Only small records for the log: one write and one sync. */
static bool log_only(const struct list *batch)
{
    for (const struct list *it = batch->next; it != batch; it = it->next) {
        const struct spool_job *job = CONTAINER_OF(it, struct spool_job, link);
        if (has_file(job) || buf_len(&job->record) > RECORD_IN_LOOP)
            return false;
    }
    return true;
}

static void commit(struct committer *c, struct list *batch)
{
    bool simple = log_only(batch);
    int64_t begun = monotonic_us();
    spool_run(c->spool, batch);
    if (simple)
        c->quick = monotonic_us() - begun < QUICK_US;
}

static void *thread_main(void *arg)
{
    struct committer *c = arg;
    struct list batch;
    list_init(&batch);
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->work && !c->stop)
            pthread_cond_wait(&c->wake, &c->lock);
        if (!c->work)
            break;
        c->work = false;
        move_all(&batch, &c->handed);
        pthread_mutex_unlock(&c->lock);
        if (list_empty(&batch))
            spool_mark(c->spool);
        else
            commit(c, &batch);
        pthread_mutex_lock(&c->lock);
        move_all(&c->finished, &batch);
        uint64_t one = 1;
        ssize_t written = write(c->event, &one, sizeof(one));
        (void)written; /* the counter cannot overflow: one batch at a time */
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static void hand_over(struct committer *c, struct list *batch)
{
    c->busy = true;
    pthread_mutex_lock(&c->lock);
    move_all(&c->handed, batch);
    c->work = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

static void give_back(struct committer *c, struct list *finished)
{
    spool_figures(c->spool, &c->figures);
    LIST_EACH(it, finished)
    {
        struct spool_job *job = LIST_ENTRY(it, struct spool_job, link);
        list_remove(it);
        c->pending--;
        job->done(job, job->arg);
    }
    c->on_batch(c->arg);
    if (c->threaded && spool_unmarked(c->spool))
        timer_start(&c->mark, SPOOL_LAZY_MS);
}

/* There has been nothing to commit for a while: what was done is marked. */
static void mark(void *arg)
{
    struct committer *c = arg;
    struct list nothing;
    list_init(&nothing);
    if (!c->busy)
        hand_over(c, &nothing);
}

static void kick(void *arg);

static void schedule_kick(struct committer *c)
{
    if (c->busy || c->kicked || c->stop || (list_empty(&c->waiting) && c->nfiles == 0))
        return;
    if (!c->urgent && c->nfiles <= COMMITTER_FILES) {
        if (!timer_active(&c->lazy))
            timer_start(&c->lazy, SPOOL_LAZY_MS);
        return;
    }
    /* Deferred, so that all requests of this turn of the loop share the commit. */
    c->kicked = true;
    loop_defer(c->loop, kick, c);
}

static void kick(void *arg)
{
    struct committer *c = arg;
    c->kicked = false;
    if (c->busy || (list_empty(&c->waiting) && c->nfiles == 0))
        return;
    timer_stop(&c->lazy);
    struct list batch;
    list_init(&batch);
    move_all(&batch, &c->waiting);
    c->urgent = false;
    for (size_t i = 0; i < COMMITTER_FILES && c->nfiles > 0; i++, c->nfiles--) {
        struct list *first = c->files.next;
        list_remove(first);
        list_append(&batch, first);
    }
    if (c->threaded && !(c->quick && log_only(&batch))) {
        hand_over(c, &batch);
        return;
    }
    commit(c, &batch);
    give_back(c, &batch);
    schedule_kick(c);
}

static void on_event(int fd, unsigned events, void *arg)
{
    (void)events;
    struct committer *c = arg;
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof(count));
    (void)got;
    struct list finished;
    list_init(&finished);
    pthread_mutex_lock(&c->lock);
    move_all(&finished, &c->finished);
    pthread_mutex_unlock(&c->lock);
    c->busy = false;
    if (!list_empty(&finished))
        give_back(c, &finished);
    schedule_kick(c);
}

void committer_submit(struct committer *c, struct spool_job *job)
{
    bool behind = job->lazy && has_file(job);
    list_append(behind ? &c->files : &c->waiting, &job->link);
    c->nfiles += behind;
    c->urgent |= !job->lazy;
    c->pending++;
    schedule_kick(c);
}

size_t committer_pending(const struct committer *c)
{
    return c->pending;
}

const struct spool_figures *committer_figures(const struct committer *c)
{
    return &c->figures;
}

/* The thread takes no signals: they are the loop's. */
static int start_thread(struct committer *c, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, thread_main, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        return OK;
    errno = rc;
    return error_sys(err, "cannot start the committer thread");
}

struct committer *committer_new(struct loop *loop, struct spool *spool, bool threaded,
    void (*on_batch)(void *arg), void *arg, struct error *err)
{
    struct committer *c = NEW(struct committer);
    *c = (struct committer){.loop = loop,
        .spool = spool,
        .threaded = threaded,
        .on_batch = on_batch,
        .arg = arg,
        .event = -1};
    list_init(&c->waiting);
    list_init(&c->files);
    list_init(&c->handed);
    list_init(&c->finished);
    timer_init(&c->lazy, loop, kick, c);
    timer_init(&c->mark, loop, mark, c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    spool_figures(spool, &c->figures);
    if (!threaded)
        return c;
    c->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->event < 0)
        error_sys(err, "cannot make an eventfd");
    else if (start_thread(c, err) == OK) {
        c->io = io_new(loop, c->event, IO_READ, on_event, c);
        return c;
    }
    fd_close(&c->event);
    free(c);
    return NULL;
}

void committer_free(struct committer *c)
{
    if (!c)
        return;
    timer_stop(&c->lazy);
    timer_stop(&c->mark);
    loop_cancel(c->loop, c);
    move_all(&c->waiting, &c->files);
    if (c->threaded) {
        pthread_mutex_lock(&c->lock);
        c->work |= !list_empty(&c->waiting);
        move_all(&c->handed, &c->waiting);
        c->stop = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
        io_free(c->io);
        fd_close(&c->event);
    } else {
        c->stop = true;
        spool_run(c->spool, &c->waiting);
        move_all(&c->finished, &c->waiting);
    }
    LIST_EACH(it, &c->finished)
    {
        struct spool_job *job = LIST_ENTRY(it, struct spool_job, link);
        list_remove(it);
        job->done(job, job->arg);
    }
    /* What those began will be found at the next start. */
    LIST_EACH(it, &c->waiting)
    {
        list_remove(it);
        spool_job_free(LIST_ENTRY(it, struct spool_job, link));
    }
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    free(c);
}
