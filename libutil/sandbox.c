#include "libutil/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/sandbox_parts.h"

#if SANDBOX_ASAN
/* The leak check at exit starts a thread and traces itself: not in here. */
static bool inside;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return inside;
}
#define MARK_INSIDE() (inside = true)
#else
#define MARK_INSIDE() ((void)0)
#endif

#define SECUREBITS                                                                              \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                            \
        SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | \
        SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

/* Entry in progress. */
struct entry {
    const struct sandbox_profile *profile;
    const struct sandbox_paths *paths;
    struct sandbox_report *report;
    struct error *err;
    struct sandbox_trees trees;
    pid_t parent;
};

static void report_missing(struct sandbox_report *r, const char *what)
{
    size_t n = strlen(r->missing);
    snprintf(r->missing + n, sizeof(r->missing) - n, "%s%s", n ? "," : "", what);
}

int sandbox_account(const char *name, uid_t *uid, gid_t *gid, struct error *err)
{
    errno = 0;
    struct passwd *pw = getpwnam(name);
    if (!pw)
        return error_set(err, ERR_NOT_FOUND,
            "account %s does not exist: create it with `useradd --system --user-group "
            "--no-create-home --shell /usr/sbin/nologin %s`",
            name, name);
    if (pw->pw_uid == 0 || pw->pw_gid == 0)
        return error_set(err, ERR_DENIED, "account %s must not be root", name);
    *uid = pw->pw_uid;
    *gid = pw->pw_gid;
    return OK;
}

/* --- capabilities ---------------------------------------------------------------------------- */

/* Permitted and effective become exactly `keep`, inheritable empty. */
static int caps_set(uint64_t keep, struct error *err)
{
    cap_t caps = cap_init();
    int rc = caps ? OK : error_sys(err, "sandbox: capabilities");
    for (int c = 0; rc == OK && c <= CAP_LAST_CAP; c++) {
        cap_value_t v = c;
        if (!(keep >> c & 1))
            continue;
        if (cap_set_flag(caps, CAP_PERMITTED, 1, &v, CAP_SET) < 0 ||
            cap_set_flag(caps, CAP_EFFECTIVE, 1, &v, CAP_SET) < 0)
            rc = error_sys(err, "sandbox: capability %d", c);
    }
    if (rc == OK && cap_set_proc(caps) < 0)
        rc = error_sys(err, "sandbox: dropping capabilities");
    if (caps)
        cap_free(caps);
    return rc;
}

/* The set of capabilities in this flag. */
static uint64_t caps_get(cap_flag_t flag)
{
    uint64_t set = 0;
    cap_t caps = cap_get_proc();
    for (int c = 0; caps && c <= CAP_LAST_CAP; c++) {
        cap_flag_value_t on = CAP_CLEAR;
        if (cap_get_flag(caps, c, flag, &on) == 0 && on == CAP_SET)
            set |= (uint64_t)1 << c;
    }
    if (caps)
        cap_free(caps);
    return set;
}

static bool caps_are(uint64_t expected)
{
    return caps_get(CAP_PERMITTED) == expected && caps_get(CAP_EFFECTIVE) == expected &&
           caps_get(CAP_INHERITABLE) == 0;
}

/* What outlives a change of user: bounding set, ambient set, securebits. Needs CAP_SETPCAP. */
static void limit_future(struct entry *e)
{
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    bool bounded = true;
    for (int c = 0; c <= CAP_LAST_CAP; c++) {
        if (!(e->profile->keep_caps >> c & 1) && prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1)
            bounded &= prctl(PR_CAPBSET_DROP, c, 0, 0, 0) == 0;
    }
    if (!bounded)
        report_missing(e->report, "bounding-set");
    if (prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0) < 0) {
        report_missing(e->report, "securebits");
        prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    }
}

int sandbox_keep_caps(uint64_t keep, struct error *err)
{
    for (int c = 0; c <= CAP_LAST_CAP; c++)
        if (!(keep >> c & 1) && prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, c, 0, 0, 0) != 0)
            return error_sys(err, "capabilities: bounding set");
    return caps_set(keep & caps_get(CAP_PERMITTED), err);
}

/* --- users ----------------------------------------------------------------------------------- */

