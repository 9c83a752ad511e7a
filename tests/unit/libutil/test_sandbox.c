/* Every kind of row is entered in a child, as the current user and, when that is root, as root
 * and as an ordinary user. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/sandbox.h"

#include <cmocka.h>

enum { NOBODY = 65534 };

static char dir[] = "/tmp/veredus-sandbox-XXXXXX";

/* Rows shaped like the daemons'. The account is one every Debian has. */
static const struct sandbox_profile rows[] = {
    {.name = "smtpd", .account = "nobody", .root = SANDBOX_ROOT_EMPTY, .calls = SANDBOX_ACCEPT},
    {.name = "login",
        .account = "nobody",
        .root = SANDBOX_ROOT_EMPTY,
        .calls = SANDBOX_ACCEPT | SANDBOX_SOCKETPAIR},
    {.name = "remote", .account = "nobody", .root = SANDBOX_ROOT_EMPTY, .calls = SANDBOX_CONNECT},
    {.name = "qmgr",
        .account = "nobody",
        .root = SANDBOX_ROOT_DIR,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_THREADS | SANDBOX_LEASE},
    {.name = "lookupd",
        .account = "nobody",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ},
    {.name = "keyd", .account = "nobody", .root = SANDBOX_ROOT_EMPTY, .calls = 0},
    {.name = "session",
        .account = "nobody",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_FORK | SANDBOX_SETID |
                 SANDBOX_SOCKETPAIR | SANDBOX_INSTALL,
        .keep_caps = SANDBOX_CAP_SETUID | SANDBOX_CAP_SETGID | SANDBOX_CAP_CHROOT,
        .uid_floor = 1000},
};

static const struct sandbox_profile *row(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    fail_msg("no row %s", name);
    return NULL;
}

static const char *const trees[] = {dir, NULL};
static const struct sandbox_paths dir_paths = {.root = dir, .write = trees};
static const struct sandbox_paths root_paths = {.root = dir};

static const struct sandbox_paths *paths_of(const struct sandbox_profile *p)
{
    return p->root == SANDBOX_ROOT_HOST ? &dir_paths : &root_paths;
}

typedef int child_fn(const struct sandbox_profile *);

/* Runs fn in a child, as an ordinary user when `drop`; returns the wait status. */
static int in_child(const struct sandbox_profile *p, bool drop, child_fn *fn)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (drop &&
            (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0))
            _exit(90);
        _exit(fn(p));
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int enter(const struct sandbox_profile *p, struct sandbox_report *report)
{
    struct error err = {0};
    int rc = sandbox_enter(p, paths_of(p), report, &err);
    if (rc != OK)
        dprintf(2, "%s: %s\n", p->name, err.text);
    return rc;
}

static bool is_root(void)
{
    return geteuid() == 0;
}

/* As the invoking user, and once more as an ordinary one. */
static void each_way(const struct sandbox_profile *p, child_fn *fn)
{
    assert_int_equal(in_child(p, false, fn), 0);
    if (is_root())
        assert_int_equal(in_child(p, true, fn), 0);
}

static int probe_child(const struct sandbox_profile *p)
{
    struct buf out;
    buf_init(&out, 65536);
    int bad = sandbox_probe(p, paths_of(p), &out);
    if (bad)
        dprintf(2, "%s:\n%.*s", p->name, SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
    return bad;
}

static void test_every_row_refuses_and_kills_what_it_declares(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        each_way(&rows[i], probe_child);
}

static int selftest_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    if (enter(p, &report) != OK)
        return 99;
    struct buf out;
    buf_init(&out, 65536);
    int bad = sandbox_selftest(p, &out);
    if (bad)
        dprintf(2, "%s:\n%.*s", p->name, SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
    return bad;
}

static void test_selftest_inside_agrees_and_the_process_lives(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        each_way(&rows[i], selftest_child);
}

static int lying_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    if (enter(p, &report) != OK)
        return 99;
    struct sandbox_profile other = *p;
    other.calls = 0;
    struct buf out;
    buf_init(&out, 65536);
    int bad = sandbox_selftest(&other, &out);
    buf_clear(&out);
    return bad > 0 ? 0 : 1;
}

static void test_selftest_notices_another_row(void **state)
{
    (void)state;
    each_way(row("remote"), lying_child);
}

/* What ordinary code needs everywhere: heap, big allocations, stdio, epoll, pipes. */
static int ordinary_work(void)
{
    for (size_t n = 16; n < (size_t)64 << 20; n *= 4) {
        char *p = malloc(n);
        if (!p)
            return 1;
        memset(p, 1, n);
        p = realloc(p, n * 2);
        if (!p)
            return 2;
        p[2 * n - 1] = 1;
        free(p);
    }
    int fds[2];
    struct epoll_event ev = {.events = EPOLLIN};
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return 3;
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev) < 0 || write(fds[1], "x", 1) != 1)
        return 4;
    if (epoll_wait(ep, &ev, 1, 1000) != 1)
        return 5;
    char text[64];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (snprintf(text, sizeof(text), "%ld %.3f", (long)now.tv_sec, 1.5) <= 0)
        return 6;
    struct stat st;
    return fstat(fds[0], &st) < 0 ? 7 : 0;
}

