/*
 * System-call filters. The allow list is the table below; what is not in it ends the process.
 * Calls that libraries probe, and those the self-test tries in a living daemon, are refused
 * with an error instead. Calls newer than this build are answered ENOSYS, so that a newer C
 * library falls back to the older ones.
 *
 * sandbox.h says which group is for what. With VEREDUS_TRACE=sandbox a forbidden call is named
 * on standard error before the process ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libutil/sandbox_parts.h"

enum { BASE = 0 };
#define READ_OR_WRITE (SANDBOX_FILES_READ | SANDBOX_FILES_WRITE)

/* One allowed form of a call. A row counts when its groups are 0 or meet the profile's. */
struct allow {
    int nr;
    unsigned groups;
    unsigned nargs;
    struct scmp_arg_cmp arg[2];
};

#define ANY(name, groups)            \
    {                                \
        SCMP_SYS(name), (groups), 0, \
        {                            \
            {                        \
                0                    \
            }                        \
        }                            \
    }
#define IF(name, groups, cond)       \
    {                                \
        SCMP_SYS(name), (groups), 1, \
        {                            \
            cond                     \
        }                            \
    }
#define IF2(name, groups, c1, c2)    \
    {                                \
        SCMP_SYS(name), (groups), 2, \
        {                            \
            c1, c2                   \
        }                            \
    }
#define IS(n, value)                 \
    {                                \
        (n), SCMP_CMP_EQ, (value), 0 \
    }
#define BITS(n, mask, value)                     \
    {                                            \
        (n), SCMP_CMP_MASKED_EQ, (mask), (value) \
    }
#define FCNT(cmd, groups) IF(fcntl, groups, IS(1, cmd))
#define PRCTL(op, groups) IF(prctl, groups, IS(0, op))
#define SOCKOPT(level, name) IF2(setsockopt, BASE, IS(1, level), IS(2, name))

#define O_CHANGES (O_ACCMODE | O_CREAT | O_TRUNC)
/* fork(3): an exit signal and the C library's two bookkeeping flags, nothing else. */
#define FORK_MASK (~(uint64_t)(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | 0xff))
#define THREAD_BITS (CLONE_THREAD | CLONE_VM)