static int verify_ids(uid_t uid, gid_t gid, struct error *err)
{
    uid_t u[3];
    gid_t g[3];
    if (getresuid(&u[0], &u[1], &u[2]) < 0 || getresgid(&g[0], &g[1], &g[2]) < 0)
        return error_sys(err, "sandbox: reading ids");
    for (int i = 0; i < 3; i++)
        if (u[i] != uid || g[i] != gid)
            return error_set(err, ERR_DENIED, "sandbox: ids did not change to %u:%u", (unsigned)uid,
                (unsigned)gid);
    if (getgroups(0, NULL) > 0)
        return error_set(err, ERR_DENIED, "sandbox: supplementary groups remain");
    if (uid != 0 && setresuid(0, 0, 0) == 0)
        return error_set(err, ERR_DENIED, "sandbox: could still become root");
    return OK;
}

static int change_ids(uid_t uid, gid_t gid, struct error *err)
{
    if (getgroups(0, NULL) > 0 && setgroups(0, NULL) < 0)
        return error_sys(err, "sandbox: setgroups");
    if (setresgid(gid, gid, gid) < 0)
        return error_sys(err, "sandbox: setresgid %u", (unsigned)gid);
    if (setresuid(uid, uid, uid) < 0)
        return error_sys(err, "sandbox: setresuid %u", (unsigned)uid);
    return OK;
}

/* Into the directory of this descriptor. */
static int chroot_to(int dir, struct error *err)
{
    if (fchdir(dir) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return error_sys(err, "sandbox: chroot");
    return OK;
}

static int chroot_as_user(const char *path, struct error *err)
{
    int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 && errno == ENOENT && mkdir(path, 0700) == 0)
        dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc = dir < 0 ? error_sys(err, "sandbox: %s", path) : chroot_to(dir, err);
    fd_close(&dir);
    return rc;
}

int sandbox_become(uid_t uid, gid_t gid, const char *chroot_dir, struct error *err)
{
    uint64_t have = caps_get(CAP_PERMITTED);
    if (!have && getuid() == uid && geteuid() == uid)
        return OK;
    if (uid == 0 || gid == 0)
        return error_set(err, ERR_DENIED, "sandbox: refusing to become root");
    uid_t ru, eu, su;
    gid_t rg, eg, sg;
    if (getresuid(&ru, &eu, &su) < 0 || getresgid(&rg, &eg, &sg) < 0)
        return error_sys(err, "sandbox: reading ids");
    bool same = ru == uid && eu == uid && su == uid && rg == gid && eg == gid && sg == gid;
    /* From root the capability for chroot must outlive setresuid; else it does by itself. Where
     * securebits are locked this fails and is not needed. */
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    int rc = same ? OK : change_ids(uid, gid, err);
    if (rc == OK && chroot_dir) {
        /* As the user, whose directories need not be open to others. */
        rc = caps_set(have & SANDBOX_CAP_CHROOT, err);
        if (rc == OK)
            rc = chroot_as_user(chroot_dir, err);
    }
    if (rc == OK)
        rc = caps_set(0, err);
    if (rc == OK && !caps_are(0))
        rc = error_set(err, ERR_DENIED, "sandbox: capabilities remain");
    return rc ? rc : verify_ids(uid, gid, err);
}

/* --- directories ----------------------------------------------------------------------------- */

/* An empty directory without a name: nobody, not even root, can put anything into it. */
static int open_empty(const char *first, struct error *err)
{
    const char *places[] = {first, "/run", "/tmp", "/var/tmp"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        char path[4200];
        if (!places[i] ||
            (size_t)snprintf(path, sizeof(path), "%s/veredus-XXXXXX", places[i]) >= sizeof(path))
            continue;
        if (!mkdtemp(path))
            continue;
        int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fchmodat(AT_FDCWD, path, 0555, 0) == 0 && rmdir(path) == 0)
            return fd;
        rmdir(path);
        fd_close(&fd);
    }
    return error_sys(err, "sandbox: no place for an empty root directory");
}

/* Opens by the path relative to the working directory where that is shorter: master stands in
 * the instance's directory, whose parents the account may not be allowed to walk. */
static int open_reachable(const char *path)
{
    char here[4096];
    size_t n = getcwd(here, sizeof(here)) ? strlen(here) : 0;
    if (n > 1 && strncmp(path, here, n) == 0 && (path[n] == '/' || path[n] == '\0'))
        path = path[n] ? path + n + 1 : ".";
    return open(path, O_PATH | O_CLOEXEC);
}