static int ordinary_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    return enter(p, &report) != OK ? 99 : ordinary_work();
}

static void test_ordinary_work_goes_on_in_every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        each_way(&rows[i], ordinary_child);
}

static void *thread_body(void *arg)
{
    *(int *)arg = ordinary_work() == 0 ? 42 : 1;
    return NULL;
}

static int thread_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    pthread_t thread;
    int result = 0;
    if (enter(p, &report) != OK)
        return 99;
    if (pthread_create(&thread, NULL, thread_body, &result) != 0)
        return 1;
    pthread_join(thread, NULL);
    return result == 42 ? 0 : 2;
}

static void test_threads_work_where_declared(void **state)
{
    (void)state;
    each_way(row("qmgr"), thread_child);
}

static int tree_child(const struct sandbox_profile *p)
{
    char outside[] = "/tmp/veredus-outside";
    char inside[128];
    struct sandbox_report report;
    if (enter(p, &report) != OK)
        return 99;
    snprintf(inside, sizeof(inside), "%s/file", report.chrooted ? "" : dir);
    int fd = open(inside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1 || ftruncate(fd, 0) < 0 || unlink(inside) < 0)
        return 1;
    int other = open(outside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (other >= 0 && report.landlock_abi + report.chrooted > 0)
        return 2;
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ? 3 : 0;
}

static void test_only_the_declared_tree_can_be_changed(void **state)
{
    (void)state;
    each_way(row("qmgr"), tree_child);
    each_way(row("session"), tree_child);
}

static int readonly_child(const struct sandbox_profile *p)
{
    char path[128];
    struct sandbox_report report;
    snprintf(path, sizeof(path), "%s/table", dir);
    if (enter(p, &report) != OK)
        return 99;
    if (open(path, O_RDWR | O_CLOEXEC) >= 0 || errno != EACCES)
        return 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char c;
    return fd >= 0 && read(fd, &c, 1) == 1 ? 0 : 2;
}

static void test_reading_rows_cannot_open_for_writing(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof(path), "%s/table", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    each_way(row("lookupd"), readonly_child);
    unlink(path);
}

static int empty_root_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    int pipes[2];
    if (pipe(pipes) < 0)
        return 98;
    pid_t pid = fork();
    if (pid == 0) {
        if (enter(p, &report) != OK || !report.chrooted)
            _exit(99);
        if (write(pipes[1], "x", 1) != 1)
            _exit(97);
        for (;;)
            pause();
    }
    char c, path[64];
    close(pipes[1]);
    if (read(pipes[0], &c, 1) != 1)
        return 1;
    snprintf(path, sizeof(path), "/proc/%d/root/", (int)pid);
    int root = open(path, O_RDONLY | O_DIRECTORY);
    int stray = openat(root, "x", O_CREAT | O_RDWR, 0600);
    int etc = openat(root, "etc", O_RDONLY);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return root >= 0 && stray < 0 && etc < 0 ? 0 : 2;
}

static void test_the_empty_root_stays_empty_even_for_root(void **state)
{
    (void)state;
    if (!is_root()) {
        print_message("needs root\n");
        skip();
    }
    assert_int_equal(in_child(row("smtpd"), false, empty_root_child), 0);
}

static int floor_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    struct error err;
    if (enter(p, &report) != OK)
        return 99;
    if (setresuid(0, 0, 0) == 0 || errno != EPERM || setresuid(999, 999, 999) == 0)
        return 1;
    if (setresgid(0, 0, 0) == 0)
        return 2;
    if (syscall(117 /* setresuid on x86-64 */, 0x100000000L, 0L, 0L) == 0)
        return 3;
    if (sandbox_become(5000, 5000, NULL, &err) != OK)
        return 4;
    return getuid() == 5000 && setresuid(NOBODY, NOBODY, NOBODY) < 0 ? 0 : 5;
}

static void test_a_spawner_reaches_users_but_no_id_below_the_floor(void **state)
{
    (void)state;
    if (!is_root()) {
        print_message("needs root\n");
        skip();
    }
    assert_int_equal(in_child(row("session"), false, floor_child), 0);
}

static int become_child(const struct sandbox_profile *p)
{
    (void)p;
    struct error err;
    if (sandbox_become(5000, 5001, dir, &err) != OK)
        return 1;
    if (getuid() != 5000 || getgid() != 5001 || open("/etc/passwd", O_RDONLY) >= 0)
        return 2;
    return setresuid(0, 0, 0) == 0 || chroot("/") == 0 ? 3 : 0;
}

static void test_become_is_for_good_and_chroots(void **state)
{
    (void)state;
    if (!is_root()) {
        print_message("needs root\n");
        skip();
    }
    assert_int_equal(in_child(row("session"), false, become_child), 0);
}

