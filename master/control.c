#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libutil/proto/ctl.h"
#include "libutil/proto/master.h"
#include "master/master.h"

/* One connection of veredus(1). */
struct client {
    struct master *master;
    struct list link;
    struct ipc *ipc; /* NULL once it has hung up */
    uid_t uid;
    unsigned refs;    /* the connection, and each answer being gathered for it */
    uint32_t stop_id; /* the request to answer when all has stopped */
};

/* A `status` being gathered: every process is asked for its figures. */
struct survey {
    struct client *client;
    uint32_t request;
    unsigned open;
    struct buf rows; /* packed ctl_process */
};

struct survey_row {
    struct survey *survey;
    struct ctl_process row;
    char sandbox[1024];
};

static const char *const state_names[] = {"starting", "running", "draining", "yielding", "waiting"};

static void unref(struct client *c)
{
    if (--c->refs == 0)
        free(c);
}

static void reply(struct client *c, uint32_t id, unsigned type, int code, const char *text, int fd)
{
    struct ctl_result result = {.code = code, .text = slice_of(text)};
    ipc_reply(c->ipc, id, 0, type, &result, fd);
}

static void log_action(struct client *c, const char *verb, struct slice what, const char *result)
{
    log_event(&c->master->log, admin_action, .verb = slice_of(verb), .what = what, .uid = c->uid,
        .result = slice_of(result));
}

/* --- status --------------------------------------------------------------------------------- */

static void survey_finish(struct survey *s)
{
    if (--s->open > 0)
        return;
    if (s->client->ipc) {
        struct ctl_status_page page = {
            .processes = buf_slice(&s->rows), .started = loop_now(s->client->master->loop)};
        ipc_reply(s->client->ipc, s->request, 0, ctl_status_page_type, &page, -1);
    }
    unref(s->client);
    buf_clear(&s->rows);
    free(s);
}

static void add_children(struct survey *s, const struct ctl_process *parent, struct slice packed)
{
    struct reader r = reader_of(packed);
    struct master_child child;
    int64_t now = time(NULL);
    while (r.rest.n && record_get(&r, &master_child_record, &child) == OK) {
        struct ctl_process row = {.role = parent->role,
            .worker = parent->worker,
            .pid = child.pid,
            .uid = child.uid,
            .uptime = MAX(now - child.started, 0),
            .sessions = 1,
            .state = SLICE_LIT("session"),
            .what = child.what};
        if (buf_len(&s->rows) + 512 < s->rows.max &&
            record_put(&s->rows, &ctl_process_record, &row) != OK)
            return;
    }
}

static void figures_arrived(struct ipc_in *in, void *arg)
{
    struct survey_row *row = arg;
    struct survey *s = row->survey;
    const struct master_figures *figures = in ? in->msg : NULL;
    if (figures)
        row->row.sessions = figures->sessions;
    if (record_put(&s->rows, &ctl_process_record, &row->row) == OK && figures)
        add_children(s, &row->row, figures->children);
    free(row);
    survey_finish(s);
}

static struct ctl_process describe(const struct process *p)
{
    return (struct ctl_process){.role = slice_of(role_info(p->role)->program),
        .worker = p->worker,
        .pid = p->pid,
        .uid = p->uid,
        .uptime = p->pid ? (loop_now(p->master->loop) - p->started) / 1000 : 0,
        .restarts = p->restarts,
        .state = slice_of(state_names[p->state])};
}

static void ask_process(struct survey *s, struct process *p)
{
    static const struct master_ask ask;
    struct survey_row *row = NEW(struct survey_row);
    row->survey = s;
    row->row = describe(p);
    snprintf(row->sandbox, sizeof(row->sandbox), "%s", p->sandbox);
    row->row.sandbox = slice_of(row->sandbox);
    s->open++;
    if (p->ipc && p->state != PROCESS_STARTING)
        ipc_call(p->ipc, master_ask_type, 0, &ask, -1, figures_arrived, row);
    else
        figures_arrived(NULL, row);
}

static void do_status(struct client *c, struct ipc_in *in)
{
    struct master *m = c->master;
    struct survey *s = NEW(struct survey);
    struct ctl_process self = {.role = SLICE_LIT("master"),
        .pid = getpid(),
        .uid = geteuid(),
        .uptime = (loop_now(m->loop) - m->started) / 1000,
        .state = SLICE_LIT("running")};
    c->refs++;
    s->client = c;
    s->request = in->id;
    s->open = 1;
    buf_init(&s->rows, 60000);
    if (record_put(&s->rows, &ctl_process_record, &self) != OK)
        buf_reset(&s->rows);
    LIST_EACH(it, &m->processes)
    ask_process(s, LIST_ENTRY(it, struct process, link));
    survey_finish(s);
}

/* --- the other verbs ------------------------------------------------------------------------ */

static void do_stop(struct client *c, struct ipc_in *in)
{
    log_action(c, "stop", SLICE_LIT(""), "ok");
    c->stop_id = in->id;
    process_stop_all(c->master);
}

static void do_reload(struct client *c, struct ipc_in *in)
{
    struct buf text;
    buf_init(&text, 32000);
    int rc = reload(c->master, &text);
    struct ctl_result result = {.code = rc, .text = buf_slice(&text)};
    log_action(c, "reload", SLICE_LIT(""), rc ? "refused" : "ok");
    ipc_reply(c->ipc, in->id, 0, ctl_result_type, &result, -1);
    buf_clear(&text);
}

