#include "delivery/pipe/agent.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "delivery/pipe/events.h"
#include "delivery/pipe/run.h"
#include "libmail/nexthop.h"
#include "libutil/proto/master.h"

enum { MARGIN_MS = 30000 };

struct agent {
    struct daemon *daemon;
    struct accounts *accounts;
    char *directory; /* of allowed programs; NULL: any */
    int64_t least_uid;
    struct list jobs, tasks, children;
    unsigned nchildren;
};

/* A deliver_start under way, with copies of what it said. */
struct job {
    struct list link;
    struct peer *peer; /* NULL: gone */
    uint32_t id;
    uint64_t trace;
    struct buf envelope_bytes, recipient_bytes, body;
    struct envelope envelope; /* into envelope_bytes */
    int fd;
    uint64_t size;
    unsigned waiting; /* recipients without outcome */
    struct buf outcomes;
};

/* One recipient of a job. */
struct task {
    struct list link; /* in tasks, then in children */
    struct agent *agent;
    struct job *job;
    uint32_t index;
    struct recipient to; /* into the job's bytes */
    struct slice line;
    struct run_rules rules;
    struct account account;
    pid_t pid;
    int result; /* our end of the socket pair */
    int64_t started, begun;
    struct timer limit;
};

static void run_tasks(struct agent *);

static void exit_when_drained(struct agent *a)
{
    if (a->daemon->draining && a->nchildren == 0)
        daemon_exit(a->daemon);
}

/* --- outcomes -------------------------------------------------------------------------------- */

static void job_free(struct job *j)
{
    list_remove(&j->link);
    fd_close(&j->fd);
    buf_clear(&j->outcomes);
    buf_clear(&j->envelope_bytes);
    buf_clear(&j->recipient_bytes);
    buf_clear(&j->body);
    free(j);
}

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
    free(t);
}

static void conclude(struct task *t, const struct run_result *r)
{
    static const char *const results[] = {"delivered", "deferred", "failed"};
    struct job *j = t->job;
    struct log log;
    struct outcome o = {
        .index = t->index, .status = r->status, .dsn = slice_of(r->dsn), .text = slice_of(r->text)};
    log_set_id(&log, &t->agent->daemon->log, "qid", j->trace);
    log_event(&log, pipe_run, .to = t->to.address, .account = slice_of(t->account.name),
        .block = t->rules.block ? conf_arg(t->rules.block, 0) : SLICE_LIT(""),
        .result = slice_of(results[r->status]), .status = r->exit_status, .signal = r->signal,
        .ms = t->begun ? loop_now(t->agent->daemon->loop) - t->begun : 0,
        .reason = slice_of(r->text));
    /* One that does not fit is missing, which means deferred. */
    if (record_put(&j->outcomes, &outcome_record, &o))
        j->outcomes.failed = false;
    j->waiting--;
    task_free(t);
    job_progress(j);
}

static void refuse(struct task *t, enum deliver_status status, const char *dsn, const char *text)
{
    struct run_result r = {.status = status};
    snprintf(r.dsn, sizeof(r.dsn), "%s", dsn);
    snprintf(r.text, sizeof(r.text), "%s", text);
    conclude(t, &r);
}

/* --- children -------------------------------------------------------------------------------- */

static _Noreturn void child(const struct task *t)
{
    const struct job *j = t->job;
    struct run run = {.account = &t->account,
        .rules = t->rules,
        .line = t->line,
        .sender = j->envelope.sender,
        .address = t->to.address,
        .original = t->to.original,
        .via = t->to.via,
        .client = j->envelope.client,
        .helo = j->envelope.helo,
        .body = buf_slice(&j->body),
        .fd = j->fd,
        .size = j->size};
    struct run_result r = {0};
    struct error err = {0};
    sigset_t none;
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
        if (fd != t->result && fd != j->fd)
            close(fd);
    close_range(1024, ~0U, 0);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(077);
    if (sandbox_become(t->account.uid, t->account.gid, NULL, &err) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_DUMPABLE, 0)) {
        r.status = DEFERRED;
        snprintf(r.dsn, sizeof(r.dsn), "4.3.0");
        snprintf(r.text, sizeof(r.text), "%.399s", err.text);
    } else {
        run_command(&run, &r);
    }
    ssize_t n = send(t->result, &r, sizeof(r), MSG_NOSIGNAL);
    _exit(n == (ssize_t)sizeof(r) ? 0 : 1);
}

static void too_late(void *arg)
{
    struct task *t = arg;
    kill(t->pid, SIGKILL);
}