/* clang-format off */
static const struct allow allows[] = {
    /* bytes in and out of descriptors that are held already */
    ANY(read, BASE), ANY(readv, BASE), ANY(write, BASE), ANY(writev, BASE), ANY(recvmsg, BASE),
    ANY(sendmmsg, BASE), ANY(recvmmsg, BASE), ANY(sendmsg, BASE), ANY(recvfrom, BASE), IF(sendto, BASE, IS(4, 0)), ANY(pread64, BASE),
    ANY(preadv, BASE), ANY(preadv2, BASE), ANY(pwrite64, BASE), ANY(pwritev, BASE),
    ANY(pwritev2, BASE), ANY(lseek, BASE), ANY(_llseek, BASE), ANY(fstat, BASE),
    IF(newfstatat, BASE, BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH)), ANY(ftruncate, BASE),
    ANY(fsync, BASE), ANY(fdatasync, BASE), ANY(sync_file_range, BASE), ANY(fallocate, BASE),
    ANY(fadvise64, BASE), ANY(sendfile, BASE), ANY(copy_file_range, BASE), ANY(splice, BASE),
    ANY(flock, BASE), ANY(close, BASE), ANY(close_range, BASE), ANY(dup, BASE), ANY(dup2, BASE),
    ANY(dup3, BASE), ANY(pipe2, BASE), ANY(eventfd2, BASE), ANY(getsockopt, BASE),
    ANY(getsockname, BASE), ANY(getpeername, BASE), ANY(shutdown, BASE), FCNT(F_DUPFD, BASE),
    FCNT(F_DUPFD_CLOEXEC, BASE), FCNT(F_GETFD, BASE), FCNT(F_SETFD, BASE), FCNT(F_GETFL, BASE),
    FCNT(F_SETFL, BASE), FCNT(F_GETLK, BASE), FCNT(F_SETLK, BASE), FCNT(F_SETLKW, BASE),
    FCNT(F_OFD_GETLK, BASE), FCNT(F_OFD_SETLK, BASE), FCNT(F_OFD_SETLKW, BASE),
    FCNT(F_GET_SEALS, BASE), FCNT(F_ADD_SEALS, BASE), FCNT(F_GETPIPE_SZ, BASE),
    FCNT(F_SETPIPE_SZ, BASE), IF(ioctl, BASE, IS(1, 0x5421 /* FIONBIO */)),
    IF(ioctl, BASE, IS(1, 0x541b /* FIONREAD */)), IF(ioctl, BASE, IS(1, 0x5411 /* SIOCOUTQ */)),
    SOCKOPT(SOL_SOCKET, SO_SNDBUF), SOCKOPT(SOL_SOCKET, SO_RCVBUF),
    SOCKOPT(SOL_SOCKET, SO_SNDTIMEO), SOCKOPT(SOL_SOCKET, SO_RCVTIMEO),
    SOCKOPT(SOL_SOCKET, SO_KEEPALIVE), SOCKOPT(SOL_SOCKET, SO_LINGER),
    SOCKOPT(SOL_SOCKET, SO_PASSCRED), IF(setsockopt, BASE, IS(1, 6 /* IPPROTO_TCP */)),
    IF(ioctl, SANDBOX_FILES_WRITE, IS(1, FS_IOC_GETFLAGS)),
    IF(ioctl, SANDBOX_FILES_WRITE, IS(1, FS_IOC_SETFLAGS)),
    /* waiting, time, signals */
    ANY(poll, BASE), ANY(ppoll, BASE), ANY(select, BASE), ANY(pselect6, BASE),
    ANY(epoll_create1, BASE), ANY(epoll_ctl, BASE), ANY(epoll_wait, BASE), ANY(epoll_pwait, BASE),
    ANY(epoll_pwait2, BASE), ANY(timerfd_create, BASE), ANY(timerfd_settime, BASE),
    ANY(timerfd_gettime, BASE), ANY(clock_gettime, BASE), ANY(clock_getres, BASE),
    ANY(clock_nanosleep, BASE), ANY(nanosleep, BASE), ANY(gettimeofday, BASE), ANY(time, BASE),
    ANY(times, BASE), ANY(alarm, BASE), ANY(setitimer, BASE), ANY(getitimer, BASE),
    ANY(rt_sigaction, BASE), ANY(rt_sigprocmask, BASE), ANY(rt_sigreturn, BASE),
    ANY(rt_sigsuspend, BASE), ANY(rt_sigtimedwait, BASE), ANY(rt_sigpending, BASE),
    ANY(signalfd4, BASE), ANY(sigaltstack, BASE), ANY(restart_syscall, BASE), ANY(pause, BASE),
    ANY(futex, BASE), ANY(sched_yield, BASE), ANY(sched_getaffinity, BASE), ANY(exit, BASE),
    ANY(exit_group, BASE),
    /* memory that is never both writable and executable */
    ANY(brk, BASE), ANY(munmap, BASE), ANY(mremap, BASE), ANY(madvise, BASE), ANY(msync, BASE),
    ANY(mincore, BASE), ANY(mlock, BASE), ANY(mlock2, BASE), ANY(munlock, BASE),
    IF(mmap, BASE, BITS(2, PROT_EXEC, 0)), IF(mmap2, BASE, BITS(2, PROT_EXEC, 0)),
    IF(mprotect, BASE, BITS(2, PROT_EXEC, 0)),
    /* facts about itself */
    ANY(getpid, BASE), ANY(gettid, BASE), ANY(getppid, BASE), ANY(getuid, BASE), ANY(geteuid, BASE),
    ANY(getgid, BASE), ANY(getegid, BASE), ANY(getresuid, BASE), ANY(getresgid, BASE),
    ANY(getgroups, BASE), ANY(capget, BASE), ANY(getrandom, BASE), ANY(uname, BASE),
    ANY(sysinfo, BASE), ANY(getrusage, BASE), ANY(getcpu, BASE), ANY(getrlimit, BASE),
    ANY(umask, BASE), IF2(prlimit64, BASE, IS(0, 0), IS(2, 0)), PRCTL(PR_SET_NAME, BASE),
    PRCTL(PR_GET_NAME, BASE), PRCTL(PR_GET_DUMPABLE, BASE), PRCTL(PR_GET_SECCOMP, BASE),
    PRCTL(PR_GET_NO_NEW_PRIVS, BASE), PRCTL(PR_GET_PDEATHSIG, BASE), PRCTL(PR_GET_SECUREBITS, BASE),
    PRCTL(PR_CAPBSET_READ, BASE), PRCTL(SANDBOX_PR_GET_MDWE, BASE),
    /* connections from listeners that master made */
    ANY(accept, SANDBOX_ACCEPT), ANY(accept4, SANDBOX_ACCEPT), ANY(listen, SANDBOX_ACCEPT),
    /* files */
    IF(open, SANDBOX_FILES_READ, BITS(1, O_CHANGES, 0)),
    IF(openat, SANDBOX_FILES_READ, BITS(2, O_CHANGES, 0)), ANY(stat, READ_OR_WRITE),
    ANY(lstat, READ_OR_WRITE), ANY(newfstatat, READ_OR_WRITE), ANY(statx, READ_OR_WRITE),
    ANY(access, READ_OR_WRITE), ANY(faccessat, READ_OR_WRITE), ANY(faccessat2, READ_OR_WRITE),
    ANY(readlink, READ_OR_WRITE), ANY(readlinkat, READ_OR_WRITE), ANY(getdents64, READ_OR_WRITE),
    ANY(getdents, READ_OR_WRITE), ANY(getcwd, READ_OR_WRITE), ANY(chdir, READ_OR_WRITE),
    ANY(fchdir, READ_OR_WRITE), ANY(statfs, READ_OR_WRITE), ANY(fstatfs, READ_OR_WRITE),
    ANY(readahead, READ_OR_WRITE), ANY(inotify_init1, READ_OR_WRITE),
    ANY(inotify_add_watch, READ_OR_WRITE), ANY(inotify_rm_watch, READ_OR_WRITE),
    ANY(open, SANDBOX_FILES_WRITE), ANY(openat, SANDBOX_FILES_WRITE),
    ANY(openat2, SANDBOX_FILES_WRITE), ANY(creat, SANDBOX_FILES_WRITE),
    ANY(mkdir, SANDBOX_FILES_WRITE), ANY(mkdirat, SANDBOX_FILES_WRITE),
    ANY(rmdir, SANDBOX_FILES_WRITE), ANY(unlink, SANDBOX_FILES_WRITE),
    ANY(unlinkat, SANDBOX_FILES_WRITE), ANY(rename, SANDBOX_FILES_WRITE),
    ANY(renameat, SANDBOX_FILES_WRITE), ANY(renameat2, SANDBOX_FILES_WRITE),
    ANY(link, SANDBOX_FILES_WRITE), ANY(linkat, SANDBOX_FILES_WRITE),
    ANY(truncate, SANDBOX_FILES_WRITE), ANY(utimensat, SANDBOX_FILES_WRITE),
    ANY(sync, SANDBOX_FILES_WRITE), ANY(syncfs, SANDBOX_FILES_WRITE),
    ANY(memfd_create, SANDBOX_FILES_WRITE),
    /* the network */
    IF(socket, SANDBOX_CONNECT, IS(0, AF_INET)), IF(socket, SANDBOX_CONNECT, IS(0, AF_INET6)),
    ANY(connect, SANDBOX_CONNECT), ANY(bind, SANDBOX_CONNECT), ANY(sendto, SANDBOX_CONNECT),
    ANY(setsockopt, SANDBOX_CONNECT), IF(socketpair, SANDBOX_SOCKETPAIR, IS(0, AF_UNIX)),
    /* threads and children; clone3 cannot be judged (its flags are in memory) and is ENOSYS */
    IF(clone, SANDBOX_THREADS, BITS(0, THREAD_BITS, THREAD_BITS)),
    ANY(set_robust_list, SANDBOX_THREADS | SANDBOX_FORK), ANY(membarrier, SANDBOX_THREADS),
    /* the C library aborts when a new thread cannot do what the first one could */
    ANY(rseq, SANDBOX_THREADS), IF(clone, SANDBOX_FORK, BITS(0, FORK_MASK, 0)),
    ANY(fork, SANDBOX_FORK), ANY(wait4, SANDBOX_FORK), ANY(waitid, SANDBOX_FORK),
    ANY(kill, SANDBOX_FORK), PRCTL(PR_SET_PDEATHSIG, SANDBOX_FORK | SANDBOX_INSTALL),
    PRCTL(PR_SET_DUMPABLE, SANDBOX_FORK | SANDBOX_INSTALL),
    /* another user for good; the ids are judged by the floor program */
    ANY(setresuid, SANDBOX_SETID), ANY(setresgid, SANDBOX_SETID),
    IF(setgroups, SANDBOX_SETID, IS(0, 0)), ANY(chroot, SANDBOX_SETID), ANY(capset, SANDBOX_SETID),
    PRCTL(PR_CAPBSET_DROP, SANDBOX_SETID), PRCTL(PR_CAP_AMBIENT, SANDBOX_SETID),
    PRCTL(PR_SET_KEEPCAPS, SANDBOX_SETID), FCNT(F_SETLEASE, SANDBOX_LEASE),
    FCNT(F_GETLEASE, SANDBOX_LEASE), FCNT(F_SETSIG, SANDBOX_LEASE), FCNT(F_SETOWN, SANDBOX_LEASE),
    /* a tighter row */
    IF(seccomp, SANDBOX_INSTALL, IS(0, SECCOMP_SET_MODE_FILTER)),
    PRCTL(PR_SET_NO_NEW_PRIVS, SANDBOX_INSTALL), ANY(landlock_create_ruleset, SANDBOX_INSTALL),
    ANY(landlock_add_rule, SANDBOX_INSTALL), ANY(landlock_restrict_self, SANDBOX_INSTALL),
