/*
 * What the disk gives a log like ours: WRITERS threads append records of SIZE bytes to a file in
 * DIR that was written in full before, and wait until they are durable. One thread writes and
 * syncs for all that wait. Prints records a second, records a sync, and microseconds a sync.
 *
 *     disk DIR WRITERS SIZE SECONDS
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { LOG_SIZE = 64 << 20, WRITERS_MAX = 256 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t arrived, durable;
    uint64_t asked, done; /* records */
    bool stop;
    size_t size;
} state = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, false, 0};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "disk: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *writer(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&state.lock);
    while (!state.stop) {
        uint64_t mine = ++state.asked;
        pthread_cond_signal(&state.arrived);
        while (state.done < mine && !state.stop)
            pthread_cond_wait(&state.durable, &state.lock);
    }
    pthread_mutex_unlock(&state.lock);
    return NULL;
}

static void commit(int fd, char *record, size_t n, off_t *at)
{
    struct iovec iov[WRITERS_MAX];
    for (size_t i = 0; i < n; i++)
        iov[i] = (struct iovec){record, state.size};
    if (*at + (off_t)(n * state.size) > LOG_SIZE)
        *at = 0;
    if (pwritev(fd, iov, (int)n, *at) != (ssize_t)(n * state.size) || fdatasync(fd))
        die("writing");
    *at += (off_t)(n * state.size);
}

static int prepare(const char *dir)
{
    char path[4096], *zeros = calloc(1, 1 << 20);
    snprintf(path, sizeof(path), "%s/disk-probe", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        die(path);
    unlink(path);
    for (off_t at = 0; at < LOG_SIZE; at += 1 << 20)
        if (pwrite(fd, zeros, 1 << 20, at) != 1 << 20)
            die(path);
    if (fsync(fd))
        die(path);
    free(zeros);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: disk DIR WRITERS SIZE SECONDS");
    int fd = prepare(argv[1]), writers = atoi(argv[2]);
    pthread_t threads[WRITERS_MAX];
    state.size = (size_t)atol(argv[3]);
    char *record = calloc(1, state.size);
    if (writers < 1 || writers > WRITERS_MAX)
        die("1 to 256 writers");
    for (int i = 0; i < writers; i++)
        pthread_create(&threads[i], NULL, writer, NULL);
    uint64_t syncs = 0;
    off_t at = 0;
    double begun = now(), end = begun + atof(argv[4]), syncing = 0;
    pthread_mutex_lock(&state.lock);
    while (now() < end) {
        while (state.asked == state.done)
            pthread_cond_wait(&state.arrived, &state.lock);
        uint64_t upto = state.asked, n = upto - state.done;
        pthread_mutex_unlock(&state.lock);
        double before = now();
        commit(fd, record, n, &at);
        syncing += now() - before;
        syncs++;
        pthread_mutex_lock(&state.lock);
        state.done = upto;
        pthread_cond_broadcast(&state.durable);
    }
    double took = now() - begun;
    state.stop = true;
    pthread_cond_broadcast(&state.durable);
    pthread_mutex_unlock(&state.lock);
    for (int i = 0; i < writers; i++)
        pthread_join(threads[i], NULL);
    printf("%.0f %.1f %.0f\n", (double)state.done / took, (double)state.done / (double)syncs,
        1e6 * syncing / (double)syncs);
    return 0;
}
