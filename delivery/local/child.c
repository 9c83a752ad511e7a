/* The child: becomes the recipient for good, then delivers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "delivery/local/parts.h"
#include "libmail/header.h"
#include "libmail/nexthop.h"
#include "libstore/mbox_deliver.h"
#include "libstore/quota.h"
#include "libstore/userfile.h"

static void say(struct local_result *r, enum deliver_status status, const char *dsn,
    const char *rule, const char *text)
{
    r->status = status;
    snprintf(r->dsn, sizeof(r->dsn), "%s", dsn);
    snprintf(r->rule, sizeof(r->rule), "%s", rule);
    snprintf(r->text, sizeof(r->text), "%.399s", text);
}

static uint32_t system_of(const struct local *l, int home)
{
    struct stat st;
    if (fstat(home, &st) == 0)
        for (size_t i = 0; i < l->nsystems; i++)
            if (l->systems[i].device == st.st_dev)
                return (uint32_t)i;
    return LOCAL_TREES;
}

static void note_sequence(void *arg, struct slice folder, uint64_t sequence)
{
    struct local_result *r = arg;
    (void)folder;
    r->sequence = sequence;
}

/* Open directories: the home, and that of mbox files or -1. */
struct places {
    int home, spool;
};

static struct store_delivery delivery_of(const struct delivery_task *t)
{
    const struct delivery_job *j = t->job;
    return (struct store_delivery){.id = delivery_id(t),
        .sender = j->envelope.sender,
        .address = t->to.address,
        .original = t->to.original,
        .via = t->to.via,
        .body = buf_slice(&j->body),
        .fd = j->fd,
        .size = j->size};
}

/* --- into mailboxes and files ---------------------------------------------------------------- */

/* In the mailbox; a Maildir beside it is the user's own affair. A delivery made before is never too
 * much. For an mbox file mbox_deliver_within looks. */
static int check_quota(const struct delivery_task *t, struct store *store, struct slice folder,
    const struct store_delivery *d, struct error *err)
{
    int rc = store_quota_set(store, slice_of(local_of(t)->limits), err);
    if (!rc)
        rc = store_quota_check(
            store, folder, d->body.n ? d->body.n : d->size, 1, QUOTA_DELIVERY, err);
    return rc == ERR_QUOTA && store_delivered(store, folder, d->id) ? OK : rc;
}

static int deliver(const struct delivery_task *t, int home, const char *maildir,
    struct slice detail, struct local_result *r, struct error *err)
{
    struct store_options opt = {
        .coexist = true, .create = true, .changed = note_sequence, .arg = r};
    struct store_delivery d = delivery_of(t);
    struct store *store;
    struct store_appended out;
    int rc = store_open(home, maildir, &opt, &store, err);
    if (rc)
        return rc;
    struct slice folder = store_deliver_folder(store, detail, &d);
    snprintf(r->folder, sizeof(r->folder), "%.*s", SLICE_FMT(folder));
    if (maildir == local_of(t)->mailbox && local_of(t)->limits[0])
        rc = check_quota(t, store, folder, &d, err);
    if (!rc)
        rc = store_deliver(store, folder, &d, &out, err);
    r->system = system_of(local_of(t), store_dirfd(store));
    if (!rc && r->system == LOCAL_TREES)
        rc = store_sync(store_dirfd(store), err);
    store_close(store);
    r->stored = !rc;
    r->uid = rc ? 0 : out.uid;
    r->again = !rc && out.duplicate;
    return rc;
}

int local_spool_name(const struct delivery_task *t, char *name, size_t size, struct error *err)
{
    const char *mailbox = local_of(t)->mailbox, *brace = strstr(mailbox, "{user}");
    int n = snprintf(name, size, "%.*s%s%s", (int)(brace - mailbox), mailbox, t->account.name,
        brace + strlen("{user}"));
    if (n < 0 || (size_t)n >= size || strchr(name, '/'))
        return error_set(err, ERR_DENIED, "the account's name is not one for a file");
    return OK;
}

