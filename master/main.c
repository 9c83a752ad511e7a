#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/conf_place.h"
#include "libutil/sandbox.h"
#include "libutil/version.h"
#include "master/master.h"

/* master --config FILE [--ready-fd N]: started by `veredus start`. */

static void on_stop(int signo, void *arg)
{
    (void)signo;
    process_stop_all(arg);
}

static void on_reload(int signo, void *arg)
{
    (void)signo;
    hangup(arg);
}

static void on_child(int signo, void *arg)
{
    (void)signo;
    process_reap(arg);
}

static int parse_args(struct master *m, int argc, char **argv)
{
    const char *conf = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t fd;
        if (strcmp(argv[i], "--config") == 0)
            conf = argv[i + 1];
        else if (strcmp(argv[i], "--ready-fd") == 0 &&
                 slice_u64(slice_of(argv[i + 1]), 3, 65535, &fd) == OK)
            m->ready_fd = (int)fd;
        else
            return ERR_SYNTAX;
    }
    if (!conf || argc % 2 == 0 || !realpath(conf, m->conf_path))
        return ERR_SYNTAX;
    return OK;
}

/* Our own directory, where the other programs lie too. */
static int open_bin_dir(struct master *m, struct error *err)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n <= 0)
        return error_sys(err, "/proc/self/exe");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    *slash = '\0';
    m->bin_dir = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    return m->bin_dir < 0 ? error_sys(err, "%s", path) : OK;
}

static int load(struct master *m, struct error *err)
{
    struct buf errors;
    buf_init(&errors, 8192);
    m->conf = conf_load(m->conf_path, &errors, err);
    if (!m->conf && buf_len(&errors))
        error_set(err, err->code, "%.*s", SLICE_FMT(slice_trim(buf_slice(&errors))));
    buf_clear(&errors);
    if (!m->conf)
        return err->code;
    struct slice dir = conf_string(conf_root(m->conf), "directory");
    return slice_to_cstr(dir, m->directory, sizeof(m->directory))
               ? OK
               : error_set(err, ERR_LIMIT, "directory: the name is too long");
}

/* Children must survive `ulimit` of the shell they were started from; files_check sees whether
 * what it allows is enough. */
static void raise_limits(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    umask(077);
    setsid();
}

static int open_all(struct master *m, struct error *err)
{
    struct buf errors;
    int rc = load(m, err);
    if (rc == OK)
        rc = files_check(m->conf, err);
    buf_init(&errors, 8192);
    if (rc == OK)
        rc = conf_check_mail_root(m->conf, &errors, err);
    buf_clear(&errors);
    if (rc == OK)
        rc = open_bin_dir(m, err);
    if (rc == OK)
        rc = instance_open(m, err);
    /* Programs reach the instance from here even where its parents are closed to them. */
    if (rc == OK && chdir(m->directory) != 0)
        rc = error_sys(err, "%s", m->directory);
    if (rc == OK)
        rc = listen_open(m, m->conf, err);
    if (rc == OK)
        rc = control_open(m, err);
    if (rc == OK && !m->rootless)
        rc = sandbox_keep_caps(SANDBOX_MASTER_CAPS, err);
    return rc;
}

static void init(struct master *m)
{
    *m = (struct master){.bin_dir = -1,
        .run_dir = -1,
        .pid_file = -1,
        .ready_fd = -1,
        .control_fd = -1,
        .rootless = geteuid() != 0};
    list_init(&m->processes);
    list_init(&m->sockets);
    list_init(&m->clients);
}

int main(int argc, char **argv)
{
    struct master m;
    struct error err = {0};
    if (argc == 2 && strcmp(argv[1], "--events") == 0)
        return log_print_events(master_events);
    log_setup("master", LOG_INFO);
    init(&m);
    if (parse_args(&m, argc, argv) != OK) {
        fputs("usage: master --config FILE [--ready-fd N] (use `veredus start`)\n", stderr);
        return 2;
    }
    raise_limits();
    m.loop = loop_new();
    m.started = loop_now(m.loop);
    if (open_all(&m, &err) != OK) {
        if (m.ready_fd >= 0)
            instance_report(&m, err.text);
        else
            fprintf(stderr, "veredus: %s\n", err.text);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    loop_signal(m.loop, SIGTERM, on_stop, &m);
    loop_signal(m.loop, SIGINT, on_stop, &m);
    loop_signal(m.loop, SIGHUP, on_reload, &m);
    loop_signal(m.loop, SIGCHLD, on_child, &m);
    log_event(
        &m.log, master_start, .what = slice_of(m.conf_path), .version = SLICE_LIT(VEREDUS_VERSION));
    process_start_all(&m);
    loop_run(m.loop);
    control_close(&m);
    instance_close(&m);
    conf_free(m.conf);
    return 0;
}
