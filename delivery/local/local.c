#include "delivery/local/local.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "delivery/local/events.h"
#include "delivery/local/parts.h"
#include "libmail/nexthop.h"
#include "libmail/proto/notify.h"
#include "libutil/proto/master.h"

/* --- set-up ---------------------------------------------------------------------------------- */

/* A directory that holds homes: writable below, and a handle on its file system. */
static void add_tree(struct local *l, const char *path)
{
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

/* As root, where ordinary users have their homes; otherwise our own home. */
static void add_homes(struct local *l)
{
    struct passwd *pw;
    if (geteuid() != 0) {
        pw = getpwuid(geteuid());
        if (pw && pw->pw_dir)
            add_tree(l, pw->pw_dir);
        return;
    }
    setpwent();
    while ((pw = getpwent())) {
        const char *slash = pw->pw_dir ? strrchr(pw->pw_dir, '/') : NULL;
        if (pw->pw_uid < LOCAL_UID_FLOOR || pw->pw_uid >= 65534 || !slash || slash == pw->pw_dir)
            continue;
        char *parent = xmemdup0(pw->pw_dir, (size_t)(slash - pw->pw_dir));
        add_tree(l, parent);
        free(parent);
    }
    endpwent();
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
    add_tree(l, l->spool); /* the first one */
    struct stat st;
    if (stat(l->spool, &st) == 0 && (st.st_mode & 022) == 020)
        l->spool_gid = st.st_gid;
    return l->ntrees ? OK : error_sys(err, "local mailbox: %s", l->spool);
}

int local_configure(struct daemon *d, struct error *err)
{
    static const struct sandbox_profile child = {
        .name = "local-child", .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE};
    const struct conf_block *block = conf_one(d->conf, "local");
    struct local *l = NEW(struct local);
    l->daemon = d;
    list_init(&l->jobs);
    list_init(&l->tasks);
    list_init(&l->children);
    d->data = l;
    l->least_uid = (uid_t)MAX(conf_int(block, "min-uid"), (int64_t)LOCAL_UID_FLOOR);
    if (!slice_to_cstr(conf_string(block, "mailbox"), l->mailbox, sizeof(l->mailbox)))
        return error_set(err, ERR_LIMIT, "local mailbox is too long");
    int rc = split_mailbox(l, err);
    if (!rc)
        rc = users_limits(block, l->limits, err);
    if (rc)
        return rc;
    l->accounts = accounts_open("/etc", err);
    l->filter = l->accounts ? sandbox_filter_new(&child, err) : NULL;
    if (!l->filter)
        return err->code ? err->code : ERR_IO;
    add_homes(l);
    l->read[0] = "/etc";
    d->paths.read = l->read;
    d->paths.write = l->trees;
    return OK;
}

static void exit_when_drained(struct local *l)
{
    if (l->daemon->draining && l->nchildren == 0)
        daemon_exit(l->daemon);
}

/* --- outcomes -------------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
    list_remove(&j->link);
    fd_close(&j->fd);
    buf_clear(&j->outcomes);
    free(j->sender);
    free(j->body);
    free(j);
}

/* Answers when the last recipient is through. */
static void job_progress(struct job *j)
{
    if (j->waiting)
        return;
    struct deliver_done done = {.outcomes = buf_slice(&j->outcomes)};
    if (j->peer)
        (void)!ipc_reply(j->peer->ipc, j->id, j->trace, deliver_done_type, &done, -1);
    job_free(j);
}

static void task_free(struct task *t)
{
    list_remove(&t->link);
    timer_stop(&t->limit);
    fd_close(&t->result);
    free(t->address);
    free(t->original);
    free(t->folder);
    free(t->via);
    free(t);
}

static void announce(struct local *l, const struct task *t, const struct local_result *r)
{
    char owner[1400];
    struct peer *p = daemon_peer(l->daemon, CONV_NOTIFY, -1);
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
static void conclude(struct task *t, const struct local_result *r, struct slice targets)
{
    struct local *l = t->local;
    struct job *j = t->job;
    struct log log;
    struct outcome o = {.index = t->index,
        .status = r->status,
        .dsn = slice_of(r->dsn),
        .text = slice_of(r->text),
        .targets = targets,
        .only = targets.n && !r->stored};
    log_set_id(&log, &l->daemon->log, "qid", j->trace);
    if (r->status == DELIVERED) {
        if (r->system < l->nsystems)
            l->systems[r->system].dirty = true;
        if (r->stored && r->uid == 0)
            log_event(&log, local_filed, .to = slice_of(t->address),
                .account = slice_of(t->account.name), .size = j->size);
        else if (r->stored)
            log_event(&log, local_store, .to = slice_of(t->address), .mailbox = slice_of(r->folder),
                .uid = r->uid, .size = j->size, .again = r->again);
        if (targets.n)
            log_event(&log, local_forward, .to = slice_of(t->address),
                .account = slice_of(t->account.name), .nrcpt = count_targets(targets));
        announce(l, t, r);
    } else {
        log_event(&log, local_refuse, .to = slice_of(t->address),
            .account = slice_of(t->account.name), .rule = slice_of(r->rule),
            .reason = slice_of(r->text));
    }
    /* One that does not fit is missing, which means deferred. */
    if (record_put(&j->outcomes, &outcome_record, &o))
        j->outcomes.failed = false;
    j->waiting--;
    task_free(t);
    job_progress(j);
    exit_when_drained(l);
}

static void refuse(
    struct task *t, enum deliver_status status, const char *dsn, const char *rule, const char *text)
{
    struct local_result r = {.status = status};
    snprintf(r.dsn, sizeof(r.dsn), "%s", dsn);
    snprintf(r.rule, sizeof(r.rule), "%s", rule);
    snprintf(r.text, sizeof(r.text), "%.399s", text);
    conclude(t, &r, SLICE_LIT(""));
}

/* --- children -------------------------------------------------------------------------------- */

static void too_late(void *arg)
{
    struct task *t = arg;
    t->late = true;
    kill(t->pid, SIGKILL);
}

static void spawn(struct local *l, struct task *t)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        refuse(t, DEFERRED, "4.3.0", "child", "no socket for a delivery process");
        return;
    }
    t->pid = fork();
    if (t->pid == 0) {
        t->result = pair[1];
        local_child(t);
    }
    fd_close(&pair[1]);
    t->result = pair[0];
    if (t->pid < 0) {
        refuse(t, DEFERRED, "4.3.0", "child", "no process for the delivery");
        return;
    }
    list_append(&l->children, &t->link);
    l->nchildren++;
    t->started = time(NULL);
    timer_init(&t->limit, l->daemon->loop, too_late, t);
    timer_start(&t->limit, LOCAL_CHILD_MS);
}