static int deliver_to_spool(
    const struct delivery_task *t, int spool, struct local_result *r, struct error *err)
{
    char name[1024];
    struct store_delivery d = delivery_of(t);
    struct quota limits = {0};
    bool again = false;
    int rc = local_spool_name(t, name, sizeof(name), err);
    if (!rc && local_of(t)->limits[0])
        rc = quota_parse(slice_of(local_of(t)->limits), &limits, err);
    if (!rc)
        rc = mbox_deliver_within(spool, name, &d, &limits, &again, err);
    r->stored = !rc;
    r->again = again;
    return rc;
}

/* A /file or /maildir/ of .forward. */
static int deliver_to_path(const struct delivery_task *t, int home, struct slice path,
    struct local_result *r, struct error *err)
{
    char full[1024];
    struct store_delivery d = delivery_of(t);
    const char *below =
        slice_to_cstr(path, full, sizeof(full)) ? userfile_below(t->account.home, full) : NULL;
    bool again;
    if (!below)
        return error_set(err, ERR_DENIED, "the .forward file names a file outside of the home");
    int rc = path_deliver(home, below, &d, &again, err);
    r->stored |= !rc;
    return rc;
}

/* --- .forward -------------------------------------------------------------------------------- */

enum { HOPS_MAX = 30, HEADER_MAX = 128 * 1024 };

/* Whether this recipient, or too many others, have forwarded it before. */
static bool has_looped(const struct delivery_task *t)
{
    const struct delivery_job *j = t->job;
    if (via_holds(t->to.via, t->to.address))
        return true;
    char *copy = NULL;
    struct slice text = buf_slice(&j->body);
    if (j->fd >= 0 && text.n == 0) {
        copy = xcalloc(1, HEADER_MAX);
        ssize_t n = pread(j->fd, copy, HEADER_MAX, 0);
        text = slice_from(copy, n > 0 ? (size_t)n : 0);
    }
    struct header_iter it;
    struct header_field f;
    unsigned hops = 0;
    bool looped = false;
    header_iter_init(&it, text);
    while (!looped && header_iter_next(&it, &f)) {
        if (!slice_iis(f.name, "Delivered-To"))
            continue;
        looped = ++hops > HOPS_MAX || slice_ieq(slice_trim(f.body), t->to.address);
    }
    free(copy);
    return looped;
}

struct reading {
    const struct delivery_task *task;
    int home;
};

static int include(struct slice path, struct buf *out, void *arg, struct error *err)
{
    const struct reading *reading = arg;
    char full[1024];
    const char *below = slice_to_cstr(path, full, sizeof(full))
                            ? userfile_below(reading->task->account.home, full)
                            : NULL;
    return below ? userfile_read(reading->home, below, out, err)
                 : error_set(err, ERR_DENIED, "an include file is not in the home");
}

int local_read_plan(
    const struct delivery_task *t, int home, struct forward_plan *plan, struct error *err)
{
    struct reading reading = {t, home};
    struct forward_owner owner = {slice_of(t->account.name), t->to.address};
    struct buf text;
    buf_init(&text, FORWARD_MAX);
    int rc = userfile_read(home, ".forward", &text, err);
    if (rc == ERR_NOT_FOUND) {
        plan->mailbox = true;
        rc = OK;
    } else if (!rc && buf_len(&text)) {
        rc = userfile_check_home(home, err);
    }
    if (!rc && !plan->mailbox)
        rc = forward_parse(plan, buf_slice(&text), &owner, include, &reading, err);
    buf_clear(&text);
    return rc;
}

/* Mailbox and files: a repetition finds its delivery id there. Whom the message goes on to is noted
 * by qmgr, together with this being done. */
