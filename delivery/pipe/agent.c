#include "delivery/pipe/agent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "delivery/pipe/events.h"
#include "delivery/pipe/run.h"
#include "libmail/nexthop.h"
#include "libstore/mbox_deliver.h"

enum { MARGIN_MS = 30000 };

struct agent {
    struct delivery delivery;
    char *directory; /* of allowed programs; NULL: any */
    int64_t least_uid;
};

struct task {
    struct delivery_task base;
    struct slice line, file; /* one of them, or a block in rules */
    struct run_rules rules;
};

static struct agent *agent_of(const struct task *t)
{
    return (struct agent *)t->base.agent;
}

/* --- outcomes -------------------------------------------------------------------------------- */

static void conclude(struct task *t, const struct run_result *r)
{
    static const char *const results[] = {"delivered", "deferred", "failed"};
    const struct daemon *d = t->base.agent->daemon;
    struct log log;
    struct outcome o = {.status = r->status, .dsn = slice_of(r->dsn), .text = slice_of(r->text)};
    log_set_id(&log, &d->log, "qid", t->base.job->trace);
    log_event(&log, pipe_run, .to = t->base.to.address, .account = slice_of(t->base.account.name),
        .block = t->rules.block ? conf_arg(t->rules.block, 0) : SLICE_LIT(""), .file = t->file,
        .result = slice_of(results[r->status]), .status = r->exit_status, .signal = r->signal,
        .ms = t->base.child.begun ? loop_now(d->loop) - t->base.child.begun : 0,
        .reason = slice_of(r->text));
    delivery_conclude(&t->base, &o);
}

static void refuse(struct delivery_task *base, enum deliver_status status, const char *dsn,
    const char *rule, const char *text)
{
    struct run_result r = {.status = status};
    (void)rule;
    snprintf(r.dsn, sizeof(r.dsn), "%s", dsn);
    snprintf(r.text, sizeof(r.text), "%.399s", text);
    conclude((struct task *)base, &r);
}

static void ended(struct delivery_task *base, struct slice answer)
{
    struct run_result r = {.status = FAILED + 1};
    if (answer.n == sizeof(r))
        memcpy(&r, answer.p, sizeof(r));
    if (r.status > FAILED) {
        refuse(base, DEFERRED, "4.3.0", "child", "the delivery process ended without a result");
        return;
    }
    r.dsn[sizeof(r.dsn) - 1] = r.text[sizeof(r.text) - 1] = '\0';
    conclude((struct task *)base, &r);
}

/* --- the child ------------------------------------------------------------------------------- */

static void say(struct run_result *r, enum deliver_status status, const char *dsn, const char *text)
{
    r->status = status;
    snprintf(r->dsn, sizeof(r->dsn), "%s", dsn);
    snprintf(r->text, sizeof(r->text), "%.399s", text);
}

/* A file or Maildir that an alias names: no link on the way to it is followed. */
static void append(const struct task *t, struct run_result *r)
{
    const struct delivery_task *base = &t->base;
    const struct store_delivery d = {.id = delivery_id(base),
        .sender = base->job->envelope.sender,
        .address = base->to.address,
        .original = base->to.original,
        .via = base->to.via,
        .body = buf_slice(&base->job->body),
        .fd = base->job->fd,
        .size = base->job->size};
    struct error err = {0};
    char path[1024];
    bool again = false;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), rc = ERR_DENIED;
    struct slice below = t->file;
    while (slice_starts(below, "/"))
        below = slice_from_index(below, 1);
    signal(SIGXFSZ, SIG_IGN);
    if (root < 0 || !slice_to_cstr(below, path, sizeof(path)))
        error_set(&err, rc, "the file has no name that can be used");
    else
        rc = path_deliver(root, path, &d, &again, &err);
    fd_close(&root);
    if (rc)
        say(r, DEFERRED, err.code == ERR_NO_SPACE ? "4.3.1" : "4.2.0", err.text);
    else
        say(r, DELIVERED, "2.0.0",
            again ? "delivered to a file (by an attempt before)" : "delivered to a file");
}

static void run(const struct task *t, struct run_result *r)
{
    const struct delivery_task *base = &t->base;
    const struct delivery_job *j = base->job;
    struct run run = {.account = &base->account,
        .rules = t->rules,
        .line = t->line,
        .sender = j->envelope.sender,
        .address = base->to.address,
        .original = base->to.original,
        .via = base->to.via,
        .client = j->envelope.client,
        .helo = j->envelope.helo,
        .body = buf_slice(&j->body),
        .fd = j->fd,
        .size = j->size};
    run_command(&run, r);
}