/* NULL when a child may be started for this account. */
static const char *not_allowed(const struct local *l, const struct account *a)
{
    if (a->uid < l->least_uid || a->gid == 0)
        return "the account's user id is below local min-uid: give it an alias";
    if (l->daemon->rootless && a->uid != geteuid())
        return "started without root: only mail for the account that runs this can be delivered";
    return NULL;
}

/* An account whose locks or home keep its deliveries waiting must not hold up the others. */
static bool has_room(const struct local *l, const struct account *a)
{
    unsigned n = 0;
    LIST_EACH(it, &l->children)
    n += LIST_ENTRY(it, struct task, link)->account.uid == a->uid;
    return n < LOCAL_CHILDREN_EACH;
}

static void run_tasks(void *arg)
{
    struct local *l = arg;
    LIST_EACH(it, &l->tasks)
    {
        struct task *t = LIST_ENTRY(it, struct task, link);
        if (l->nchildren >= LOCAL_CHILDREN_MAX)
            return;
        if (!has_room(l, &t->account))
            continue;
        list_remove(&t->link);
        const char *why = not_allowed(l, &t->account);
        if (why)
            refuse(t, DEFERRED, "4.3.5", l->daemon->rootless ? "rootless" : "uid", why);
        else
            spawn(l, t);
    }
}

static void child_ended(struct task *t)
{
    char answer[LOCAL_ANSWER_MAX];
    struct local_result r = {.status = FAILED + 1}; /* until there is one */
    ssize_t n = recv(t->result, answer, sizeof(answer), MSG_DONTWAIT);
    timer_stop(&t->limit); /* the process id may be another's from now on */
    list_remove(&t->link);
    if (n >= (ssize_t)sizeof(r))
        memcpy(&r, answer, sizeof(r));
    if (r.status > FAILED) {
        if (t->late)
            refuse(t, DEFERRED, "4.3.0", "time", "the delivery took too long");
        else
            refuse(t, DEFERRED, "4.3.0", "child", "the delivery process ended without a result");
        return;
    }
    r.dsn[sizeof(r.dsn) - 1] = r.rule[sizeof(r.rule) - 1] = '\0';
    r.text[sizeof(r.text) - 1] = r.folder[sizeof(r.folder) - 1] = '\0';
    struct slice targets = slice_from(answer + sizeof(r), (size_t)n - sizeof(r));
    conclude(t, &r, r.status == DELIVERED ? targets : SLICE_LIT(""));
}

static void on_child(int signo, void *arg)
{
    struct local *l = arg;
    pid_t pid;
    (void)signo;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        LIST_EACH(it, &l->children)
        {
            struct task *t = LIST_ENTRY(it, struct task, link);
            if (t->pid != pid)
                continue;
            l->nchildren--;
            child_ended(t);
            break;
        }
    }
    run_tasks(l);
    exit_when_drained(l);
}

int local_start(struct daemon *d, struct error *err)
{
    (void)err;
    loop_signal(d->loop, SIGCHLD, on_child, d->data);
    return OK;
}

/* --- requests -------------------------------------------------------------------------------- */