static int trees_add(struct entry *e, int root, const char *path, bool write)
{
    if (e->trees.n == SANDBOX_TREES_MAX)
        return error_set(e->err, ERR_LIMIT, "sandbox: too many paths");
    int fd = root >= 0 ? openat(root, path, O_PATH | O_CLOEXEC) : open_reachable(path);
    if (fd < 0)
        return error_sys(e->err, "sandbox: %s%s, as uid %u",
            strcmp(path, ".") ? path : "the root directory",
            errno == EACCES ? " (whose is it? `veredus setup` sees to the spool)" : "",
            (unsigned)geteuid());
    e->trees.tree[e->trees.n].fd = fd;
    e->trees.tree[e->trees.n++].write = write;
    return OK;
}

static int trees_open(struct entry *e, int root)
{
    int rc = OK;
    if (e->profile->root == SANDBOX_ROOT_EMPTY)
        return OK;
    if (e->profile->root == SANDBOX_ROOT_DIR && !e->paths->read && !e->paths->write)
        return trees_add(e, root, ".", e->profile->calls & SANDBOX_FILES_WRITE);
    for (const char *const *p = e->paths->read; rc == OK && p && *p; p++)
        rc = trees_add(e, root, *p, false);
    for (const char *const *p = e->paths->write; rc == OK && p && *p; p++)
        rc = trees_add(e, root, *p, true);
    return rc;
}

static void trees_close(struct sandbox_trees *t)
{
    for (size_t i = 0; i < t->n; i++)
        fd_close(&t->tree[i].fd);
    t->n = 0;
}

static int root_open(struct entry *e, int *fd)
{
    if (e->profile->root != SANDBOX_ROOT_DIR)
        return OK;
    if (!e->paths->root)
        return error_set(
            e->err, ERR_NOT_FOUND, "sandbox: %s has no root directory", e->profile->name);
    *fd = open_reachable(e->paths->root);
    return *fd < 0 ? error_sys(e->err, "sandbox: %s", e->paths->root) : OK;
}

/* --- the steps ------------------------------------------------------------------------------- */

/* Started by root: the account, then its directories, then the root, then the capabilities.
 * Directories are opened as the account, because root without CAP_DAC_OVERRIDE may see less. */
static int enter_as_root(struct entry *e)
{
    uid_t uid = 0;
    gid_t gid = 0;
    int empty = -1, root = -1, rc = OK;
    if (e->profile->account)
        rc = sandbox_account(e->profile->account, &uid, &gid, e->err);
    if (rc == OK && e->profile->root == SANDBOX_ROOT_EMPTY) {
        empty = open_empty(e->paths->root, e->err);
        rc = empty < 0 ? empty : OK;
    }
    uint64_t have = caps_get(CAP_PERMITTED);
    if (rc == OK) {
        limit_future(e);
        rc = change_ids(uid, gid, e->err);
    }
    uint64_t through = (e->profile->keep_caps | SANDBOX_CAP_CHROOT) & have;
    if (rc == OK)
        rc = caps_set(through, e->err);
    if (rc == OK)
        rc = root_open(e, &root);
    if (rc == OK)
        rc = trees_open(e, root);
    if (rc == OK && e->profile->root != SANDBOX_ROOT_HOST) {
        rc = chroot_to(empty >= 0 ? empty : root, e->err);
        e->report->chrooted = rc == OK;
    }
    uint64_t keep = e->profile->keep_caps & have;
    if (rc == OK)
        rc = caps_set(keep, e->err);
    if (rc == OK && !caps_are(keep))
        rc = error_set(e->err, ERR_DENIED, "sandbox: capabilities remain");
    /* With CAP_SETUID kept the filter's floor does this. */
    if (rc == OK && !(keep & SANDBOX_CAP_SETUID))
        rc = verify_ids(uid, gid, e->err);
    fd_close(&empty);
    fd_close(&root);
    return rc;
}

static int enter_as_user(struct entry *e)
{
    int root = -1;
    e->report->rootless = true;
    int rc = root_open(e, &root);
    if (rc == OK)
        rc = trees_open(e, root);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (rc == OK && !caps_are(0))
        rc = caps_set(0, e->err);
    fd_close(&root);
    return rc;
}