static void spawn(struct agent *a, struct task *t)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        refuse(t, DEFERRED, "4.3.0", "no socket for a delivery process");
        return;
    }
    t->pid = fork();
    if (t->pid == 0) {
        t->result = pair[1];
        child(t);
    }
    fd_close(&pair[1]);
    t->result = pair[0];
    if (t->pid < 0) {
        refuse(t, DEFERRED, "4.3.0", "no process for the delivery");
        return;
    }
    list_append(&a->children, &t->link);
    a->nchildren++;
    t->started = time(NULL);
    t->begun = loop_now(a->daemon->loop);
    timer_init(&t->limit, a->daemon->loop, too_late, t);
    timer_start(&t->limit, t->rules.timeout_ms + MARGIN_MS);
}

/* One account's commands must not keep those of others waiting. */
static bool has_room(const struct agent *a, uid_t uid)
{
    unsigned n = 0;
    LIST_EACH(it, &a->children)
    n += LIST_ENTRY(it, struct task, link)->account.uid == uid;
    return n < PIPE_CHILDREN_EACH;
}

static void run_tasks(struct agent *a)
{
    LIST_EACH(it, &a->tasks)
    {
        struct task *t = LIST_ENTRY(it, struct task, link);
        if (a->nchildren >= PIPE_CHILDREN_MAX)
            return;
        if (!has_room(a, t->account.uid))
            continue;
        list_remove(&t->link);
        spawn(a, t);
    }
}

static void child_ended(struct task *t)
{
    struct run_result r;
    ssize_t n = recv(t->result, &r, sizeof(r), MSG_DONTWAIT);
    timer_stop(&t->limit); /* the process id may be another's from now on */
    list_remove(&t->link);
    if (n != (ssize_t)sizeof(r) || r.status > FAILED) {
        refuse(t, DEFERRED, "4.3.0", "the delivery process ended without a result");
        return;
    }
    r.dsn[sizeof(r.dsn) - 1] = r.text[sizeof(r.text) - 1] = '\0';
    conclude(t, &r);
}

static void on_child(int signo, void *arg)
{
    struct agent *a = arg;
    pid_t pid;
    (void)signo;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        LIST_EACH(it, &a->children)
        {
            struct task *t = LIST_ENTRY(it, struct task, link);
            if (t->pid != pid)
                continue;
            a->nchildren--;
            child_ended(t);
            break;
        }
    }
    run_tasks(a);
    exit_when_drained(a);
}

/* --- requests -------------------------------------------------------------------------------- */

static const struct conf_block *find_block(const struct agent *a, struct slice name)
{
    const struct conf_block *b = NULL;
    while ((b = conf_next(conf_root(a->daemon->conf), "command", b)) != NULL)
        if (slice_eq(conf_arg(b, 0), name))
            return b;
    return NULL;
}

static struct run_rules rules_of(const struct agent *a, const struct conf_block *block)
{
    const struct conf_block *b = conf_one(a->daemon->conf, "pipe");
    struct run_rules r = {.block = block,
        .directory = a->directory,
        .timeout_ms = conf_int(b, "timeout"),
        .cpu_s = (uint64_t)(conf_int(b, "cpu-time") / 1000),
        .memory = (uint64_t)conf_int(b, "memory"),
        .file_size = (uint64_t)conf_int(b, "file-size"),
        .processes = (uint64_t)conf_int(b, "processes"),
        .from_line = conf_bool(b, "from-line")};
    if (block)
        r.from_line = conf_bool(block, "from-line");
    return r;
}

/* What is to be run, and as whom. NULL: it may be; else why not. */
static const char *find_command(struct agent *a, struct task *t, struct slice *account)
{
    struct slice command;
    const struct conf_block *block = NULL;
    if (slice_starts(t->to.nexthop, "command:")) {
        block = find_block(a, slice_from_index(t->to.nexthop, 8));
        if (!block)
            return "the configuration has no such command block";
        *account = conf_string(block, "user");
    } else {
        nexthop_split(t->to.nexthop, account, &command);
        if (!slice_starts(command, "|"))
            return "that is no command";
        t->line = slice_from_index(command, 1);
    }
    t->rules = rules_of(a, block);
    return NULL;
}

static const char *not_allowed(const struct agent *a, const struct task *t)
{
    struct slice chosen = conf_string(conf_one(a->daemon->conf, "pipe"), "command-user");
    bool configured = t->rules.block || slice_is(chosen, t->account.name);
    if (t->account.uid == 0 || t->account.gid == 0 ||
        slice_starts(slice_of(t->account.name), "veredus"))
        return "commands are run neither as root nor as accounts of this system";
    if (!configured && (int64_t)t->account.uid < a->least_uid)
        return "the account's user id is below local min-uid";
    if (a->daemon->rootless && t->account.uid != geteuid())
        return "started without root: only commands of the account that runs this can be run";
    return NULL;
}

