#include "delivery/local/local.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "delivery/local/events.h"
#include "delivery/local/parts.h"
#include "libmail/nexthop.h"
#include "libmail/proto/notify.h"

/* --- set-up ---------------------------------------------------------------------------------- */

/* A directory that holds homes: writable below, and a handle on its file system. */
static void add_tree(const char *path, void *arg)
{
    struct local *l = arg;
    struct stat st;
    for (size_t i = 0; i < l->ntrees; i++)
        if (strcmp(l->trees[i], path) == 0)
            return;
    int fd = l->ntrees < LOCAL_TREES ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st)) {
        fd_close(&fd);
        return;
    }
    l->trees[l->ntrees++] = xstrdup(path);
    for (size_t i = 0; i < l->nsystems; i++)
        if (l->systems[i].device == st.st_dev) {
            fd_close(&fd);
            return;
        }
    l->systems[l->nsystems].device = st.st_dev;
    l->systems[l->nsystems++].fd = fd;
}

/* /DIRECTORY/FILE becomes the spool and the file's name. */
static int split_mailbox(struct local *l, struct error *err)
{
    char *slash = strrchr(l->mailbox, '/');
    if (slash && !slash[1])
        *slash = '\0';
    if (!slash || l->mailbox[0] != '/')
        return OK;
    l->spool = xmemdup0(l->mailbox, (size_t)(slash - l->mailbox));
    memmove(l->mailbox, slash + 1, strlen(slash));
    add_tree(l->spool, l); /* the first one */
    struct stat st;
    if (stat(l->spool, &st) == 0 && (st.st_mode & 022) == 020)
        l->spool_gid = st.st_gid;
    return l->ntrees ? OK : error_sys(err, "local mailbox: %s", l->spool);
}

/* --- outcomes -------------------------------------------------------------------------------- */

static void announce(struct local *l, const struct delivery_task *t, const struct local_result *r)
{
    char owner[1400];
    struct peer *p = daemon_peer(l->agent.daemon, CONV_NOTIFY, -1);
    int n = snprintf(owner, sizeof(owner), "%s/%s", t->account.home, l->mailbox);
    struct notify_changed m = {.owner = slice_first(slice_from(owner, (size_t)n), 1024),
        .mailbox = slice_of(r->folder),
        .sequence = r->sequence};
    if (p && r->sequence)
        (void)!ipc_send(p->ipc, notify_changed_type, 0, &m, -1);
}

static uint32_t count_targets(struct slice targets)
{
    uint32_t n = 0;
    for (struct reader r = reader_of(targets); r.rest.n && !r.bad; n++)
        get_lv(&r, DELIVER_TARGETS_MAX);
    return n;
}

/* Ends a task with what its child, or the spawner, says. */
static void conclude(struct delivery_task *t, const struct local_result *r, struct slice targets)
{
    struct local *l = local_of(t);
    struct log log;
    struct slice to = t->to.address, account = slice_of(t->account.name);
    struct outcome o = {.status = r->status,
        .dsn = slice_of(r->dsn),
        .text = slice_of(r->text),
        .targets = targets,
        .only = targets.n && !r->stored};
    log_set_id(&log, &l->agent.daemon->log, "qid", t->job->trace);
    if (r->status == DELIVERED) {
        if (r->system < l->nsystems)
            l->systems[r->system].dirty = true;
        if (r->stored && r->uid == 0)
            log_event(&log, local_filed, .to = to, .account = account, .size = t->job->size);
        else if (r->stored)
            log_event(&log, local_store, .to = to, .mailbox = slice_of(r->folder), .uid = r->uid,
                .size = t->job->size, .again = r->again);
        if (targets.n)
            log_event(
                &log, local_forward, .to = to, .account = account, .nrcpt = count_targets(targets));
        announce(l, t, r);
    } else {
        log_event(&log, local_refuse, .to = to, .account = account, .rule = slice_of(r->rule),
            .reason = slice_of(r->text));
    }
    delivery_conclude(t, &o);
}

static void refuse(struct delivery_task *t, enum deliver_status status, const char *dsn,
    const char *rule, const char *text)
{
    struct local_result r = {.status = status};
    snprintf(r.dsn, sizeof(r.dsn), "%s", dsn);
    snprintf(r.rule, sizeof(r.rule), "%s", rule);
    snprintf(r.text, sizeof(r.text), "%.399s", text);
    conclude(t, &r, SLICE_LIT(""));
}