#if SANDBOX_ASAN
    /* what the sanitizer's run time does by itself */
    ANY(tgkill, BASE), ANY(set_robust_list, BASE), ANY(sched_getscheduler, BASE),
    ANY(sched_getparam, BASE), ANY(arch_prctl, BASE),
#endif
};

/* Refused with an error, unless some row above allows the call. */
static const struct {
    int nr;
    int err;
} refusals[] = {
    {SCMP_SYS(open), EACCES}, {SCMP_SYS(openat), EACCES}, {SCMP_SYS(openat2), ENOSYS},
    {SCMP_SYS(creat), EACCES}, {SCMP_SYS(stat), EACCES}, {SCMP_SYS(lstat), EACCES},
    {SCMP_SYS(statx), EACCES}, {SCMP_SYS(access), EACCES}, {SCMP_SYS(faccessat), EACCES},
    {SCMP_SYS(faccessat2), EACCES}, {SCMP_SYS(readlink), EACCES}, {SCMP_SYS(readlinkat), EACCES},
    {SCMP_SYS(getcwd), EACCES}, {SCMP_SYS(statfs), EACCES}, {SCMP_SYS(mkdir), EACCES},
    {SCMP_SYS(mkdirat), EACCES}, {SCMP_SYS(unlink), EACCES}, {SCMP_SYS(unlinkat), EACCES},
    {SCMP_SYS(rename), EACCES}, {SCMP_SYS(renameat), EACCES}, {SCMP_SYS(renameat2), EACCES},
    {SCMP_SYS(link), EACCES}, {SCMP_SYS(linkat), EACCES}, {SCMP_SYS(socket), EACCES},
    {SCMP_SYS(kill), EPERM}, {SCMP_SYS(tkill), EPERM}, {SCMP_SYS(tgkill), EPERM},
    {SCMP_SYS(chmod), EPERM}, {SCMP_SYS(fchmod), EPERM}, {SCMP_SYS(fchmodat), EPERM},
    {SCMP_SYS(chown), EPERM}, {SCMP_SYS(fchown), EPERM}, {SCMP_SYS(lchown), EPERM},
    {SCMP_SYS(fchownat), EPERM}, {SCMP_SYS(setuid), EPERM}, {SCMP_SYS(setgid), EPERM},
    {SCMP_SYS(setreuid), EPERM}, {SCMP_SYS(setregid), EPERM}, {SCMP_SYS(setresuid), EPERM},
    {SCMP_SYS(setresgid), EPERM}, {SCMP_SYS(chroot), EPERM}, {SCMP_SYS(capset), EPERM},
    {SCMP_SYS(sched_setaffinity), EPERM}, {SCMP_SYS(setpriority), EPERM},
    {SCMP_SYS(memfd_create), ENOSYS}, {SCMP_SYS(clone3), ENOSYS}, {SCMP_SYS(rseq), ENOSYS},
    {SCMP_SYS(io_uring_setup), ENOSYS}, {SCMP_SYS(membarrier), ENOSYS},
};

