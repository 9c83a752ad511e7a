#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libutil/proto/master.h"
#include "libutil/sandbox.h"
#include "libutil/version.h"
#include "master/master.h"
#include "master/spawn.h"

enum {
    STABLE_MS = 10000,      /* who lived this long starts with a clean record */
    BACKOFF_FIRST_MS = 100, /* after the second quick death; the first restart is at once */
    BACKOFF_MAX_MS = 60000,
    LOOP_DEATHS = 5,
    STOP_FRONT_MS = 3000, /* sessions under way may finish that long at a stop */
    STOP_MS = 10000,
    STOP_RANKS = 4,
    WORKERS_MAX = 16
};

static struct slice program_of(const struct process *p)
{
    return slice_of(role_info(p->role)->program);
}

static bool has_listener(const struct conf *conf, const char *protocol)
{
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(conf), "listen", b));)
        if (slice_is(conf_string(b, "protocol"), protocol))
            return true;
    return false;
}

unsigned process_count(const struct conf *conf, enum role role)
{
    if ((role == ROLE_IMAP_LOGIN || role == ROLE_IMAP_SESSION) && !has_listener(conf, "imap"))
        return 0;
    if ((role == ROLE_POP3_LOGIN || role == ROLE_POP3_SESSION) && !has_listener(conf, "pop3"))
        return 0;
    if (role_info(role)->workers)
        return role_info(role)->workers;
    const struct conf_block *workers = conf_one(conf, "workers");
    int64_t wanted = conf_int(workers, role_info(role)->program);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return (unsigned)MIN(wanted ? wanted : MAX(cores, 1), WORKERS_MAX);
}

struct process *process_find(struct master *m, enum role role, unsigned worker)
{
    LIST_EACH(it, &m->processes)
    {
        struct process *p = LIST_ENTRY(it, struct process, link);
        if (p->role == role && p->worker == worker && p->state != PROCESS_DRAINING)
            return p;
    }
    return NULL;
}

static void discard(struct process *p)
{
    timer_stop(&p->timer);
    ipc_free(p->ipc);
    list_remove(&p->link);
    free(p);
}

/* --- start ---------------------------------------------------------------------------------- */

/* The last step of a start: everything runs. */
static void check_all_ready(struct master *m)
{
    if (m->ready_fd < 0 || m->stopping)
        return;
    LIST_EACH(it, &m->processes)
    if (LIST_ENTRY(it, struct process, link)->state != PROCESS_RUNNING)
        return;
    LIST_EACH(it, &m->sockets)
    {
        struct listen_socket *s = LIST_ENTRY(it, struct listen_socket, link);
        log_event(
            &m->log, master_socket, .name = slice_of(s->name), .address = slice_of(s->address));
    }
    log_event(
        &m->log, master_up, .what = slice_of(m->conf_path), .version = SLICE_LIT(VEREDUS_VERSION));
    instance_report(m, "ok");
}

/* One process says of another, which works for it, that it hangs. */
static void take_hung(struct process *by, const struct master_hung *m)
{
    bool known = m->role < ROLE_COUNT && wiring_serves(by->role, (enum role)m->role);
    struct process *p = known ? process_find(by->master, (enum role)m->role, m->worker) : NULL;
    if (!p || p->pid <= 0 || p->state != PROCESS_RUNNING)
        return;
    log_event(&by->master->log, process_hung, .role = program_of(p), .worker = p->worker,
        .pid = p->pid, .reason = m->reason);
    kill(p->pid, SIGKILL);
}

static void on_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    struct process *p = arg;
    if (in->type == master_ready_type && p->state == PROCESS_STARTING) {
        const struct master_ready *ready = in->msg;
        p->state = PROCESS_RUNNING;
        if (!slice_to_cstr(ready->sandbox, p->sandbox, sizeof(p->sandbox)))
            p->sandbox[0] = '\0';
        check_all_ready(p->master);
    } else if (in->type == master_failed_type) {
        const struct master_failed *failed = in->msg;
        if (!slice_to_cstr(failed->text, p->failure, sizeof(p->failure)))
            p->failure[0] = '\0';
    } else if (in->type == master_hung_type) {
        take_hung(p, in->msg);
    }
}

