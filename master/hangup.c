/* SIGHUP is `veredus reload`, run as a program of its own: it looks into the tables first, which
 * this process must not read. What it complains of goes to the log. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "master/master.h"

enum { COMPLAINT_MAX = 16384 };

struct hangup {
    struct io *io;
    int fd; /* its standard error */
    struct buf text;
};

/* In the child: only async-signal-safe calls until exec. */
static _Noreturn void become_reload(const struct master *m, int out)
{
    static char program[] = "veredus", option[] = "-c", verb[] = "reload";
    char *argv[] = {program, option, (char *)(uintptr_t)m->conf_path, verb, NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    int null = open("/dev/null", O_RDWR);
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
        dup2(out, STDERR_FILENO) >= 0)
        syscall(SYS_execveat, m->bin_dir, program, argv, environ, 0);
    dprintf(out, "cannot run veredus: %s\n", strerror(errno));
    _exit(127);
}

static void trouble(struct slice reason)
{
    log_event(NULL, log_trouble, .what = SLICE_LIT("reload"), .reason = reason);
}

static void on_complaint(int fd, unsigned events, void *arg)
{
    struct hangup *h = arg;
    char text[4096];
    (void)events;
    ssize_t n = read(fd, text, sizeof(text));
    if (n > 0) {
        buf_put(
            &h->text, slice_first(slice_from(text, (size_t)n), COMPLAINT_MAX - buf_len(&h->text)));
        return;
    }
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (buf_len(&h->text))
        trouble(slice_trim(buf_slice(&h->text)));
    buf_clear(&h->text);
    io_free(h->io);
    fd_close(&h->fd);
    free(h);
}

void hangup(struct master *m)
{
    int ends[2];
    if (m->stopping)
        return;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        trouble(slice_of(strerror(errno)));
        return;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_reload(m, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        trouble(slice_of(strerror(errno)));
        close(ends[0]);
        return;
    }
    struct hangup *h = NEW(struct hangup);
    h->fd = ends[0];
    buf_init(&h->text, COMPLAINT_MAX);
    h->io = io_new(m->loop, h->fd, IO_READ, on_complaint, h);
}