/* clang-format on */

/* Refused forms of calls that are allowed in other forms. */
static const struct {
    unsigned unless; /* groups that allow it after all */
    unsigned with;   /* groups without which the call is refused as a whole; 0: none */
    int err;
    int nr;
    struct scmp_arg_cmp arg;
} refused_forms[] = {
    {0, 0, EACCES, SCMP_SYS(mmap), BITS(2, PROT_EXEC, PROT_EXEC)},
    {0, 0, EACCES, SCMP_SYS(mprotect), BITS(2, PROT_EXEC, PROT_EXEC)},
    {READ_OR_WRITE, 0, EACCES, SCMP_SYS(newfstatat), BITS(3, AT_EMPTY_PATH, 0)},
    {SANDBOX_FILES_WRITE, SANDBOX_FILES_READ, EACCES, SCMP_SYS(open), BITS(1, O_WRONLY, O_WRONLY)},
    {SANDBOX_FILES_WRITE, SANDBOX_FILES_READ, EACCES, SCMP_SYS(open), BITS(1, O_RDWR, O_RDWR)},
    {SANDBOX_FILES_WRITE, SANDBOX_FILES_READ, EACCES, SCMP_SYS(openat),
        BITS(2, O_WRONLY, O_WRONLY)},
    {SANDBOX_FILES_WRITE, SANDBOX_FILES_READ, EACCES, SCMP_SYS(openat), BITS(2, O_RDWR, O_RDWR)},
    {0, SANDBOX_CONNECT, EACCES, SCMP_SYS(socket), IS(0, AF_UNIX)},
    {0, SANDBOX_CONNECT, EACCES, SCMP_SYS(socket), IS(0, AF_NETLINK)},
    {0, 0, ENOTTY, SCMP_SYS(ioctl), IS(1, 0x5401 /* TCGETS, as stdio asks */)},
    {0, 0, EINVAL, SCMP_SYS(prctl), IS(0, SANDBOX_PR_SET_VMA)},
};

