#include "delivery/pipe/agent.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "delivery/pipe/events.h"
#include "delivery/pipe/run.h"
#include "libmail/nexthop.h"

enum { MARGIN_MS = 30000 };

struct agent {
    struct delivery delivery;
    char *directory; /* of allowed programs; NULL: any */
    int64_t least_uid;
};

struct task {
    struct delivery_task base;
    struct slice line;
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
        .block = t->rules.block ? conf_arg(t->rules.block, 0) : SLICE_LIT(""),
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
    snprintf(r.text, sizeof(r.text), "%s", text);
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

static void work(struct delivery_task *base, struct buf *answer)
{
    const struct task *t = (struct task *)base;
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
    struct run_result r = {0};
    struct error err = {0};
    if (sandbox_become(base->account.uid, base->account.gid, NULL, &err) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_DUMPABLE, 0)) {
        r.status = DEFERRED;
        snprintf(r.dsn, sizeof(r.dsn), "4.3.0");
        snprintf(r.text, sizeof(r.text), "%.399s", err.text);
    } else {
        run_command(&run, &r);
    }
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

static struct run_rules rules_of(const struct agent *a, const struct conf_block *block)
{
    const struct conf_block *b = conf_one(a->delivery.daemon->conf, "pipe");
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
    if (slice_starts(t->base.to.nexthop, "command:")) {
        block = find_block(a, slice_from_index(t->base.to.nexthop, 8));
        if (!block)
            return "the configuration has no such command block";
        *account = conf_string(block, "user");
    } else {
        nexthop_split(t->base.to.nexthop, account, &command);
        if (!slice_starts(command, "|"))
            return "that is no command";
        t->line = slice_from_index(command, 1);
    }
    t->rules = rules_of(a, block);
    return NULL;
}

static const char *not_allowed(const struct agent *a, const struct task *t)
{
    struct slice chosen = conf_string(conf_one(a->delivery.daemon->conf, "pipe"), "command-user");
    bool configured = t->rules.block || slice_is(chosen, t->base.account.name);
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

void pipe_free(struct daemon *d)
{
    struct agent *a = d->data;
    delivery_clear(&a->delivery);
    free(a->directory);
    free(a);
}