static void child_ended(struct delivery_task *t, struct slice answer)
{
    struct local_result r = {.status = FAILED + 1}; /* until there is one */
    if (answer.n >= sizeof(r))
        memcpy(&r, answer.p, sizeof(r));
    if (r.status > FAILED) {
        refuse(t, DEFERRED, "4.3.0", "child", "the delivery process ended without a result");
        return;
    }
    r.dsn[sizeof(r.dsn) - 1] = r.rule[sizeof(r.rule) - 1] = '\0';
    r.text[sizeof(r.text) - 1] = r.folder[sizeof(r.folder) - 1] = '\0';
    struct slice targets = slice_from_index(answer, sizeof(r));
    conclude(t, &r, r.status == DELIVERED ? targets : SLICE_LIT(""));
}

/* --- requests -------------------------------------------------------------------------------- */

const char *local_not_allowed(const struct local *l, const struct account *a)
{
    if (a->uid < l->least_uid || a->gid == 0)
        return "the account's user id is below local min-uid: give it an alias";
    if (l->agent.daemon->rootless && a->uid != geteuid())
        return "started without root: only mail for the account that runs this can be delivered";
    return NULL;
}

static bool admit(struct delivery_task *t)
{
    struct local *l = local_of(t);
    struct error err = {0};
    struct slice account, folder;
    nexthop_split(t->to.nexthop, &account, &folder);
    t->limit_ms = LOCAL_CHILD_MS;
    int rc = accounts_find(l->agent.accounts, account, &t->account, &err);
    const char *why = rc ? NULL : local_not_allowed(l, &t->account);
    if (rc == ERR_NOT_FOUND)
        refuse(t, FAILED, "5.1.1", "account", "no such account on this host");
    else if (rc)
        refuse(t, DEFERRED, "4.3.0", "account", err.text);
    else if (why)
        refuse(t, DEFERRED, "4.3.5", l->agent.daemon->rootless ? "rootless" : "uid", why);
    return !rc && !why;
}

static int sync_systems(struct daemon *d, struct error *err)
{
    struct local *l = d->data;
    int rc = OK;
    for (size_t i = 0; i < l->nsystems && !rc; i++) {
        if (l->systems[i].dirty)
            rc = store_sync(l->systems[i].fd, err);
        l->systems[i].dirty &= rc != OK;
    }
    return rc;
}

/* --- life ------------------------------------------------------------------------------------ */

static const struct delivery_kind kind = {.name = "local",
    .task_size = sizeof(struct delivery_task),
    .answer_max = LOCAL_ANSWER_MAX,
    .admit = admit,
    .work = local_child,
    .ended = child_ended,
    .refuse = refuse,
    .sync = sync_systems};

int local_configure(struct daemon *d, struct error *err)
{
    static const struct sandbox_profile child = {
        .name = "local-child", .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE};
    const struct conf_block *block = conf_one(d->conf, "local");
    struct local *l = NEW(struct local);
    list_init(&l->rooms);
    l->least_uid = (uid_t)MAX(conf_int(block, "min-uid"), (int64_t)LOCAL_UID_FLOOR);
    if (!slice_to_cstr(conf_string(block, "mailbox"), l->mailbox, sizeof(l->mailbox)))
        return error_set(err, ERR_LIMIT, "local mailbox is too long");
    int rc = delivery_configure(d, &l->agent, &kind, err);
    if (!rc)
        rc = split_mailbox(l, err);
    if (!rc)
        rc = users_limits(block, l->limits, err);
    if (rc)
        return rc;
    l->filter = sandbox_filter_new(&child, err);
    if (!l->filter)
        return err->code ? err->code : ERR_IO;
    accounts_trees(LOCAL_UID_FLOOR, add_tree, l);
    l->read[0] = "/etc";
    d->paths.read = l->read;
    d->paths.write = l->trees;
    return OK;
}

void local_free(struct daemon *d)
{
    struct local *l = d->data;
    delivery_clear(&l->agent);
    sandbox_filter_free(l->filter);
    free(l->spool);
    for (size_t i = 0; i < l->ntrees; i++)
        free((char *)l->trees[i]);
    for (size_t i = 0; i < l->nsystems; i++)
        fd_close(&l->systems[i].fd);
    free(l);
}