static void on_close(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc;
    struct process *p = arg;
    p->ipc = NULL;
    if (err->code != ERR_CLOSED && p->pid > 0) /* it broke the rules of the conversation */
        kill(p->pid, SIGKILL);
}

static const struct ipc_ops process_ops = {on_message, on_close};

static void restart(void *arg);
static void stop_next(struct master *m);

static void start(struct process *p)
{
    struct master *m = p->master;
    struct error err;
    int fd;
    timer_init(&p->timer, m->loop, restart, p);
    pid_t pid = spawn_program(m, p->role, &fd, &err);
    if (pid < 0) {
        log_event(&m->log, log_trouble, .what = program_of(p), .reason = slice_of(err.text));
        p->state = PROCESS_WAITING;
        timer_start(&p->timer, BACKOFF_MAX_MS);
        return;
    }
    p->pid = pid;
    p->state = PROCESS_STARTING;
    p->started = loop_now(m->loop);
    p->failure[0] = '\0';
    p->ipc = ipc_new(m->loop, fd, &master_proto, IPC_SERVER, &process_ops, p);
    spawn_configure(p);
    log_event(&m->log, process_started, .role = program_of(p), .worker = p->worker, .pid = p->pid,
        .restarts = p->restarts);
}

bool process_is_stopped(const struct process *p)
{
    siginfo_t info = {0};
    return p && p->pid > 0 &&
           waitid(P_PID, (id_t)p->pid, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0;
}

void process_go(struct process *p)
{
    static const struct master_go go;
    if (p->ipc)
        ipc_send(p->ipc, master_go_type, 0, &go, -1);
}

static void restart(void *arg)
{
    struct process *p = arg;
    start(p);
    if (p->state != PROCESS_STARTING)
        return;
    wiring_connect(p);
    process_go(p);
}

struct process *process_add(struct master *m, enum role role, unsigned worker)
{
    struct process *p = NEW(struct process);
    gid_t gid;
    p->master = m;
    p->role = role;
    p->worker = worker;
    p->uid = geteuid();
    if (!m->rootless && sandbox_account(role_info(role)->account, &p->uid, &gid, NULL) != OK)
        p->uid = 0;
    list_append(&m->processes, &p->link);
    start(p);
    return p;
}

void process_start_all(struct master *m)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        unsigned n = process_count(m->conf, (enum role)role);
        for (unsigned worker = 0; worker < n; worker++)
            wiring_connect(process_add(m, (enum role)role, worker));
    }
    LIST_EACH(it, &m->processes)
    process_go(LIST_ENTRY(it, struct process, link));
}

/* --- death ---------------------------------------------------------------------------------- */

static void describe(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "killed by signal %d (%s)%s", WTERMSIG(status),
            strsignal(WTERMSIG(status)),
            WTERMSIG(status) == SIGSYS ? ": a system call outside its sandbox" : "");
    else
        snprintf(out, size, "exit status %d", WEXITSTATUS(status));
}

/* At the first start nothing may fail: report it and take everything down. */
static void refuse_start(struct process *p, const char *reason)
{
    struct master *m = p->master;
    char text[700];
    snprintf(text, sizeof(text), "%s: %s", role_info(p->role)->program,
        p->failure[0] ? p->failure : reason);
    instance_report(m, text);
    discard(p);
    process_stop_all(m);
}

static int64_t backoff(const struct process *p)
{
    if (p->quick_deaths <= 1)
        return 0;
    unsigned doublings = MIN(p->quick_deaths - 2, 10u);
    return MIN((int64_t)BACKOFF_FIRST_MS << doublings, (int64_t)BACKOFF_MAX_MS);
}

