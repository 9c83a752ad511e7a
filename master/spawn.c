#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "libutil/proto/master.h"
#include "master/spawn.h"

enum { CONFIG_MAX = 4 * 1024 * 1024 };

/* The part of the configuration this role reads, sealed. -1 on failure. */
static int config_memfd(const struct master *m, enum role role)
{
    struct buf text;
    buf_init(&text, CONFIG_MAX);
    conf_write(m->conf, (int)role, &text);
    int fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct slice s = buf_slice(&text);
    const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (fd >= 0 && (write(fd, s.p, s.n) != (ssize_t)s.n || fcntl(fd, F_ADD_SEALS, seals) != 0))
        fd_close(&fd);
    buf_clear(&text);
    return fd;
}

void spawn_send_config(struct process *p)
{
    struct master *m = p->master;
    struct master_config config = {
        .worker = p->worker, .rootless = m->rootless, .directory = slice_of(m->directory)};
    int fd = config_memfd(m, p->role);
    if (fd >= 0 && p->ipc)
        ipc_send(p->ipc, master_config_type, 0, &config, fd);
    fd_close(&fd);
}

void spawn_configure(struct process *p)
{
    struct master *m = p->master;
    spawn_send_config(p);
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        struct master_listen listen = {.name = slice_of(s->name),
            .protocol = slice_of(s->protocol),
            .address = slice_of(s->address),
            .tls = s->tls};
        if (s->role == p->role)
            ipc_send(p->ipc, master_listen_type, 0, &listen, s->fd);
    }
}

/* In the child: only async-signal-safe calls until exec. */
static _Noreturn void become_program(const struct master *m, enum role role, int sock)
{
    const char *program = role_info(role)->program;
    char *argv[] = {(char *)(uintptr_t)program, NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    if (dup2(sock, MASTER_FD) >= 0) {
        fcntl(MASTER_FD, F_SETFD, 0);
        close_range(MASTER_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
        syscall(SYS_execveat, m->bin_dir, program, argv, environ, 0);
    }
    dprintf(STDERR_FILENO, "veredus: cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

pid_t spawn_program(const struct master *m, enum role role, int *fd, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_sys(err, "socketpair");
    pid_t pid = fork();
    if (pid == 0)
        become_program(m, role, pair[1]);
    close(pair[1]);
    *fd = pair[0];
    if (pid < 0) {
        int rc = error_sys(err, "fork");
        fd_close(fd);
        return rc;
    }
    return pid;
}
