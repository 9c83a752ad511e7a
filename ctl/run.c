/* start, stop, reload: the system as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/config_world.h"
#include "ctl/ctl.h"
#include "libutil/proto/ctl.h"

enum { START_MS = 60000, STOP_MS = 45000 };

/* In the child: master with its output going to a file of its own, since nobody listens. */
static _Noreturn void exec_master(const struct ctl *c, const char *directory, int ready)
{
    char path[4200], fd[16], program[4200];
    snprintf(path, sizeof(path), "%s/log/stderr", directory);
    snprintf(program, sizeof(program), "%s/master", c->bin_dir);
    snprintf(fd, sizeof(fd), "%d", ready);
    int null = open("/dev/null", O_RDONLY);
    int out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0640);
    if (out < 0)
        out = open("/dev/null", O_WRONLY);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    setsid();
    fcntl(ready, F_SETFD, 0);
    execl(program, "master", "--config", c->conf_path, "--ready-fd", fd, (char *)NULL);
    dprintf(ready, "%s: %s\n", program, strerror(errno));
    _exit(1);
}

/* Waits for master's first line: "ok", or why not. CTL_TEMPORARY: it has said nothing yet. */
static int await_ready(int fd)
{
    char line[1024];
    size_t n = 0;
    int events = 1;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (n < sizeof(line) - 1 && (events = poll(&p, 1, START_MS)) > 0) {
        ssize_t got = read(fd, line + n, sizeof(line) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    line[n] = '\0';
    struct slice text = slice_trim(slice_from(line, n));
    if (slice_is(text, "ok"))
        return CTL_OK;
    if (events == 0)
        return ctl_fail(CTL_TEMPORARY, "the system is still starting: see log/veredus.log");
    if (text.n == 0)
        return ctl_fail(CTL_NO, "the system did not start: see log/stderr and log/veredus.log");
    return ctl_fail(CTL_NO, "%.*s", SLICE_FMT(text));
}

static int check_world(struct ctl *c)
{
    struct buf errors;
    const struct conf *conf = ctl_conf(c);
    if (!conf)
        return CTL_NO;
    buf_init(&errors, 65536);
    config_check_world(conf, &errors);
    int status = buf_len(&errors) ? CTL_NO : CTL_OK;
    fprintf(stderr, "%.*s", SLICE_FMT(buf_slice(&errors)));
    buf_clear(&errors);
    return status;
}

static int start(struct ctl *c, int argc, char **argv)
{
    int ready[2];
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    const char *directory = ctl_directory(c);
    if (!directory || check_world(c) != CTL_OK)
        return CTL_NO;
    if (pipe2(ready, O_CLOEXEC) != 0)
        return ctl_fail(CTL_NO, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        close(ready[0]);
        exec_master(c, directory, ready[1]);
    }
    close(ready[1]);
    int status = pid < 0 ? ctl_fail(CTL_NO, "fork: %s", strerror(errno)) : await_ready(ready[0]);
    close(ready[0]);
    if (status == CTL_NO && pid > 0)
        waitpid(pid, NULL, 0);
    return status;
}

/* master holds a lock on its pid file as long as it lives. */
static bool is_gone(const char *directory)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/run/veredus.pid", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    bool gone = flock(fd, LOCK_SH | LOCK_NB) == 0;
    close(fd);
    return gone;
}

static int stop(struct ctl *c, int argc, char **argv)
{
    struct ipc_sync s;
    struct ipc_in in;
    struct error err = {0};
    static const struct ctl_stop none;
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    const char *directory = ctl_directory(c);
    if (!directory)
        return CTL_NO;
    int rc = ctl_connect_master(c, &s, &err);
    if (rc == ERR_CLOSED) {
        fprintf(stderr, "%s\n", err.text);
        return CTL_OK;
    }
    if (rc)
        return ctl_report(&err);
    rc = ipc_sync_call(&s, ctl_stop_type, 0, &none, -1, &in, &err);
    ipc_sync_close(&s);
    for (int ms = 0; ms < STOP_MS && !is_gone(directory); ms += 20)
        usleep(20000);
    if (!is_gone(directory))
        return ctl_fail(CTL_TEMPORARY, "still stopping");
    return CTL_OK;
}

static int restart(struct ctl *c, int argc, char **argv)
{
    int status = stop(c, argc, argv);
    return status == CTL_OK ? start(c, argc, argv) : status;
}

static int reload(struct ctl *c, int argc, char **argv)
{
    struct ipc_sync s;
    struct ipc_in in;
    struct error err = {0};
    static const struct ctl_reload none;
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    if (check_world(c) != CTL_OK)
        return CTL_NO;
    int rc = ctl_connect_master(c, &s, &err);
    if (rc == OK)
        rc = ipc_sync_call(&s, ctl_reload_type, 0, &none, -1, &in, &err);
    if (rc)
        return ctl_report(&err);
    const struct ctl_result *result = in.msg;
    bool refused = result->code != OK;
    fprintf(refused ? stderr : stdout, "%.*s", SLICE_FMT(result->text));
    ipc_sync_close(&s);
    return refused ? CTL_NO : CTL_OK;
}

const struct ctl_verb run_verbs[] = {
    {"start", NULL, "", "Start the system; returns when all listeners accept.", start},
    {"stop", NULL, "", "Stop the system: finish what is under way, then end.", stop},
    {"restart", NULL, "", "Stop, then start.", restart},
    {"reload", NULL, "", "Read the configuration again: all of it is applied, or nothing.", reload},
    {0}};