static bool row_counts(const struct allow *row, unsigned calls)
{
    return !row->groups || (row->groups & calls);
}

static bool is_allowed(int nr, unsigned calls)
{
    for (size_t i = 0; i < ARRAY_LEN(allows); i++)
        if (allows[i].nr == nr && row_counts(&allows[i], calls))
            return true;
    return false;
}

/* An unconditional row makes conditional ones of the same call superfluous, and libseccomp
 * refuses to hold both. */
static bool is_covered(const struct allow *row, unsigned calls)
{
    for (size_t i = 0; row->nargs && i < ARRAY_LEN(allows); i++)
        if (allows[i].nr == row->nr && !allows[i].nargs && row_counts(&allows[i], calls))
            return true;
    return false;
}

static unsigned count_allowed(unsigned calls)
{
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(allows); i++) {
        bool first = row_counts(&allows[i], calls) && allows[i].nr >= 0;
        for (size_t j = 0; first && j < i; j++)
            first = allows[j].nr != allows[i].nr || !row_counts(&allows[j], calls);
        n += first;
    }
    return n;
}

static int add_allows(scmp_filter_ctx ctx, unsigned calls)
{
    for (size_t i = 0; i < ARRAY_LEN(allows); i++) {
        const struct allow *a = &allows[i];
        if (!row_counts(a, calls) || is_covered(a, calls))
            continue;
        int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, a->nr, a->nargs, a->arg);
        if (rc < 0 && rc != -EEXIST)
            return rc;
    }
    return 0;
}