static void add_task(struct agent *a, struct job *j, uint32_t index, const struct recipient *to)
{
    struct error err = {0};
    struct slice account = SLICE_LIT("");
    struct task *t = NEW(struct task);
    t->agent = a;
    t->job = j;
    t->index = index;
    t->to = *to;
    t->result = -1;
    timer_init(&t->limit, a->daemon->loop, too_late, t);
    list_init(&t->link);
    j->waiting++;
    if (slice_is(to->nexthop, "discard:")) {
        refuse(t, DELIVERED, "2.0.0", "thrown away, as the alias says");
        return;
    }
    const char *why = find_command(a, t, &account);
    int rc = why ? OK : accounts_find(a->accounts, account, &t->account, &err);
    if (!why && !rc)
        why = not_allowed(a, t);
    if (why || rc)
        refuse(t, DEFERRED, "4.3.5", why ? why : "the account that is to run it is not there");
    else
        list_append(&a->tasks, &t->link);
}

static bool copy(struct buf *into, struct slice bytes)
{
    buf_init(into, MAX(bytes.n, (size_t)1));
    return buf_put(into, bytes) == OK;
}

static void start(struct agent *a, struct peer *peer, struct ipc_in *in)
{
    const struct deliver_start *m = in->msg;
    struct recipient to;
    struct job *j = NEW(struct job);
    *j =
        (struct job){.peer = peer, .id = in->id, .trace = in->trace, .size = m->size, .fd = in->fd};
    in->fd = -1;
    buf_init(&j->outcomes, 60000);
    list_append(&a->jobs, &j->link);
    j->waiting = 1; /* no answer before all tasks are there */
    bool good = copy(&j->envelope_bytes, m->envelope) & copy(&j->recipient_bytes, m->recipients) &
                copy(&j->body, m->body);
    struct reader er = reader_of(buf_slice(&j->envelope_bytes));
    struct reader rr = reader_of(buf_slice(&j->recipient_bytes));
    good = good && record_get(&er, &envelope_record, &j->envelope) == OK &&
           (m->body.n == m->size || (m->body.n == 0 && j->fd >= 0));
    for (uint32_t i = 0; good && i < DELIVER_RECIPIENTS_MAX && rr.rest.n; i++) {
        if (record_get(&rr, &recipient_record, &to))
            break;
        add_task(a, j, i, &to);
    }
    j->waiting--;
    job_progress(j);
    run_tasks(a);
}

void pipe_message(struct peer *peer, struct ipc_in *in)
{
    struct agent *a = peer->daemon->data;
    if (deliver_pong(peer->ipc, in))
        return;
    if (in->type == deliver_start_type && !a->daemon->draining) {
        start(a, peer, in);
    } else if (in->type == deliver_sync_type) {
        struct deliver_synced done = {.code = OK};
        (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_synced_type, &done, -1);
    } else if (in->type == deliver_report_type) {
        struct deliver_reported no = {
            .code = ERR_UNSUPPORTED, .text = SLICE_LIT("pipe writes no reports")};
        (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_reported_type, &no, -1);
    }
}

/* Nobody waits for these any more; what runs is finished, what waits is asked for again. */
void pipe_peer_down(struct peer *peer)
{
    struct agent *a = peer->daemon->data;
    LIST_EACH(it, &a->tasks)
    {
        struct task *t = LIST_ENTRY(it, struct task, link);
        struct job *j = t->job;
        if (j->peer != peer)
            continue;
        task_free(t);
        if (--j->waiting == 0)
            job_free(j);
    }
    LIST_EACH(it, &a->jobs)
    {
        struct job *j = LIST_ENTRY(it, struct job, link);
        if (j->peer == peer)
            j->peer = NULL;
    }
}

/* --- life ------------------------------------------------------------------------------------ */

int pipe_configure(struct daemon *d, struct error *err)
{
    struct agent *a = NEW(struct agent);
    struct slice directory = conf_string(conf_one(d->conf, "pipe"), "commands");
    a->daemon = d;
    list_init(&a->jobs);
    list_init(&a->tasks);
    list_init(&a->children);
    d->data = a;
    if (directory.n)
        a->directory = xmemdup0(directory.p, directory.n);
    a->least_uid = conf_int(conf_one(d->conf, "local"), "min-uid");
    a->accounts = accounts_open("/etc", err);
    return a->accounts ? OK : ERR_IO;
}

int pipe_start(struct daemon *d, struct error *err)
{
    (void)err;
    loop_signal(d->loop, SIGCHLD, on_child, d->data);
    return OK;
}

void pipe_drain(struct daemon *d)
{
    struct agent *a = d->data;
    LIST_EACH(it, &a->tasks)
    list_remove(it); /* unanswered: deferred */
    exit_when_drained(a);
}

unsigned pipe_sessions(struct daemon *d)
{
    struct agent *a = d->data;
    return a->nchildren;
}

void pipe_children(struct daemon *d, struct buf *out)
{
    struct agent *a = d->data;
    LIST_EACH(it, &a->children)
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

void pipe_free(struct daemon *d)
{
    struct agent *a = d->data;
    accounts_close(a->accounts);
    free(a->directory);
    free(a);
    d->data = NULL;
}