/* After the change of user, which resets the first of these. */
static int limit_process(struct entry *e)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return error_sys(e->err, "sandbox: parent-death signal");
    if (getppid() != e->parent)
        return error_set(e->err, ERR_CLOSED, "sandbox: the parent has died");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return error_sys(e->err, "sandbox: dumpable");
    bool commands = e->profile->calls & SANDBOX_EXEC; /* some write code as they run */
    e->report->mdwe =
        !commands && prctl(SANDBOX_PR_SET_MDWE, SANDBOX_PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0;
    if (!e->report->mdwe && !commands)
        report_missing(e->report, "mdwe");
    struct rlimit none = {0, 0}, files;
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        return error_sys(e->err, "sandbox: core limit");
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_sys(e->err, "sandbox: file limit");
    rlim_t want = e->profile->max_files ? e->profile->max_files : 65536;
    files.rlim_max = MIN(files.rlim_max, want);
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_sys(e->err, "sandbox: file limit");
    /* Counted per user but held against the one who forks: zero harms no other process. */
    if (!(e->profile->calls & (SANDBOX_FORK | SANDBOX_THREADS)) &&
        setrlimit(RLIMIT_NPROC, &none) < 0)
        return error_sys(e->err, "sandbox: process limit");
    return OK;
}

static int close_in(struct entry *e, const struct sandbox_filter *filter)
{
    MARK_INSIDE();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_sys(e->err, "sandbox: no_new_privs");
    e->report->landlock_abi = sandbox_landlock_abi();
    if (e->report->landlock_abi == 0)
        report_missing(e->report, "landlock");
    else if (e->report->landlock_abi < 6)
        report_missing(e->report, "landlock-scope");
    int rc = OK;
    if (!(e->profile->calls & SANDBOX_EXEC))
        rc = sandbox_landlock_enter(&e->trees, e->profile->calls, e->err);
    if (rc == OK)
        rc = sandbox_filter_load(filter, true, e->err);
    return rc;
}

int sandbox_enter(const struct sandbox_profile *profile, const struct sandbox_paths *paths,
    struct sandbox_report *report, struct error *err)
{
    static const struct sandbox_paths none;
    struct entry e = {.profile = profile,
        .paths = paths ? paths : &none,
        .report = report,
        .err = err,
        .parent = getppid()};
    memset(report, 0, sizeof(*report));
    if (SANDBOX_ASAN)
        report_missing(report, "sanitizer-build");
    struct sandbox_filter *filter = sandbox_filter_new(profile, err);
    if (!filter)
        return ERR_IO;
    report->seccomp_calls = filter->allowed;
    umask(077);
    int rc = geteuid() == 0 ? enter_as_root(&e) : enter_as_user(&e);
    if (rc == OK)
        rc = limit_process(&e);
    report->uid = geteuid();
    report->gid = getegid();
    if (rc == OK)
        rc = close_in(&e, filter);
    trees_close(&e.trees);
    sandbox_filter_free(filter);
    return rc;
}

int sandbox_tighten(const struct sandbox_filter *filter, int dir, struct error *err)
{
    return sandbox_tighten_to(filter, &dir, 1, err);
}

int sandbox_tighten_to(
    const struct sandbox_filter *filter, const int *dirs, size_t n, struct error *err)
{
    struct sandbox_report report = {0};
    struct sandbox_profile profile = {.calls = filter->calls};
    struct entry e = {.profile = &profile, .report = &report, .err = err};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return error_sys(err, "sandbox: child");
    for (size_t i = 0; i < n && e.trees.n < SANDBOX_TREES_MAX; i++)
        if (dirs[i] >= 0) {
            e.trees.tree[e.trees.n].fd = dirs[i];
            e.trees.tree[e.trees.n++].write = filter->calls & SANDBOX_FILES_WRITE;
        }
    return close_in(&e, filter);
}

void sandbox_report_print(
    const struct sandbox_profile *profile, const struct sandbox_report *r, struct buf *out)
{
    static const char *const roots[] = {"empty", "own directory", "host"};
    buf_printf(out,
        "profile=%s uid=%u gid=%u root=\"%s\" caps=%#llx landlock=%d seccomp=%u mdwe=%s",
        profile->name, (unsigned)r->uid, (unsigned)r->gid,
        r->chrooted ? roots[profile->root] : "host",
        (unsigned long long)(r->rootless ? 0 : profile->keep_caps), r->landlock_abi,
        r->seccomp_calls, r->mdwe ? "yes" : "no");
    if (r->rootless)
        buf_puts(out, " rootless=yes");
    if (r->missing[0])
        buf_printf(out, " missing=%s", r->missing);
}
