#include "ctl/config_world.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/config_texts.h"
#include "libutil/conf_place.h"
#include "libutil/file.h"
#include "libutil/role.h"
#include "libutil/sandbox.h"
#include "libutil/tls_pair.h"

enum { ANCHOR_MAX = 1024 * 1024 };

struct place {
    const struct conf *conf;
    const struct conf_block *block;
    const char *key;
    struct buf *errors;
};

static void complain(const struct place *p, const char *what, const char *why)
{
    conf_key_where(p->conf, p->block, p->key, p->errors);
    buf_printf(p->errors, ": %s: %s\n", what, why);
}

/* A directory; that of a file where a path to one is given. False: it has been reported. */
static bool is_directory(const struct place *p, struct slice path, bool of_file, struct stat *st)
{
    char dir[4096];
    if (of_file)
        path = slice_first(path, (size_t)MAX(slice_rchr(path, '/'), (ptrdiff_t)1));
    if (!slice_to_cstr(path, dir, sizeof(dir)))
        complain(p, "path", strerror(ENAMETOOLONG));
    else if (stat(dir, st) != 0)
        complain(p, dir, strerror(errno));
    else if (!S_ISDIR(st->st_mode))
        complain(p, dir, strerror(ENOTDIR));
    else
        return true;
    return false;
}

/* Only its owner opens the spool. */
static void check_spool(const struct conf *conf, struct buf *errors)
{
    const struct place p = {conf, conf_root(conf), "spool", errors};
    struct error err;
    struct stat st;
    char why[128];
    uid_t uid = geteuid();
    gid_t gid;
    if (!is_directory(&p, conf_string(p.block, p.key), false, &st))
        return;
    const char *account = role_info(ROLE_QMGR)->account;
    if (uid == 0 && sandbox_account(account, &uid, &gid, &err))
        return; /* start says what is missing before */
    if (st.st_uid == uid)
        return;
    snprintf(why, sizeof(why), "has to belong to uid %u, and belongs to uid %u", (unsigned)uid,
        (unsigned)st.st_uid);
    complain(&p, conf_string(p.block, p.key).p, why);
}

static void check_directories(const struct conf *conf, struct buf *errors)
{
    const struct place log = {conf, conf_one(conf, "log"), "to", errors};
    const struct place mbox = {conf, conf_one(conf, "local"), "mailbox", errors};
    struct slice mailbox = conf_string(mbox.block, mbox.key);
    struct stat st;
    check_spool(conf, errors);
    if (conf_list_len(log.block, log.key) == 2)
        (void)is_directory(&log, conf_list_at(log.block, log.key, 1), true, &st);
    if (slice_starts(mailbox, "/"))
        (void)is_directory(&mbox, mailbox, true, &st);
}

/* Roughly: the resolver reads them in earnest. */
static bool are_anchors(struct slice text)
{
    while (text.p) {
        struct slice rest = slice_cut(&text, '\n');
        struct slice line = slice_trim(slice_cut(&rest, ';'));
        if (line.n && slice_find(line, SLICE_LIT("DS")) < 0 &&
            slice_find(line, SLICE_LIT("DNSKEY")) < 0)
            return false;
    }
    return true;
}

static void check_anchor(const struct conf *conf, struct buf *errors)
{
    const struct place p = {conf, conf_one(conf, "dns"), "trust-anchor", errors};
    const char *path = conf_string(p.block, p.key).p;
    struct error err;
    struct buf text;
    if (!path)
        return;
    buf_init(&text, ANCHOR_MAX);
    if (file_read(path, &text, &err) != OK) {
        conf_key_where(conf, p.block, p.key, errors);
        buf_printf(errors, ": %s\n", err.text);
    } else if (!are_anchors(buf_slice(&text))) {
        complain(&p, path, "not DS or DNSKEY records");
    }
    buf_clear(&text);
}

static void check_certificate(const struct conf *conf, struct buf *errors)
{
    struct place p = {conf, conf_one(conf, "tls"), "cert", errors};
    const char *cert = conf_string(p.block, "cert").p, *key = conf_string(p.block, "key").p;
    struct error err = {0};
    if (!cert || !key || tls_check_pair(cert, key, &err) == OK)
        return;
    if (strncmp(err.text, cert, strlen(cert)) != 0)
        p.key = "key";
    conf_key_where(conf, p.block, p.key, errors);
    buf_printf(errors, " of tls: %s\n", err.text);
}

/* Who runs commands has to exist: otherwise each delivery fails, and only then somebody hears. */
static void check_account(const struct place *p)
{
    struct slice name = conf_string(p->block, p->key);
    struct error err;
    uid_t uid;
    gid_t gid;
    int rc = name.n > 0 ? sandbox_account(name.p, &uid, &gid, &err) : ERR_NOT_FOUND;
    if (name.n > 0 && rc == ERR_NOT_FOUND)
        complain(p, name.p, "no such account on this host");
    else if (rc == ERR_DENIED || (rc == OK && slice_starts(name, "veredus")))
        complain(p, name.p, "commands are run neither as root nor as accounts of this system");
}

static void check_accounts(const struct conf *conf, struct buf *errors)
{
    struct place p = {conf, conf_one(conf, "pipe"), "command-user", errors};
    check_account(&p);
    p.key = "user";
    for (p.block = NULL; (p.block = conf_next(conf_root(conf), "command", p.block));)
        check_account(&p);
}

void config_check_world(const struct conf *conf, struct buf *errors)
{
    struct error err;
    config_check_tables(conf, errors);
    config_check_texts(conf, errors);
    (void)!conf_check_mail_root(conf, errors, &err);
    check_directories(conf, errors);
    check_certificate(conf, errors);
    check_anchor(conf, errors);
    check_accounts(conf, errors);
}
