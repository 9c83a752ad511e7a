/*
 * Tries what a row forbids and compares. A probe that is answered by death runs in a forked
 * child: before the sandbox by sandbox_probe (each child enters the row, then tries), inside it
 * only where the row allows fork. In other living daemons such probes are listed as not tried,
 * and the facts that can be read (filter mode, capabilities, ids) stand for them.
 *
 * socket, bind and execve are called by number: no daemon's symbol table may name them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/sandbox_parts.h"

enum outcome { ALLOWED, REFUSED, KILLED, NOT_TRIED };
static const char *const outcome_names[] = {"allowed", "refused", "killed", "not tried"};

struct probe {
    const char *name;
    bool (*try)(void);   /* true: it worked */
    unsigned allowed_by; /* groups with which it must work */
    bool lethal;         /* answered by death where not allowed */
};

static bool try_open(void)
{
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0;
    fd_close(&fd);
    return ok;
}

static bool try_create(void)
{
    char name[64];
    snprintf(name, sizeof(name), "/dev/shm/veredus-probe-%d", (int)getpid());
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0;
    if (ok)
        unlink(name);
    fd_close(&fd);
    return ok;
}

static bool try_inet(void)
{
    int fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0;
    fd_close(&fd);
    return ok;
}

static bool try_unix(void)
{
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0;
    fd_close(&fd);
    return ok;
}

static bool try_kill_init(void)
{
    return kill(1, 0) == 0;
}

static bool try_root(void)
{
    return setresuid(0, 0, 0) == 0;
}

static bool try_chmod(void)
{
    return chmod("/", 0755) == 0;
}

static bool try_write_then_execute(void)
{
    size_t n = 4096;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    *(volatile unsigned char *)p = 0xc3;
    bool ok = mprotect(p, n, PROT_READ | PROT_EXEC) == 0;
    munmap(p, n);
    return ok;
}

static bool try_map_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    munmap(p, 4096);
    return true;
}

static bool try_exec(void)
{
    char *const argv[] = {(char *)"true", NULL};
    return syscall(SYS_execve, "/bin/true", argv, NULL) == 0;
}

static bool try_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return pid > 0;
}

static bool try_trace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool try_bind(void)
{
    struct sockaddr sa = {.sa_family = AF_UNSPEC};
    return syscall(SYS_bind, STDIN_FILENO, &sa, sizeof(sa)) == 0 || errno == ENOTSOCK ||
           errno == EINVAL || errno == EBADF;
}

static const struct probe probes[] = {
    {"open a file outside", try_open, SANDBOX_EXEC, false},
    {"create a file outside", try_create, SANDBOX_EXEC, false},
    {"internet socket", try_inet, SANDBOX_CONNECT | SANDBOX_EXEC, false},
    {"local socket", try_unix, SANDBOX_EXEC, false},
    {"signal process 1", try_kill_init, 0, false},
    {"become root", try_root, 0, false},
    {"chmod", try_chmod, 0, false},
    {"make written memory executable", try_write_then_execute, SANDBOX_EXEC, false},
    {"map executable memory", try_map_executable, SANDBOX_EXEC, false},
    {"exec", try_exec, SANDBOX_EXEC, true},
    {"fork", try_fork, SANDBOX_FORK | SANDBOX_EXEC, true},
    {"trace", try_trace, 0, true},
    {"bind", try_bind, SANDBOX_CONNECT | SANDBOX_EXEC, true},
};

static enum outcome expected(const struct probe *p, unsigned calls)
{
    if (p->allowed_by & calls)
        return ALLOWED;
    return p->lethal && !(calls & SANDBOX_EXEC) ? KILLED : REFUSED;
}

