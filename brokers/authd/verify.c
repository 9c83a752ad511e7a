#include "brokers/authd/verify.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libutil/list.h"
#include "libutil/password.h"

struct job {
    struct list link;
    char password[PASSWORD_MAX + 1], hash[PASSWORD_HASH_MAX];
    int rc;
    verify_fn *fn;
    void *arg;
};

struct verifier {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list waiting, done; /* under lock */
    size_t count;              /* of jobs not yet answered; the loop's */
    bool stop;                 /* under lock */
    int event_fd;
    struct io *io;
    pthread_t *threads;
    unsigned nthreads;
};

static void *run(void *arg)
{
    struct verifier *v = arg;
    uint64_t one = 1;
    pthread_mutex_lock(&v->lock);
    while (!v->stop) {
        if (list_empty(&v->waiting)) {
            pthread_cond_wait(&v->work, &v->lock);
            continue;
        }
        struct job *job = LIST_ENTRY(v->waiting.next, struct job, link);
        list_remove(&job->link);
        pthread_mutex_unlock(&v->lock);
        job->rc = password_verify(job->password, job->hash);
        explicit_bzero(job->password, sizeof(job->password));
        pthread_mutex_lock(&v->lock);
        list_append(&v->done, &job->link);
        /* Only full counters block, and the loop empties this one. */
        ssize_t n = write(v->event_fd, &one, sizeof(one));
        (void)n;
    }
    pthread_mutex_unlock(&v->lock);
    return NULL;
}

static void job_free(struct job *job)
{
    explicit_bzero(job, sizeof(*job));
    free(job);
}

static void on_done(int fd, unsigned events, void *arg)
{
    struct verifier *v = arg;
    uint64_t count;
    (void)events;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
    for (;;) {
        pthread_mutex_lock(&v->lock);
        struct job *job = NULL;
        if (!list_empty(&v->done)) {
            job = LIST_ENTRY(v->done.next, struct job, link);
            list_remove(&job->link);
        }
        pthread_mutex_unlock(&v->lock);
        if (!job)
            return;
        v->count--;
        job->fn(job->rc, job->arg);
        job_free(job);
    }
}

struct verifier *verifier_new(struct loop *loop, unsigned threads, struct error *err)
{
    struct verifier *v = NEW(struct verifier);
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->work, NULL);
    list_init(&v->waiting);
    list_init(&v->done);
    v->threads = xcalloc(threads, sizeof(*v->threads));
    v->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (v->event_fd < 0) {
        error_sys(err, "eventfd");
        verifier_free(v);
        return NULL;
    }
    v->io = io_new(loop, v->event_fd, IO_READ, on_done, v);
    for (; v->nthreads < threads; v->nthreads++)
        if (pthread_create(&v->threads[v->nthreads], NULL, run, v)) {
            error_set(err, ERR_IO, "a thread for password hashes cannot be started");
            verifier_free(v);
            return NULL;
        }
    return v;
}

static void free_list(struct list *jobs)
{
    LIST_EACH(it, jobs)
    {
        list_remove(it);
        job_free(LIST_ENTRY(it, struct job, link));
    }
}

void verifier_free(struct verifier *v)
{
    if (!v)
        return;
    pthread_mutex_lock(&v->lock);
    v->stop = true;
    pthread_cond_broadcast(&v->work);
    pthread_mutex_unlock(&v->lock);
    for (unsigned i = 0; i < v->nthreads; i++)
        pthread_join(v->threads[i], NULL);
    io_free(v->io);
    fd_close(&v->event_fd);
    free_list(&v->waiting);
    free_list(&v->done);
    pthread_cond_destroy(&v->work);
    pthread_mutex_destroy(&v->lock);
    free(v->threads);
    free(v);
}

int verifier_submit(
    struct verifier *v, struct slice password, const char *hash, verify_fn *fn, void *arg)
{
    if (v->count >= VERIFY_QUEUE)
        return ERR_BUSY;
    struct job *job = NEW(struct job);
    list_init(&job->link);
    job->fn = fn;
    job->arg = arg;
    /* What does not fit, or holds a NUL, matches no hash. */
    if (!slice_to_cstr(password, job->password, sizeof(job->password)) ||
        !slice_to_cstr(slice_of(hash), job->hash, sizeof(job->hash))) {
        job_free(job);
        return ERR_SYNTAX;
    }
    v->count++;
    pthread_mutex_lock(&v->lock);
    list_append(&v->waiting, &job->link);
    pthread_cond_signal(&v->work);
    pthread_mutex_unlock(&v->lock);
    return OK;
}