/* Why nobody can talk to that process now. */
static void explain_absence(struct master *m, enum role role, char out[128])
{
    static const char *const texts[] = {[PROCESS_STARTING] = "that process is starting",
        [PROCESS_RUNNING] = "that process has just been started",
        [PROCESS_DRAINING] = "that process is ending",
        [PROCESS_YIELDING] = "that process gives way to its successor",
        [PROCESS_WAITING] = "that process ended and is being restarted"};
    const struct process *p = process_find(m, role, 0);
    snprintf(out, 128, "%s", p ? texts[p->state] : "no such process runs");
}

static void do_connect(struct client *c, struct ipc_in *in)
{
    const struct ctl_connect *want = in->msg;
    int fd = ERR_DENIED;
    char why[128] = "not offered";
    const struct process *p = NULL;
    if (want->conversation < CONV_COUNT && want->role < ROLE_COUNT) {
        p = process_find(c->master, (enum role)want->role, 0);
        fd = wiring_admit(c->master, want->conversation, want->role, c->uid);
    }
    if (fd == ERR_TEMP)
        explain_absence(c->master, (enum role)want->role, why);
    if (fd >= 0 && process_is_stopped(p)) {
        snprintf(why, sizeof(why), "process %d is stopped by a signal; kill -CONT lets it go on",
            (int)p->pid);
        close(fd);
        fd = ERR_BUSY; /* it will not be back by itself */
    }
    if (fd < 0) {
        reply(c, in->id, ctl_connected_type, fd, why, -1);
        return;
    }
    reply(c, in->id, ctl_connected_type, OK, "", fd);
    close(fd);
}

struct selftest {
    struct client *client;
    uint32_t request;
};

static void selftest_done(struct ipc_in *in, void *arg)
{
    struct selftest t = *(struct selftest *)arg;
    free(arg);
    const struct master_selftested *done = in ? in->msg : NULL;
    struct ctl_result result = {.code = ERR_TEMP, .text = SLICE_LIT("no answer")};
    if (done)
        result = (struct ctl_result){.code = done->failures ? ERR_DENIED : OK, .text = done->text};
    if (t.client->ipc)
        ipc_reply(t.client->ipc, t.request, 0, ctl_result_type, &result, -1);
    unref(t.client);
}

static void do_selftest(struct client *c, struct ipc_in *in)
{
    static const struct master_selftest go;
    const struct ctl_selftest *want = in->msg;
    char program[32];
    int role = slice_to_cstr(want->role, program, sizeof(program)) ? role_find(program) : -1;
    struct process *p = role >= 0 && role < ROLE_COUNT
                            ? process_find(c->master, (enum role)role, want->worker)
                            : NULL;
    if (!p || !p->ipc) {
        reply(c, in->id, ctl_result_type, ERR_NOT_FOUND, "no such process", -1);
        return;
    }
    struct selftest *t = NEW(struct selftest);
    c->refs++;
    *t = (struct selftest){c, in->id};
    ipc_call(p->ipc, master_selftest_type, 0, &go, -1, selftest_done, t);
}

static void (*const verbs[])(struct client *, struct ipc_in *) = {
    [ctl_status_type] = do_status,
    [ctl_stop_type] = do_stop,
    [ctl_reload_type] = do_reload,
    [ctl_connect_type] = do_connect,
    [ctl_selftest_type] = do_selftest,
};

static void on_message(struct ipc *ipc, struct ipc_in *in, void *arg)
{
    (void)ipc;
    if (in->type < ARRAY_LEN(verbs) && verbs[in->type])
        verbs[in->type](arg, in);
}

static void on_close(struct ipc *ipc, const struct error *err, void *arg)
{
    (void)ipc;
    (void)err;
    struct client *c = arg;
    c->ipc = NULL;
    list_remove(&c->link);
    unref(c);
}

static const struct ipc_ops client_ops = {on_message, on_close};

/* --- connections ---------------------------------------------------------------------------- */

static void on_connect(int fd, unsigned events, void *arg)
{
    (void)events;
    struct master *m = arg;
    struct ucred cred;
    socklen_t len = sizeof(cred);
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (sock < 0)
        return;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 ||
        (cred.uid != 0 && cred.uid != geteuid())) {
        close(sock);
        return;
    }
    struct client *c = NEW(struct client);
    c->master = m;
    c->uid = cred.uid;
    c->refs = 1;
    c->ipc = ipc_new(m->loop, sock, &ctl_proto, IPC_SERVER, &client_ops, c);
    list_append(&m->clients, &c->link);
}

int control_open(struct master *m, struct error *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/control", m->run_dir);
    unlinkat(m->run_dir, "control", 0);
    m->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (m->control_fd < 0 || bind(m->control_fd, (struct sockaddr *)&sun, sizeof(sun)) != 0 ||
        fchmodat(m->run_dir, "control", 0600, 0) != 0 || listen(m->control_fd, 64) != 0)
        return error_sys(err, "%s/run/control", m->directory);
    m->control_io = io_new(m->loop, m->control_fd, IO_READ, on_connect, m);
    return OK;
}

void control_close(struct master *m)
{
    LIST_EACH(it, &m->clients)
    {
        struct client *c = LIST_ENTRY(it, struct client, link);
        if (c->stop_id)
            reply(c, c->stop_id, ctl_result_type, OK, "stopped", -1);
        list_remove(it);
        ipc_free(c->ipc);
        c->ipc = NULL;
        unref(c);
    }
    io_free(m->control_io);
    fd_close(&m->control_fd);
    unlinkat(m->run_dir, "control", 0);
}
