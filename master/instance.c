#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "master/master.h"

static int open_run_dir(struct master *m, struct error *err)
{
    char path[sizeof(m->directory) + 8];
    struct stat st;
    snprintf(path, sizeof(path), "%s/run", m->directory);
    if (stat(m->directory, &st) != 0)
        return error_sys(
            err, "directory %s (made by `veredus init --dir %s`)", m->directory, m->directory);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return error_sys(err, "%s", path);
    m->run_dir = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (m->run_dir < 0)
        return error_sys(err, "%s", path);
    if (fstat(m->run_dir, &st) != 0 || st.st_uid != geteuid())
        return error_set(err, ERR_DENIED,
            "%s belongs to uid %d, but this is uid %d: start as the owner of the instance", path,
            (int)st.st_uid, (int)geteuid());
    return OK;
}

static int lock(struct master *m, struct error *err)
{
    m->pid_file = openat(m->run_dir, "veredus.pid", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (m->pid_file < 0)
        return error_sys(err, "%s/run/veredus.pid", m->directory);
    if (flock(m->pid_file, LOCK_EX | LOCK_NB) != 0) {
        char pid[16] = "";
        ssize_t n = pread(m->pid_file, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        return error_set(err, ERR_BUSY, "%s is running already, as process %s", m->directory, pid);
    }
    if (ftruncate(m->pid_file, 0) != 0 || dprintf(m->pid_file, "%d\n", (int)getpid()) < 0)
        return error_sys(err, "%s/run/veredus.pid", m->directory);
    return OK;
}

int instance_open(struct master *m, struct error *err)
{
    int rc = open_run_dir(m, err);
    return rc ? rc : lock(m, err);
}

void instance_close(struct master *m)
{
    if (m->pid_file >= 0)
        unlinkat(m->run_dir, "veredus.pid", 0);
    fd_close(&m->pid_file);
    fd_close(&m->run_dir);
}

void instance_report(struct master *m, const char *text)
{
    if (m->ready_fd < 0)
        return;
    dprintf(m->ready_fd, "%s\n", text);
    fd_close(&m->ready_fd);
}