static int add_refusals(scmp_filter_ctx ctx, unsigned calls)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        if (is_allowed(refusals[i].nr, calls))
            continue;
        uint32_t action = SCMP_ACT_ERRNO((uint32_t)refusals[i].err);
        int rc = seccomp_rule_add(ctx, action, refusals[i].nr, 0);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < ARRAY_LEN(refused_forms); i++) {
        unsigned with = refused_forms[i].with;
        if ((refused_forms[i].unless & calls) || (with && !(with & calls)))
            continue;
        uint32_t action = SCMP_ACT_ERRNO((uint32_t)refused_forms[i].err);
        int rc = seccomp_rule_add_array(ctx, action, refused_forms[i].nr, 1, &refused_forms[i].arg);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* setresuid and setresgid to anything below the floor, root above all, fail. The kernel looks
 * at the low 32 bits, the filter at all 64: hence the upper bound. */
static int add_floor(scmp_filter_ctx ctx, uid_t uid_floor, gid_t gid_floor)
{
    static const int nrs[] = {SCMP_SYS(setresuid), SCMP_SYS(setresgid)};
    for (size_t i = 0; i < ARRAY_LEN(nrs); i++) {
        uint64_t floor = nrs[i] == SCMP_SYS(setresgid) ? gid_floor : uid_floor;
        for (unsigned arg = 0; arg < 3; arg++) {
            struct scmp_arg_cmp low = {arg, SCMP_CMP_LT, floor, 0};
            struct scmp_arg_cmp high = {arg, SCMP_CMP_GT, UINT32_MAX, 0};
            int rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), nrs[i], 1, &low);
            if (rc == 0)
                rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), nrs[i], 1, &high);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

/* Takes the program out of libseccomp, which can only write it to a descriptor. */
static int export_program(scmp_filter_ctx ctx, size_t before, struct sock_fprog *prog)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = seccomp_export_bpf(ctx, fd);
    off_t size = rc < 0 ? 0 : lseek(fd, 0, SEEK_END);
    size_t n = (size_t)size / sizeof(struct sock_filter);
    if (rc == 0 && (n == 0 || n + before > BPF_MAXINSNS))
        rc = -E2BIG;
    if (rc == 0) {
        prog->filter = xcalloc(n + before, sizeof(struct sock_filter));
        prog->len = (unsigned short)(n + before);
        if (pread(fd, prog->filter + before, (size_t)size, 0) != size)
            rc = -EIO;
    }
    fd_close(&fd);
    return rc;
}

/* Newer than anything this build could have named. */
#ifdef SYS_set_mempolicy_home_node
#define NEWEST_CALL SYS_set_mempolicy_home_node
#else
#define NEWEST_CALL 448
#endif
#define X32_BIT 0x40000000U

static const struct sock_filter newer_calls[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWEST_CALL, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
};

static bool tracing(void)
{
    const char *what = getenv("VEREDUS_TRACE");
    return what && slice_find(slice_of(what), SLICE_LIT("sandbox")) >= 0;
}

