/* init, setup: making an instance. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "libutil/sandbox.h"
#include "libutil/tls.h"

enum { PORT_MAX = 65535 - 995 };

struct plan {
    char dir[4000];
    const char *hostname, *domain;
    bool demo, lmtp;
    int base; /* added to every port */
    bool as_root;
};

/* --- files ---------------------------------------------------------------------------------- */

/* Gives path to the account (root keeps access through the group) when we are root. */
static int give(const struct plan *p, const char *path, const char *account, struct error *err)
{
    uid_t uid;
    gid_t gid;
    if (!p->as_root || !account)
        return OK;
    int rc = sandbox_account(account, &uid, &gid, err);
    if (rc == OK && chown(path, uid, 0) != 0)
        rc = error_sys(err, "%s", path);
    return rc;
}

static int make_dir(
    const struct plan *p, const char *name, mode_t mode, const char *account, struct error *err)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s", p->dir, name);
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return error_sys(err, "%s", path);
    if (chmod(path, mode) != 0)
        return error_sys(err, "%s", path);
    return give(p, path, account, err);
}

/* Writes a new file; one that exists is an error, so nothing of an administrator is lost. */
static int make_file(const struct plan *p, const char *name, mode_t mode, const char *group_of,
    struct slice text, struct error *err)
{
    char path[4200];
    uid_t uid;
    gid_t gid;
    snprintf(path, sizeof(path), "%s/%s", p->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return error_sys(err, "%s", path);
    int rc = OK;
    if (write(fd, text.p, text.n) != (ssize_t)text.n || fchmod(fd, mode) != 0 || fsync(fd) != 0)
        rc = error_sys(err, "%s", path);
    if (rc == OK && p->as_root && group_of) {
        rc = sandbox_account(group_of, &uid, &gid, err);
        if (rc == OK && fchown(fd, 0, gid) != 0)
            rc = error_sys(err, "%s", path);
    }
    close(fd);
    return rc;
}

static int make_dirs(const struct plan *p, struct error *err)
{
    static const struct {
        const char *name, *account;
        mode_t mode;
    } dirs[] = {{"run", NULL, 0755}, {"log", "veredus-log", 0750}, {"spool", "veredus-q", 0750},
        {"mail", "veredus-mail", 0750}, {"tables", NULL, 0755}, {"tls", NULL, 0755}};
    int rc = OK;
    for (size_t i = 0; i < ARRAY_LEN(dirs) && rc == OK; i++)
        rc = make_dir(p, dirs[i].name, dirs[i].mode, dirs[i].account, err);
    return rc;
}

static int make_certificate(const struct plan *p, struct error *err)
{
    struct buf cert, key;
    buf_init(&cert, 16384);
    buf_init(&key, 16384);
    int rc = tls_self_signed(p->hostname, &cert, &key, err);
    if (rc == OK)
        rc = make_file(p, "tls/cert.pem", 0644, NULL, buf_slice(&cert), err);
    if (rc == OK)
        rc = make_file(p, "tls/key.pem", 0600, NULL, buf_slice(&key), err);
    buf_clear(&cert);
    buf_wipe(&key);
    return rc;
}

static int add_demo_user(struct buf *out, const char *user, const char *password, struct error *err)
{
    buf_printf(out, "%s@example.test: ", user);
    int rc = ctl_hash_password(password, out, err);
    buf_putc(out, '\n');
    return rc;
}

static int make_tables(const struct plan *p, struct error *err)
{
    struct buf users;
    buf_init(&users, 65536);
    buf_puts(&users, "# user@domain: password hash (crypt(5)); see `veredus user`\n");
    int rc = OK;
    if (p->demo)
        rc = add_demo_user(&users, "alice", "alice-password", err);
    if (rc == OK && p->demo)
        rc = add_demo_user(&users, "bob", "bob-password", err);
    if (rc == OK)
        rc = make_file(p, "tables/users", 0640, "veredus-auth", buf_slice(&users), err);
    buf_clear(&users);
    if (rc == OK)
        rc = make_file(p, "tables/aliases", 0644, NULL,
            SLICE_LIT("# aliases(5) for the accounts of this host\n"), err);
    if (rc == OK)
        rc = make_file(
            p, "tables/virtual-aliases", 0644, NULL, SLICE_LIT("# address: address ...\n"), err);
    return rc;
}

static void put_listener(
    struct buf *b, const struct plan *p, const char *name, int plain, int tls, const char *more)
{
    const char *host = p->demo ? "127.0.0.1" : "*";
    buf_printf(b, "listen %s {\n    on", name);
    if (plain)
        buf_printf(b, " %s:%d", host, p->base + plain);
    if (tls)
        buf_printf(b, " %s:%ds", host, p->base + tls);
    buf_printf(b, "\n%s}\n", more);
}

static int make_conf(const struct plan *p, struct error *err)
{
    struct buf b;
    buf_init(&b, 65536);
    buf_printf(&b,
        "# Veredus; every key is explained by veredus.conf(5) and `veredus config explain KEY`.\n"
        "hostname %s\n"
        "admin %s@%s\n"
        "message-size 50M\n\n"
        "users text:tables/users\n"
        "aliases text:tables/aliases\n"
        "virtual-aliases text:tables/virtual-aliases\n\n"
        "tls {\n    cert tls/cert.pem\n    key tls/key.pem\n}\n\n",
        p->hostname, p->demo ? "alice" : "postmaster", p->domain);
    put_listener(&b, p, "smtp", 25, 0, "    tls optional\n");
    put_listener(&b, p, "submission", 587, 465,
        p->demo ? "    tls optional\n    auth required\n    plaintext-auth loopback\n"
                : "    tls required\n    auth required\n    plaintext-auth never\n");
    put_listener(&b, p, "imap", 143, 993, "");
    put_listener(&b, p, "pop3", 110, 995, "");
    if (p->lmtp)
        put_listener(&b, p, "lmtp", 24, 0, "");
    buf_printf(&b, "\ndomain %s {\n    plus-address yes\n}\n", p->domain);
    if (p->demo)
        buf_puts(&b, "\nqueue {\n    segment-size 8M\n}\n");
    buf_puts(&b, "\nlog {\n    to file log/veredus.log\n    level info\n}\n");
    int rc = make_file(p, "veredus.conf", 0644, NULL, buf_slice(&b), err);
    buf_clear(&b);
    return rc;
}

/* --- accounts ------------------------------------------------------------------------------- */

static int run_useradd(const char *account)
{
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        execl("/usr/sbin/useradd", "useradd", "--system", "--user-group", "--no-create-home",
            "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", account, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int make_accounts(struct error *err)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        const char *account = role_info((enum role)role)->account;
        uid_t uid;
        gid_t gid;
        if (sandbox_account(account, &uid, &gid, err) == OK)
            continue;
        int status = run_useradd(account);
        if (status != 0)
            return error_set(err, ERR_IO, "useradd %s failed with status %d", account, status);
        fprintf(stderr, "created the system account %s\n", account);
    }
    return OK;
}

/* Gives `dir` (taken) and what lies in it, down to `depth` levels of directories, to uid. Follows
 * no link and leaves what belongs to uid alone. */
static int own_tree(int dir, const char *path, uid_t uid, int depth, struct error *err)
{
    struct stat st;
    DIR *list = fdopendir(dir);
    if (!list)
        return error_sys(err, "%s", path);
    int rc = fstat(dir, &st) || (st.st_uid != uid && fchown(dir, uid, (gid_t)-1))
                 ? error_sys(err, "%s", path)
                 : OK;
    for (struct dirent *e; rc == OK && (e = readdir(list));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue; /* it has just gone */
        if (S_ISDIR(st.st_mode) && depth > 0) {
            int below = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            rc = below < 0 ? error_sys(err, "%s/%s", path, e->d_name)
                           : own_tree(below, path, uid, depth - 1, err);
        } else if (S_ISREG(st.st_mode) && st.st_uid != uid &&
                   fchownat(dir, e->d_name, uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW)) {
            rc = error_sys(err, "%s/%s", path, e->d_name);
        }
    }
    closedir(list);
    return rc;
}

/* A spool that was copied here by root belongs to root; qmgr could not enter it. */
static int own_spool(struct ctl *c, struct error *err)
{
    const struct conf *conf = ctl_conf(c);
    uid_t uid;
    gid_t gid;
    if (!conf)
        return error_set(err, ERR_SYNTAX, "the spool's owner cannot be seen to without that file");
    const char *spool = conf_string(conf_root(conf), "spool").p;
    int dir = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? OK : error_sys(err, "%s", spool);
    int rc = sandbox_account(role_info(ROLE_QMGR)->account, &uid, &gid, err);
    if (rc == OK)
        return own_tree(dir, spool, uid, 1, err);
    fd_close(&dir);
    return rc;
}

static int setup(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    if (argc != 0)
        return (void)argv, ctl_usage(c);
    if (geteuid() != 0)
        return ctl_fail(CTL_NO, "setup creates system accounts: run it as root");
    int rc = make_accounts(&err);
    if (rc == OK && access(c->conf_path, F_OK) == 0)
        rc = own_spool(c, &err);
    return rc == OK ? CTL_OK : ctl_report(&err);
}

/* --- init ----------------------------------------------------------------------------------- */

static int make_all(const struct plan *p, struct error *err)
{
    struct stat st;
    char conf[4200];
    snprintf(conf, sizeof(conf), "%s/veredus.conf", p->dir);
    if (stat(conf, &st) == 0)
        return error_set(err, ERR_EXISTS, "%s exists already: nothing was changed", conf);
    int rc = p->as_root ? make_accounts(err) : OK;
    if (rc == OK)
        rc = make_dirs(p, err);
    if (rc == OK)
        rc = make_certificate(p, err);
    if (rc == OK)
        rc = make_tables(p, err);
    return rc ? rc : make_conf(p, err);
}

/* dir and what leads to it. */
static int make_path(const char *dir, struct error *err)
{
    char *path = xstrdup(dir);
    int rc = OK;
    for (char *p = path + 1; *path && !rc; p++) {
        char c = *p;
        if (c && c != '/')
            continue;
        *p = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST)
            rc = error_sys(err, "%s", path);
        *p = c;
        if (!c)
            break;
    }
    free(path);
    return rc;
}

