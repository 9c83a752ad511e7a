#include <sys/resource.h>

#include "master/master.h"

/* For each process: its channel, and a few on their way to it, which the kernel counts against the
 * same limit until they are taken. FILES_BASE: what one process needs for its work. */
enum { FILES_BASE = 128, FILES_PER_PROCESS = 8 };

int files_check(const struct conf *conf, struct error *err)
{
    struct rlimit files;
    unsigned processes = 0;
    for (int r = 0; r < ROLE_COUNT; r++)
        processes += process_count(conf, (enum role)r);
    rlim_t need = FILES_BASE + (rlim_t)processes * FILES_PER_PROCESS;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return error_sys(err, "limit of open files");
    if (files.rlim_cur == RLIM_INFINITY || files.rlim_cur >= need)
        return OK;
    return error_set(err, ERR_LIMIT,
        "the limit of open files is %llu, but %u processes need at least %llu: raise the "
        "hard limit where this is started (`ulimit -Hn`, or LimitNOFILE= of a systemd service)",
        (unsigned long long)files.rlim_cur, processes, (unsigned long long)need);
}