static int build_main(struct sandbox_filter *f)
{
    scmp_filter_ctx ctx = seccomp_init(tracing() ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
    if (!ctx)
        return -ENOMEM;
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a search tree; older: a list */
    int rc = add_allows(ctx, f->calls);
    if (rc == 0)
        rc = add_refusals(ctx, f->calls);
    if (rc == 0)
        rc = export_program(ctx, ARRAY_LEN(newer_calls), &f->main);
    if (rc == 0)
        memcpy(f->main.filter, newer_calls, sizeof(newer_calls));
    seccomp_release(ctx);
    return rc;
}

/* For rows that run commands: what no command of a user needs and the kernel's faults were in. */
static const int never[] = {SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module),
    SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(mount), SCMP_SYS(umount2),
    SCMP_SYS(pivot_root), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen),
    SCMP_SYS(fsmount), SCMP_SYS(fsconfig), SCMP_SYS(fspick), SCMP_SYS(setns), SCMP_SYS(unshare),
    SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(swapon), SCMP_SYS(swapoff),
    SCMP_SYS(reboot), SCMP_SYS(acct), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex), SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
    SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register)};

#define NAMESPACES 0x7e020000U /* CLONE_NEW* */

static int add_never(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), never[i], 0);
        if (rc < 0)
            return rc;
    }
    /* clone3's flags are in memory; the C library does without it. */
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    for (unsigned bit = 0; rc == 0 && bit < 32; bit++) {
        uint64_t flag = UINT64_C(1) << bit;
        struct scmp_arg_cmp has = {0, SCMP_CMP_MASKED_EQ, flag, flag};
        if (flag & NAMESPACES)
            rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &has);
    }
    return rc;
}

static int build_refusing(struct sandbox_filter *f)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        return -ENOMEM;
    int rc = add_never(ctx);
    if (rc == 0)
        rc = export_program(ctx, ARRAY_LEN(newer_calls), &f->main);
    if (rc == 0)
        memcpy(f->main.filter, newer_calls, sizeof(newer_calls));
    seccomp_release(ctx);
    return rc;
}

static int build_floor(struct sandbox_filter *f, const struct sandbox_profile *p)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        return -ENOMEM;
    uid_t uid_floor = MAX(p->uid_floor, 1u);
    int rc = add_floor(ctx, uid_floor, p->gid_floor ? p->gid_floor : uid_floor);
    if (rc == 0)
        rc = export_program(ctx, 0, &f->floor);
    seccomp_release(ctx);
    return rc;
}

struct sandbox_filter *sandbox_filter_new(const struct sandbox_profile *profile, struct error *err)
{
    struct sandbox_filter *f = NEW(struct sandbox_filter);
    f->calls = profile->calls;
    f->allowed = count_allowed(profile->calls);
    int rc = profile->calls & SANDBOX_EXEC ? build_refusing(f) : build_main(f);
    if (rc == 0 && (profile->calls & SANDBOX_SETID))
        rc = build_floor(f, profile);
    if (rc == 0)
        return f;
    error_set(err, ERR_IO, "sandbox: filter for %s: %s", profile->name, strerror(-rc));
    sandbox_filter_free(f);
    return NULL;
}

void sandbox_filter_free(struct sandbox_filter *f)
{
    if (!f)
        return;
    free(f->main.filter);
    free(f->floor.filter);
    free(f);
}

static void on_forbidden(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    char line[128];
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, info->si_syscall);
    int n = snprintf(line, sizeof(line), "sandbox: process %d made the forbidden call %d (%s)\n",
        (int)getpid(), info->si_syscall, name ? name : "?");
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        _exit(127);
    _exit(128 + SIGSYS);
}

static int load(const struct sock_fprog *prog, bool all_threads, struct error *err)
{
    unsigned flags = all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0;
    if (!prog->filter || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, prog) == 0)
        return OK;
    return error_sys(err, "sandbox: seccomp");
}

int sandbox_filter_load(const struct sandbox_filter *f, bool all_threads, struct error *err)
{
    if (tracing()) {
        struct sigaction sa = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &sa, NULL);
    }
    /* The floor first: the main program need not allow a second load. */
    int rc = load(&f->floor, all_threads, err);
    return rc ? rc : load(&f->main, all_threads, err);
}