static int choose_dir(struct plan *p, const char *dir, struct error *err)
{
    int rc = make_path(dir, err);
    if (rc != OK)
        return rc;
    char *real = realpath(dir, NULL);
    if (!real)
        return error_sys(err, "%s", dir);
    int n = snprintf(p->dir, sizeof(p->dir), "%s", real);
    free(real);
    if (n < 0 || (size_t)n >= sizeof(p->dir))
        return error_set(err, ERR_LIMIT, "%s: the name is too long", dir);
    if (strpbrk(p->dir, " \t\n\"#{};"))
        return error_set(err, ERR_SYNTAX,
            "%s: white space and \" # { } ; are not supported in the instance's path", p->dir);
    return OK;
}

static int init(struct ctl *c, int argc, char **argv)
{
    struct plan p = {.as_root = geteuid() == 0};
    struct error err = {0};
    uint64_t base = 0;
    const char *dir = ctl_option(&argc, argv, "--dir");
    const char *port = ctl_option(&argc, argv, "--base-port");
    p.hostname = ctl_option(&argc, argv, "--hostname");
    p.domain = ctl_option(&argc, argv, "--domain");
    p.demo = ctl_flag(&argc, argv, "--demo");
    p.lmtp = !ctl_flag(&argc, argv, "--without-lmtp") && p.demo;
    if (p.demo) {
        p.hostname = p.hostname ? p.hostname : "mail.example.test";
        p.domain = "example.test";
    }
    if (argc != 0 || !dir || !*dir || !p.hostname || !p.domain)
        return ctl_usage(c);
    if (port && slice_u64(slice_of(port), 0, PORT_MAX, &base) != OK)
        return ctl_fail(CTL_USAGE,
            "--base-port: a number from 0 to %d, to which 25, 143, 995 and "
            "so on are added",
            PORT_MAX);
    p.base = (int)base;
    if (choose_dir(&p, dir, &err) != OK || make_all(&p, &err) != OK)
        return ctl_report(&err);
    printf("made %s for %s%s\n", p.dir, p.domain,
        p.demo ? ": alice@example.test (alice-password), bob@example.test (bob-password)" : "");
    if (!p.demo)
        printf("next: say who reads the postmaster's mail (admin, in veredus.conf), then\n"
               "  veredus -d %s user add NAME@%s\n  veredus -d %s start\n",
            p.dir, p.domain, p.dir);
    return CTL_OK;
}

const struct ctl_verb init_verbs[] = {
    {"init", NULL,
        "--dir DIR (--demo [--without-lmtp] | --hostname NAME --domain DOMAIN) [--base-port P]",
        "Make an instance in DIR: configuration, certificate, tables, directories.", init},
    {"setup", NULL, "",
        "Create the system accounts that a root-started instance uses, and give the spool to its "
        "own, where it was copied here by another.",
        setup},
    {0}};