static int become_other_child(const struct sandbox_profile *p)
{
    (void)p;
    struct error err;
    if (sandbox_become(getuid(), getgid(), dir, &err) != OK)
        return 1;
    return sandbox_become(5000, 5000, NULL, &err) == OK ? 2 : 0;
}

static void test_rootless_become_accepts_only_ourselves(void **state)
{
    (void)state;
    assert_int_equal(in_child(NULL, is_root(), become_other_child), 0);
}

/* A session as the spawner makes it: enter, fork, become, tighten, work on one directory. */
static int session_child(const struct sandbox_profile *p)
{
    struct sandbox_profile tight = {
        .name = "child", .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE};
    struct error err = {0};
    struct sandbox_filter *filter = sandbox_filter_new(&tight, &err);
    struct sandbox_report report;
    if (!filter || enter(p, &report) != OK)
        return 99;
    pid_t pid = fork();
    if (pid == 0) {
        int mail = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (sandbox_become(getuid(), getgid(), report.rootless ? NULL : dir, &err) != OK)
            _exit(1);
        if (sandbox_tighten(filter, mail, &err) != OK)
            _exit(2);
        int fd = openat(mail, "new", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || unlinkat(mail, "new", 0) < 0)
            _exit(3);
        if (open("/etc/passwd", O_RDONLY) >= 0)
            _exit(4);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}) == 0)
            _exit(5);
        _exit(6);
    }
    int status;
    waitpid(pid, &status, 0);
    sandbox_filter_free(filter);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? 0 : 10 + WEXITSTATUS(status);
}

static void test_a_tightened_child_keeps_one_directory_and_nothing_else(void **state)
{
    (void)state;
    each_way(row("session"), session_child);
}

static int orphan_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    int pipes[2];
    if (pipe(pipes) < 0)
        return 98;
    pid_t middle = fork();
    if (middle == 0) {
        if (fork() == 0) {
            if (enter(p, &report) != OK || write(pipes[1], "x", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        char c;
        _exit(read(pipes[0], &c, 1) == 1 ? 0 : 1);
    }
    close(pipes[1]);
    waitpid(middle, NULL, 0);
    char c;
    alarm(5);
    return read(pipes[0], &c, 1) == 0 ? 0 : 1; /* end of file: the last holder is dead */
}

static void test_a_daemon_dies_with_its_parent(void **state)
{
    (void)state;
    each_way(row("smtpd"), orphan_child);
}

static int newer_call_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    if (enter(p, &report) != OK)
        return 99;
    return syscall(1000) < 0 && errno == ENOSYS ? 0 : 1;
}

static void test_calls_newer_than_the_build_do_not_exist(void **state)
{
    (void)state;
    each_way(row("smtpd"), newer_call_child);
}

static void test_a_missing_account_is_an_error_that_names_the_remedy(void **state)
{
    (void)state;
    uid_t uid;
    gid_t gid;
    struct error err;
    assert_int_equal(sandbox_account("no-such-account", &uid, &gid, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "useradd"));
    assert_int_equal(sandbox_account("root", &uid, &gid, &err), ERR_DENIED);
}

static int report_child(const struct sandbox_profile *p)
{
    struct sandbox_report report;
    struct buf out;
    if (enter(p, &report) != OK)
        return 99;
    buf_init(&out, 4096);
    sandbox_report_print(p, &report, &out);
    bool ok = slice_find(buf_slice(&out), SLICE_LIT("profile=smtpd")) == 0 && !out.failed &&
              report.seccomp_calls > 50 && report.rootless == !report.chrooted;
    buf_clear(&out);
    return ok ? 0 : 1;
}

static void test_the_report_says_what_was_applied(void **state)
{
    (void)state;
    each_way(row("smtpd"), report_child);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) && chmod(dir, 0777) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_refuses_and_kills_what_it_declares),
        cmocka_unit_test(test_selftest_inside_agrees_and_the_process_lives),
        cmocka_unit_test(test_selftest_notices_another_row),
        cmocka_unit_test(test_ordinary_work_goes_on_in_every_row),
        cmocka_unit_test(test_threads_work_where_declared),
        cmocka_unit_test(test_only_the_declared_tree_can_be_changed),
        cmocka_unit_test(test_reading_rows_cannot_open_for_writing),
        cmocka_unit_test(test_the_empty_root_stays_empty_even_for_root),
        cmocka_unit_test(test_a_spawner_reaches_users_but_no_id_below_the_floor),
        cmocka_unit_test(test_become_is_for_good_and_chroots),
        cmocka_unit_test(test_rootless_become_accepts_only_ourselves),
        cmocka_unit_test(test_a_tightened_child_keeps_one_directory_and_nothing_else),
        cmocka_unit_test(test_a_daemon_dies_with_its_parent),
        cmocka_unit_test(test_calls_newer_than_the_build_do_not_exist),
        cmocka_unit_test(test_a_missing_account_is_an_error_that_names_the_remedy),
        cmocka_unit_test(test_the_report_says_what_was_applied),
    };
    return cmocka_run_group_tests_name("sandbox", tests, make_dir, remove_dir);
}