static void work(struct delivery_task *base, struct buf *answer)
{
    const struct task *t = (struct task *)base;
    struct run_result r = {0};
    struct error err = {0};
    if (sandbox_become(base->account.uid, base->account.gid, NULL, &err) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_DUMPABLE, 0))
        say(&r, DEFERRED, "4.3.0", err.text);
    else if (t->file.n)
        append(t, &r);
    else
        run(t, &r);
    buf_put(answer, slice_from(&r, sizeof(r)));
}

/* --- requests -------------------------------------------------------------------------------- */

static const struct conf_block *find_block(const struct agent *a, struct slice name)
{
    const struct conf_block *b = NULL;
    while ((b = conf_next(conf_root(a->delivery.daemon->conf), "command", b)) != NULL)
        if (slice_eq(conf_arg(b, 0), name))
            return b;
    return NULL;
}

/* A block's own limits, and where it sets none, those of `pipe`. */
static int64_t rule(const struct agent *a, const struct conf_block *block, const char *key)
{
    bool own = block && conf_isset(block, key);
    return conf_int(own ? block : conf_one(a->delivery.daemon->conf, "pipe"), key);
}

static struct run_rules rules_of(const struct agent *a, const struct conf_block *block)
{
    return (struct run_rules){.block = block,
        .directory = a->directory,
        .timeout_ms = rule(a, block, "timeout"),
        .cpu_s = (uint64_t)(rule(a, block, "cpu-time") / 1000),
        .memory = (uint64_t)rule(a, block, "memory"),
        .file_size = (uint64_t)rule(a, block, "file-size"),
        .processes = (uint64_t)rule(a, block, "processes"),
        .output = (uint64_t)rule(a, block, "output"),
        .from_line =
            conf_bool(block ? block : conf_one(a->delivery.daemon->conf, "pipe"), "from-line")};
}

/* What is to be run, and as whom. NULL: it may be; else why not. */
static const char *find_command(struct agent *a, struct task *t, struct slice *account)
{
    struct slice command;
    const struct conf_block *block = NULL;
    if (slice_starts(t->base.to.nexthop, "command:")) {
        block = find_block(a, slice_from_index(t->base.to.nexthop, 8));
        if (!block)
            return "the configuration has no such command block";
        *account = conf_string(block, "user");
    } else {
        nexthop_split(t->base.to.nexthop, account, &command);
        if (slice_starts(command, "|"))
            t->line = slice_from_index(command, 1);
        else if (slice_starts(command, "/"))
            t->file = command;
        else
            return "that is neither a command nor a file";
    }
    t->rules = rules_of(a, block);
    return NULL;
}

static const char *not_allowed(const struct agent *a, struct task *t)
{
    struct slice chosen = conf_string(conf_one(a->delivery.daemon->conf, "pipe"), "command-user");
    bool configured = t->rules.block || slice_is(chosen, t->base.account.name);
    t->rules.homeless = configured;
    if (t->base.account.uid == 0 || t->base.account.gid == 0 ||
        slice_starts(slice_of(t->base.account.name), "veredus"))
        return "commands are run neither as root nor as accounts of this system";
    if (!configured && (int64_t)t->base.account.uid < a->least_uid)
        return "the account's user id is below local min-uid";
    if (a->delivery.daemon->rootless && t->base.account.uid != geteuid())
        return "started without root: only commands of the account that runs this can be run";
    return NULL;
}

static bool admit(struct delivery_task *base)
{
    struct task *t = (struct task *)base;
    struct agent *a = agent_of(t);
    struct error err = {0};
    struct slice account = SLICE_LIT("");
    if (slice_is(base->to.nexthop, "discard:")) {
        refuse(base, DELIVERED, "2.0.0", "", "thrown away, as the alias says");
        return false;
    }
    const char *why = find_command(a, t, &account);
    if (!why && accounts_find(a->delivery.accounts, account, &base->account, &err))
        why = "the account that is to run it is not there";
    if (!why)
        why = not_allowed(a, t);
    if (why) {
        refuse(base, DEFERRED, "4.3.5", "", why);
        return false;
    }
    base->limit_ms = t->rules.timeout_ms + MARGIN_MS;
    return true;
}

/* --- life ------------------------------------------------------------------------------------ */

static const struct delivery_kind kind = {.name = "pipe",
    .task_size = sizeof(struct task),
    .answer_max = sizeof(struct run_result),
    .admit = admit,
    .work = work,
    .ended = ended,
    .refuse = refuse};

int pipe_configure(struct daemon *d, struct error *err)
{
    struct agent *a = NEW(struct agent);
    struct slice directory = conf_string(conf_one(d->conf, "pipe"), "commands");
    if (directory.n)
        a->directory = xmemdup0(directory.p, directory.n);
    a->least_uid = conf_int(conf_one(d->conf, "local"), "min-uid");
    return delivery_configure(d, &a->delivery, &kind, err);
}