static void follow(const struct delivery_task *t, const struct places *p,
    const struct forward_plan *plan, struct local_result *r, struct buf *forward)
{
    struct error err = {0};
    char text[400];
    struct slice account, folder;
    nexthop_split(t->to.nexthop, &account, &folder);
    int rc = !plan->mailbox  ? OK
             : p->spool >= 0 ? deliver_to_spool(t, p->spool, r, &err)
                             : deliver(t, p->home, local_of(t)->mailbox, folder, r, &err);
    for (struct reader files = reader_of(buf_slice(&plan->files)); !rc && files.rest.n;)
        rc = deliver_to_path(t, p->home, get_lv(&files, FORWARD_BYTES_MAX), r, &err);
    if (rc == ERR_QUOTA) {
        bool wait = slice_find(slice_of(local_of(t)->limits), SLICE_LIT("defer\n")) >= 0;
        say(r, wait ? DEFERRED : FAILED, wait ? "4.2.2" : "5.2.2", "quota", err.text);
        return;
    }
    if (rc) {
        say(r, DEFERRED, err.code == ERR_NO_SPACE ? "4.3.1" : "4.2.0", "mailbox", err.text);
        return;
    }
    if (plan->mailbox && p->spool >= 0)
        snprintf(text, sizeof(text), "delivered to the mailbox file%s",
            r->again ? " (by an attempt before)" : "");
    else if (plan->mailbox)
        snprintf(text, sizeof(text), "delivered to mailbox %s uid %u%s", r->folder, r->uid,
            r->again ? " (by an attempt before)" : "");
    else
        snprintf(text, sizeof(text), "%s",
            plan->nfiles ? "delivered to a file of the user"
                         : "handled as the user's .forward says");
    say(r, DELIVERED, "2.0.0", "", text);
    buf_put(forward, buf_slice(&plan->targets));
}

static void deliver_at(const struct delivery_task *t, const struct places *p,
    struct local_result *r, struct buf *forward)
{
    struct error err = {0};
    struct forward_plan plan;
    forward_init(&plan);
    if (local_read_plan(t, p->home, &plan, &err))
        say(r, DEFERRED, "4.3.5", "forward", err.text);
    else if (buf_len(&plan.targets) && has_looped(t))
        say(r, FAILED, "5.4.6", "loop", "the mail is forwarded in a loop");
    else
        follow(t, p, &plan, r, forward);
    forward_clear(&plan);
}

bool local_is_own(int home)
{
    struct stat st;
    return fstat(home, &st) == 0 && (st.st_uid == geteuid() || st.st_uid == 0);
}

/* forward gets whom the message goes on to. */
static void deliver_as_user(
    const struct delivery_task *t, struct local_result *r, struct buf *forward)
{
    struct error err = {0};
    struct places p = {open(t->account.home, O_RDONLY | O_DIRECTORY | O_CLOEXEC), -1};
    if (p.home >= 0 && local_of(t)->spool)
        p.spool = open(local_of(t)->spool, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int trees[] = {p.home, p.spool};
    if (p.home < 0) {
        error_sys(&err, "home directory %s", t->account.home);
        say(r, DEFERRED, "4.2.0", "home", err.text);
    } else if (!local_is_own(p.home)) {
        say(r, DEFERRED, "4.2.0", "home", "the home directory belongs to another account");
    } else if (local_of(t)->spool && p.spool < 0) {
        error_sys(&err, "directory of mailbox files %s", local_of(t)->spool);
        say(r, DEFERRED, "4.2.0", "mailbox", err.text);
    } else if (local_of(t)->filter && sandbox_tighten_to(local_of(t)->filter, trees, 2, &err)) {
        say(r, DEFERRED, "4.3.0", "child", err.text);
    } else {
        deliver_at(t, &p, r, forward);
    }
    fd_close(&p.home);
    fd_close(&p.spool);
}

void local_child(struct delivery_task *t, struct buf *answer)
{
    struct local_result r = {0};
    struct error err = {0};
    struct buf forward;
    signal(SIGXFSZ, SIG_IGN);
    buf_init(&forward, DELIVER_TARGETS_MAX);
    /* In the home the group opens nothing that the user's own would not. */
    gid_t gid = local_of(t)->spool_gid ? local_of(t)->spool_gid : t->account.gid;
    if (sandbox_become(t->account.uid, gid, NULL, &err))
        say(&r, DEFERRED, "4.3.0", "child", err.text);
    else
        deliver_as_user(t, &r, &forward);
    buf_put(answer, slice_from(&r, sizeof(r)));
    buf_put(answer, buf_slice(&forward));
}
