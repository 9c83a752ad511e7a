/*
 * Sandbox entry, declared per program as one table row, and the self-test that tries what the
 * row forbids. Order: uid/gid -> capabilities, bounding set, securebits -> PDEATHSIG,
 * not dumpable, MDWE, rlimits -> (the caller's warm-up has already run) -> no_new_privs ->
 * Landlock -> seccomp.
 *
 * Started by an ordinary user, account change, capabilities and chroot are skipped and all else
 * is kept. What the kernel could not give is reported, never silent.
 */
#pragma once

#include <sys/types.h>

#include "libutil/buf.h"
#include "libutil/error.h"

/* System-call groups beyond the base (read, write, sendmsg, recvmsg, epoll, poll, close, memory
 * without W^X, time, futex, getrandom, signals' return, exit). */
enum sandbox_calls {
    SANDBOX_ACCEPT = 1 << 0,     /* accept4 on inherited listeners, socket options, shutdown */
    SANDBOX_FILES_READ = 1 << 1, /* openat read-only, stat, getdents, pread, mmap of files */
    SANDBOX_FILES_WRITE =
        1 << 2,               /* + create, pwrite, rename, link, unlink, mkdir, sync, fallocate */
    SANDBOX_CONNECT = 1 << 3, /* socket(AF_INET*), connect, bind: remote and dnsd only */
    SANDBOX_THREADS = 1 << 4, /* clone of threads */
    SANDBOX_FORK = 1 << 5,    /* fork without exec, wait, kill of children, prctl */
    SANDBOX_SETID = 1 << 6,   /* set*uid/gid, never to an id below uid_floor; chroot */
    SANDBOX_SOCKETPAIR = 1 << 7, /* socketpair(AF_UNIX) */
    SANDBOX_LEASE = 1 << 8,      /* fcntl(F_SETLEASE) */
    SANDBOX_INSTALL = 1 << 9,    /* landlock and seccomp again, for children with a tighter row */
    /* Runs users' commands, which inherit whatever holds us: so no list of allowed calls, paths or
     * memory, but a list of calls that are refused (SANDBOX_SETID's floor stays). */
    SANDBOX_EXEC = 1 << 10
};

/* Capabilities by number (linux/capability.h), for keep_caps. */
#define SANDBOX_CAP_CHOWN ((uint64_t)1 << 0)
#define SANDBOX_CAP_KILL ((uint64_t)1 << 5)
#define SANDBOX_CAP_SETGID ((uint64_t)1 << 6)
#define SANDBOX_CAP_SETUID ((uint64_t)1 << 7)
#define SANDBOX_CAP_SETPCAP ((uint64_t)1 << 8)
#define SANDBOX_CAP_BIND ((uint64_t)1 << 10)
#define SANDBOX_CAP_CHROOT ((uint64_t)1 << 18)
/* What master keeps, and so the most that anything it starts can have. */
#define SANDBOX_MASTER_CAPS                                                           \
    (SANDBOX_CAP_CHOWN | SANDBOX_CAP_KILL | SANDBOX_CAP_SETGID | SANDBOX_CAP_SETUID | \
        SANDBOX_CAP_SETPCAP | SANDBOX_CAP_BIND | SANDBOX_CAP_CHROOT)

enum sandbox_root {
    SANDBOX_ROOT_EMPTY, /* chroot into an empty directory; Landlock allows no path */
    SANDBOX_ROOT_DIR,   /* chroot into sandbox_paths.root */
    SANDBOX_ROOT_HOST   /* no chroot; Landlock limits paths */
};

struct sandbox_profile {
    const char *name;    /* program */
    const char *account; /* when started as root; NULL: stay root with keep_caps */
    enum sandbox_root root;
    unsigned calls;     /* set of sandbox_calls */
    uint64_t keep_caps; /* set of 1 << CAP_*; all others leave permitted, effective, bounding */
    uid_t uid_floor;    /* with SANDBOX_SETID */
    gid_t gid_floor;    /* of groups; 0: uid_floor */
    unsigned max_files; /* RLIMIT_NOFILE; 0: 65536 */
};

/* What the row cannot know: paths of this instance. NULL-ended lists of host paths, or of paths
 * relative to root. With SANDBOX_ROOT_DIR and both lists NULL, all of root is meant. A path that
 * does not exist is an error. */
struct sandbox_paths {
    const char *root;         /* SANDBOX_ROOT_DIR */
    const char *const *read;  /* trees that may be read */
    const char *const *write; /* trees that may be changed */
};

/* What was applied, as shown by `veredus sandbox show`. */
struct sandbox_report {
    uid_t uid;
    gid_t gid;
    bool rootless;
    bool chrooted;
    bool mdwe;
    int landlock_abi; /* 0: the kernel has none */
    unsigned seccomp_calls;
    char missing[256]; /* what the kernel refused, comma separated; empty: nothing */
};

/* Enters for good. The account is looked up, and path trees opened, before anything is given
 * up. On failure the process must exit. */
int sandbox_enter(const struct sandbox_profile *, const struct sandbox_paths *,
    struct sandbox_report *, struct error *) MUST_USE;
/* Looks up an account before privileges are dropped. ERR_NOT_FOUND names the remedy. */
int sandbox_account(const char *name, uid_t *, gid_t *, struct error *) MUST_USE;
/* For master: cuts the bounding set and this process's capabilities to `keep`. */
int sandbox_keep_caps(uint64_t keep, struct error *) MUST_USE;
/* For children that become a user for good (local delivery, sessions): clear groups, set gid
 * and uid, drop every capability, verify all of it, and fail if setresuid(0) succeeds. When not
 * root and uid is our own, does nothing. chroot_dir may be NULL; it is entered as the user, and
 * made (0700) when only its last level is missing. */
int sandbox_become(uid_t, gid_t, const char *chroot_dir, struct error *) MUST_USE;

/* A system-call filter made ahead, so that a child enters it in microseconds. */
struct sandbox_filter;
/* NULL on error. Only `calls` and `uid_floor` of the row count. */
struct sandbox_filter *sandbox_filter_new(const struct sandbox_profile *, struct error *);
void sandbox_filter_free(struct sandbox_filter *);
/* For children of a row with SANDBOX_INSTALL, after sandbox_become and for good: dies with its
 * parent, not dumpable, Landlock with this one tree (-1: none), then the filter. */
int sandbox_tighten(const struct sandbox_filter *, int dir, struct error *) MUST_USE;
/* The same with several trees; an entry of -1 is none. */
int sandbox_tighten_to(
    const struct sandbox_filter *, const int *dirs, size_t n, struct error *) MUST_USE;

/* Inside the sandbox, in a living daemon: reads the facts (filter, capabilities, ids) and tries
 * what the row forbids: files, sockets, signals, root, chmod, executable memory. What would be
 * answered by death (exec, fork, trace) is tried only in children of rows with SANDBOX_FORK,
 * else listed as not tried. Appends a line a probe and returns how many differ from the row. */
int sandbox_selftest(const struct sandbox_profile *, struct buf *out);
/* Outside, before any thread: enters the row in a child per probe and tries everything, death
 * included (`PROGRAM --selftest-sandbox`). Returns how many outcomes differ. */
int sandbox_probe(const struct sandbox_profile *, const struct sandbox_paths *, struct buf *out);
/* One logfmt line for status and `sandbox show`. */
void sandbox_report_print(
    const struct sandbox_profile *, const struct sandbox_report *, struct buf *out);
