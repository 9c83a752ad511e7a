/*
 * LD_PRELOADed into everything that is measured: fsync, fdatasync and syncfs take SLOW_SYNC_US
 * microseconds at least, as on a disk that slow. Calls of several processes wait at the same time,
 * so who makes many of them side by side is not held up more than that.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef int sync_fn(int fd);

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int slowly(const char *name, int fd)
{
    const char *us = getenv("SLOW_SYNC_US");
    long long until = now_ns() + (us ? atoll(us) : 0) * 1000;
    sync_fn *real = (sync_fn *)dlsym(RTLD_NEXT, name);
    int rc = real(fd);
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    if (rc == 0)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    return rc;
}

int fsync(int fd)
{
    return slowly("fsync", fd);
}

int fdatasync(int fd)
{
    return slowly("fdatasync", fd);
}

int syncfs(int fd)
{
    return slowly("syncfs", fd);
}