static void add_task(struct local *l, struct job *j, uint32_t index, const struct recipient *r)
{
    struct error err = {0};
    struct task *t = NEW(struct task);
    struct slice account, folder;
    t->local = l;
    t->job = j;
    t->index = index;
    t->result = -1;
    t->address = xmemdup0(r->address.p, r->address.n);
    t->original = xmemdup0(r->original.p, r->original.n);
    nexthop_split(r->nexthop, &account, &folder);
    t->folder = xmemdup0(folder.p, folder.n);
    t->via = xmemdup0(r->via.p, r->via.n);
    timer_init(&t->limit, l->daemon->loop, too_late, t);
    list_init(&t->link);
    j->waiting++;
    int rc = accounts_find(l->accounts, account, &t->account, &err);
    if (rc == ERR_NOT_FOUND)
        refuse(t, FAILED, "5.1.1", "account", "no such account on this host");
    else if (rc)
        refuse(t, DEFERRED, "4.3.0", "account", err.text);
    else
        list_append(&l->tasks, &t->link);
}

static void start(struct local *l, struct peer *peer, struct ipc_in *in)
{
    const struct deliver_start *m = in->msg;
    struct envelope envelope;
    struct recipient r;
    struct reader er = reader_of(m->envelope), rr = reader_of(m->recipients);
    struct job *j = NEW(struct job);
    *j = (struct job){.peer = peer,
        .id = in->id,
        .trace = in->trace,
        .delivery = m->delivery,
        .size = m->size,
        .fd = in->fd};
    in->fd = -1;
    buf_init(&j->outcomes, 60000);
    list_append(&l->jobs, &j->link);
    j->waiting = 1; /* no answer before all tasks are there */
    bool good = record_get(&er, &envelope_record, &envelope) == OK &&
                (m->body.n == m->size || (m->body.n == 0 && j->fd >= 0));
    if (good) {
        j->sender = xmemdup0(envelope.sender.p, envelope.sender.n);
        j->body = xmemdup0(m->body.p, m->body.n);
        j->body_len = m->body.n;
    }
    for (uint32_t i = 0; good && i < DELIVER_RECIPIENTS_MAX && rr.rest.n; i++) {
        if (record_get(&rr, &recipient_record, &r))
            break;
        add_task(l, j, i, &r);
    }
    j->waiting--;
    job_progress(j);
    run_tasks(l);
}

static void sync_systems(struct local *l, struct peer *peer, struct ipc_in *in)
{
    struct error err = {0};
    int rc = OK;
    for (size_t i = 0; i < l->nsystems && !rc; i++) {
        if (l->systems[i].dirty)
            rc = store_sync(l->systems[i].fd, &err);
        l->systems[i].dirty &= rc != OK;
    }
    if (rc)
        log_event(
            &l->daemon->log, log_trouble, .what = SLICE_LIT("sync"), .reason = slice_of(err.text));
    struct deliver_synced done = {.code = rc, .text = slice_first(slice_of(err.text), 255)};
    (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_synced_type, &done, -1);
}

void local_message(struct peer *peer, struct ipc_in *in)
{
    struct local *l = peer->daemon->data;
    if (deliver_pong(peer->ipc, in))
        return;
    if (in->type == deliver_sync_type) {
        sync_systems(l, peer, in);
    } else if (in->type == deliver_start_type && !l->daemon->draining) {
        start(l, peer, in);
    } else if (in->type == deliver_report_type) {
        struct deliver_reported no = {
            .code = ERR_UNSUPPORTED, .text = SLICE_LIT("local writes no reports")};
        (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_reported_type, &no, -1);
    }
}

/* Nobody waits for these any more; what runs is finished, what waits is asked for again. */
void local_peer_down(struct peer *peer)
{
    struct local *l = peer->daemon->data;
    LIST_EACH(it, &l->tasks)
    {
        struct task *t = LIST_ENTRY(it, struct task, link);
        struct job *j = t->job;
        if (j->peer != peer)
            continue;
        task_free(t);
        if (--j->waiting == 0)
            job_free(j);
    }
    LIST_EACH(it, &l->jobs)
    {
        struct job *j = LIST_ENTRY(it, struct job, link);
        if (j->peer == peer)
            j->peer = NULL;
    }
}

void local_drain(struct daemon *d)
{
    struct local *l = d->data;
    LIST_EACH(it, &l->tasks)
    list_remove(it); /* unanswered: deferred */
    exit_when_drained(l);
}

unsigned local_sessions(struct daemon *d)
{
    struct local *l = d->data;
    return l->nchildren;
}

void local_children(struct daemon *d, struct buf *out)
{
    struct local *l = d->data;
    LIST_EACH(it, &l->children)
    {
        struct task *t = LIST_ENTRY(it, struct task, link);
        struct master_child row = {.pid = t->pid,
            .uid = t->account.uid,
            .started = t->started,
            .what = slice_of(t->account.name)};
        if (record_put(out, &master_child_record, &row))
            break; /* a page full: enough for a status */
    }
}

void local_free(struct daemon *d)
{
    struct local *l = d->data;
    accounts_close(l->accounts);
    sandbox_filter_free(l->filter);
    free(l->spool);
    for (size_t i = 0; i < l->ntrees; i++)
        free((char *)l->trees[i]);
    for (size_t i = 0; i < l->nsystems; i++)
        fd_close(&l->systems[i].fd);
    free(l);
    d->data = NULL;
}