static void schedule_restart(struct process *p, const char *reason)
{
    struct master *m = p->master;
    bool quick = loop_now(m->loop) - p->started < STABLE_MS;
    struct slice why = slice_of(p->failure[0] ? p->failure : reason);
    p->quick_deaths = quick ? p->quick_deaths + 1 : 0;
    p->restarts++;
    p->state = PROCESS_WAITING;
    log_event(&m->log, process_died, .role = program_of(p), .worker = p->worker, .pid = p->pid,
        .wait_ms = backoff(p), .reason = why);
    if (p->quick_deaths == LOOP_DEATHS)
        log_event(&m->log, process_loop, .role = program_of(p), .worker = p->worker,
            .restarts = p->restarts, .reason = why);
    p->pid = 0;
    timer_init(&p->timer, m->loop, restart, p);
    timer_start(&p->timer, backoff(p));
}

static void died(struct process *p, int status)
{
    struct master *m = p->master;
    char reason[128];
    describe(status, reason, sizeof(reason));
    ipc_free(p->ipc);
    p->ipc = NULL;
    timer_stop(&p->timer);
    if (p->state == PROCESS_DRAINING || m->stopping)
        discard(p);
    else if (p->state == PROCESS_YIELDING)
        restart(p);
    else if (m->ready_fd >= 0)
        refuse_start(p, reason);
    else
        schedule_restart(p, reason);
    if (m->stopping)
        stop_next(m);
}

static struct process *find_pid(struct master *m, pid_t pid)
{
    LIST_EACH(it, &m->processes)
    {
        struct process *p = LIST_ENTRY(it, struct process, link);
        if (p->pid == pid)
            return p;
    }
    return NULL;
}

void process_reap(struct master *m)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct process *p = find_pid(m, pid);
        if (p)
            died(p, status);
    }
}

static void drain_over(void *arg)
{
    struct process *p = arg;
    log_event(
        &p->master->log, process_killed, .role = program_of(p), .worker = p->worker, .pid = p->pid);
    kill(p->pid, SIGKILL);
}

static void ask_to_finish(struct process *p, enum process_state state, int64_t limit_ms)
{
    static const struct master_drain drain;
    p->state = state;
    if (p->ipc)
        ipc_send(p->ipc, master_drain_type, 0, &drain, -1);
    timer_stop(&p->timer);
    timer_init(&p->timer, p->master->loop, drain_over, p);
    timer_start(&p->timer, limit_ms);
}

void process_drain(struct process *p, int64_t limit_ms)
{
    if (p->pid == 0)
        discard(p);
    else if (p->state != PROCESS_DRAINING)
        ask_to_finish(p, PROCESS_DRAINING, limit_ms);
}

void process_yield(struct process *p)
{
    if (p->pid != 0 && p->state != PROCESS_DRAINING)
        ask_to_finish(p, PROCESS_YIELDING, STOP_MS);
}

/* Fronts first, so that nothing new comes in, with the sessions behind them, which say goodbye;
 * then qmgr, which waits for its agents to finish and sync what they were given; logd last, so that
 * the end is told. */
static int stop_rank(enum role role)
{
    switch (role) {
    case ROLE_SMTPD:
    case ROLE_IMAP_LOGIN:
    case ROLE_POP3_LOGIN:
    case ROLE_IMAP_SESSION:
    case ROLE_POP3_SESSION:
        return 0;
    case ROLE_QMGR:
        return 1;
    case ROLE_LOGD:
        return STOP_RANKS - 1;
    default:
        return STOP_RANKS - 2;
    }
}

static bool any_of_rank(struct master *m, int rank)
{
    LIST_EACH(it, &m->processes)
    if (stop_rank(LIST_ENTRY(it, struct process, link)->role) == rank)
        return true;
    return false;
}

/* Drains the lowest rank that is left. */
static void stop_next(struct master *m)
{
    int rank = 0;
    while (rank < STOP_RANKS - 1 && !any_of_rank(m, rank))
        rank++;
    LIST_EACH(it, &m->processes)
    {
        struct process *p = LIST_ENTRY(it, struct process, link);
        if (stop_rank(p->role) == rank)
            process_drain(p, rank == 0 ? STOP_FRONT_MS : STOP_MS);
    }
    if (list_empty(&m->processes))
        loop_stop(m->loop);
}

void process_stop_all(struct master *m)
{
    if (!m->stopping)
        log_event(&m->log, master_stop);
    m->stopping = true;
    listen_close_all(m);
    stop_next(m);
}