/* The child's side of a forked probe: its exit status is the outcome. */
static _Noreturn void probe_child(
    const struct probe *p, const struct sandbox_profile *profile, const struct sandbox_paths *paths)
{
    struct sandbox_report report;
    struct error err;
    if (paths && sandbox_enter(profile, paths, &report, &err) != OK) {
        size_t n = strlen(err.text);
        ssize_t written = write(STDERR_FILENO, err.text, n);
        _exit(written == (ssize_t)n ? 100 : 101);
    }
    _exit(p->try() ? ALLOWED : REFUSED);
}

/* paths: the child enters the row; NULL: it is inside already. */
static enum outcome probe_forked(
    const struct probe *p, const struct sandbox_profile *profile, const struct sandbox_paths *paths)
{
    pid_t pid = fork();
    if (pid == 0)
        probe_child(p, profile, paths);
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return NOT_TRIED;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGSYS ? KILLED : NOT_TRIED;
    if (WEXITSTATUS(status) == 128 + SIGSYS)
        return KILLED; /* VEREDUS_TRACE=sandbox */
    return WEXITSTATUS(status) <= REFUSED ? (enum outcome)WEXITSTATUS(status) : NOT_TRIED;
}

static int report_line(struct buf *out, const char *name, enum outcome got, enum outcome want)
{
    bool ok = got == want;
    buf_printf(out, "%s: %s%s%s\n", name, outcome_names[got], ok ? " as declared" : ", declared ",
        ok ? "" : outcome_names[want]);
    return !ok;
}

static int fact(struct buf *out, const char *name, bool ok)
{
    buf_printf(out, "%s: %s\n", name, ok ? "yes" : "NO");
    return !ok;
}

static bool caps_within(uint64_t keep)
{
    bool ok = true;
    cap_t caps = cap_get_proc();
    if (!caps)
        return false;
    for (int c = 0; c <= CAP_LAST_CAP; c++) {
        cap_flag_value_t permitted = CAP_SET, inheritable = CAP_SET;
        if (cap_get_flag(caps, c, CAP_PERMITTED, &permitted) < 0 ||
            cap_get_flag(caps, c, CAP_INHERITABLE, &inheritable) < 0)
            continue; /* the kernel has fewer */
        ok &= inheritable == CAP_CLEAR && (permitted == CAP_CLEAR || (keep >> c & 1));
    }
    cap_free(caps);
    return ok;
}

static int check_facts(const struct sandbox_profile *profile, struct buf *out)
{
    struct rlimit core = {1, 1};
    getrlimit(RLIMIT_CORE, &core);
    int signo = 0;
    prctl(PR_GET_PDEATHSIG, &signo, 0, 0, 0);
    int bad = 0;
    bad += fact(out, "no new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    bad += fact(out, "system calls filtered", prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
    bad += fact(out, "not dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    bad += fact(out, "dies with its parent", signo == SIGKILL);
    bad += fact(out, "no core files", core.rlim_max == 0);
    bad += fact(out, "no capability beyond the row", caps_within(profile->keep_caps));
    if (profile->account)
        bad += fact(out, "not root", getuid() != 0 && geteuid() != 0);
    return bad;
}

int sandbox_selftest(const struct sandbox_profile *profile, struct buf *out)
{
    int bad = check_facts(profile, out);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        const struct probe *p = &probes[i];
        enum outcome want = expected(p, profile->calls);
        if (profile->calls & SANDBOX_FORK)
            bad += report_line(out, p->name, probe_forked(p, profile, NULL), want);
        else if (want != KILLED)
            bad += report_line(out, p->name, p->try() ? ALLOWED : REFUSED, want);
        else
            buf_printf(out, "%s: not tried, would end this process\n", p->name);
    }
    return bad;
}

int sandbox_probe(
    const struct sandbox_profile *profile, const struct sandbox_paths *paths, struct buf *out)
{
    static const struct sandbox_paths none;
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        enum outcome got = probe_forked(&probes[i], profile, paths ? paths : &none);
        bad += report_line(out, probes[i].name, got, expected(&probes[i], profile->calls));
    }
    return bad;
}
