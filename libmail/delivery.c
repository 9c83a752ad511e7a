#include "libmail/delivery.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OUTCOMES_MAX = 60000 };

/* --- outcomes -------------------------------------------------------------------------------- */

static void job_free(struct delivery_job *j)
{
    list_remove(&j->link);
    fd_close(&j->fd);
    buf_clear(&j->outcomes);
    buf_clear(&j->envelope_bytes);
    buf_clear(&j->recipient_bytes);
    buf_clear(&j->body);
    free(j);
}

/* Answers when the last recipient is through. */
static void job_progress(struct delivery_job *j)
{
    if (j->waiting)
        return;
    struct deliver_done done = {.outcomes = buf_slice(&j->outcomes)};
    if (j->peer)
        (void)!ipc_reply(j->peer->ipc, j->id, j->trace, deliver_done_type, &done, -1);
    job_free(j);
}

static void task_free(struct delivery_task *t)
{
    list_remove(&t->link);
    fd_close(&t->child.fd);
    free(t);
}

void delivery_conclude(struct delivery_task *t, struct outcome *o)
{
    struct delivery_job *j = t->job;
    o->index = t->index;
    /* One that does not fit is missing, which means deferred. */
    if (record_put(&j->outcomes, &outcome_record, o))
        j->outcomes.failed = false;
    j->waiting--;
    task_free(t);
    job_progress(j);
}

/* --- children -------------------------------------------------------------------------------- */

static _Noreturn void run_child(struct delivery_task *t)
{
    int keep[] = {t->child.fd, t->job->fd, log_fd()};
    struct buf answer;
    child_reset(keep, ARRAY_LEN(keep));
    buf_init(&answer, t->agent->kind->answer_max);
    t->agent->kind->work(t, &answer);
    struct slice s = buf_slice(&answer);
    ssize_t n = answer.failed ? -1 : send(t->child.fd, s.p, s.n, MSG_NOSIGNAL);
    _exit(n == (ssize_t)s.n ? 0 : 1);
}

static void child_ended(struct child *c, int status)
{
    struct delivery_task *t = CONTAINER_OF(c, struct delivery_task, child);
    const struct delivery_kind *kind = t->agent->kind;
    (void)status;
    t->agent->running--;
    char *answer = xcalloc(1, kind->answer_max);
    ssize_t n = recv(c->fd, answer, kind->answer_max, MSG_DONTWAIT);
    if (n <= 0 && c->late)
        kind->refuse(t, DEFERRED, "4.3.0", "time", "the delivery took too long");
    else
        kind->ended(t, slice_from(answer, n > 0 ? (size_t)n : 0));
    free(answer);
}

/* An account whose locks or home keep its deliveries waiting must not hold up the others. */
static void run_tasks(void *arg)
{
    struct delivery *a = arg;
    LIST_EACH(it, &a->waiting)
    {
        struct delivery_task *t = LIST_ENTRY(it, struct delivery_task, link);
        if (a->running >= DELIVERY_CHILDREN_MAX)
            return;
        if (children_of(&a->children, t->account.uid) >= DELIVERY_CHILDREN_EACH)
            continue;
        list_remove(&t->link);
        t->child.uid = t->account.uid;
        t->child.what = t->account.name;
        pid_t pid = child_fork(&a->children, &t->child, t->limit_ms);
        if (pid == 0)
            run_child(t);
        if (pid > 0)
            a->running++;
        else
            a->kind->refuse(t, DEFERRED, "4.3.0", "child", "no process for the delivery");
    }
}

/* --- requests -------------------------------------------------------------------------------- */

static void add_task(
    struct delivery *a, struct delivery_job *j, uint32_t index, const struct recipient *to)
{
    struct delivery_task *t = xcalloc(1, a->kind->task_size);
    t->agent = a;
    t->job = j;
    t->index = index;
    t->to = *to;
    t->child.fd = -1;
    list_init(&t->link);
    j->waiting++;
    if (a->kind->admit(t))
        list_append(&a->waiting, &t->link);
}

static bool keep(struct buf *into, struct slice bytes)
{
    buf_init(into, MAX(bytes.n, (size_t)1));
    return buf_put(into, bytes) == OK;
}

static struct delivery_job *job_new(struct delivery *a, struct peer *peer, struct ipc_in *in)
{
    const struct deliver_start *m = in->msg;
    struct delivery_job *j = NEW(struct delivery_job);
    *j = (struct delivery_job){.peer = peer,
        .id = in->id,
        .trace = in->trace,
        .delivery = m->delivery,
        .size = m->size,
        .fd = in->fd};
    in->fd = -1;
    buf_init(&j->outcomes, OUTCOMES_MAX);
    list_append(&a->jobs, &j->link);
    return j;
}

static void start(struct delivery *a, struct peer *peer, struct ipc_in *in)
{
    const struct deliver_start *m = in->msg;
    struct delivery_job *j = job_new(a, peer, in);
    struct recipient to;
    bool good = keep(&j->envelope_bytes, m->envelope);
    good = keep(&j->recipient_bytes, m->recipients) && good;
    good = keep(&j->body, m->body) && good;
    struct reader er = reader_of(buf_slice(&j->envelope_bytes));
    struct reader rr = reader_of(buf_slice(&j->recipient_bytes));
    good = good && record_get(&er, &envelope_record, &j->envelope) == OK &&
           (m->body.n == m->size || (m->body.n == 0 && j->fd >= 0));
    j->waiting = 1; /* no answer before all tasks are there */
    for (uint32_t i = 0; good && i < DELIVER_RECIPIENTS_MAX && rr.rest.n; i++) {
        if (record_get(&rr, &recipient_record, &to))
            break;
        add_task(a, j, i, &to);
    }
    j->waiting--;
    job_progress(j);
    run_tasks(a);
}

static void make_durable(struct delivery *a, struct peer *peer, struct ipc_in *in)
{
    struct error err = {0};
    int rc = a->kind->sync ? a->kind->sync(a->daemon, &err) : OK;
    if (rc)
        log_event(
            &a->daemon->log, log_trouble, .what = SLICE_LIT("sync"), .reason = slice_of(err.text));
    struct deliver_synced done = {.code = rc, .text = slice_first(slice_of(err.text), 255)};
    (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_synced_type, &done, -1);
}

void delivery_message(struct peer *peer, struct ipc_in *in)
{
    struct delivery *a = peer->daemon->data;
    if (deliver_pong(peer->ipc, in))
        return;
    if (in->type == deliver_sync_type) {
        make_durable(a, peer, in);
    } else if (in->type == deliver_start_type && !a->daemon->draining) {
        start(a, peer, in);
    } else if (in->type == deliver_report_type) {
        struct deliver_reported no = {
            .code = ERR_UNSUPPORTED, .text = SLICE_LIT("this agent writes no reports")};
        (void)!ipc_reply(peer->ipc, in->id, in->trace, deliver_reported_type, &no, -1);
    }
}

/* Nobody waits for these any more; what runs is finished, what waits is asked for again. */
void delivery_peer_down(struct peer *peer)
{
    struct delivery *a = peer->daemon->data;
    LIST_EACH(it, &a->waiting)
    {
        struct delivery_task *t = LIST_ENTRY(it, struct delivery_task, link);
        struct delivery_job *j = t->job;
        if (j->peer != peer)
            continue;
        task_free(t);
        if (--j->waiting == 0)
            job_free(j);
    }
    LIST_EACH(it, &a->jobs)
    {
        struct delivery_job *j = LIST_ENTRY(it, struct delivery_job, link);
        if (j->peer == peer)
            j->peer = NULL;
    }
}

/* --- life ------------------------------------------------------------------------------------ */

int delivery_configure(
    struct daemon *d, struct delivery *a, const struct delivery_kind *kind, struct error *err)
{
    a->daemon = d;
    a->kind = kind;
    list_init(&a->jobs);
    list_init(&a->waiting);
    children_init(&a->children, d, child_ended, run_tasks, a);
    d->data = a;
    a->accounts = accounts_open("/etc", err);
    return a->accounts ? OK : ERR_IO;
}

void delivery_clear(struct delivery *a)
{
    accounts_close(a->accounts);
    a->daemon->data = NULL;
}

int delivery_start(struct daemon *d, struct error *err)
{
    (void)err;
    children_watch(&((struct delivery *)d->data)->children);
    return OK;
}

void delivery_drain(struct daemon *d)
{
    struct delivery *a = d->data;
    LIST_EACH(it, &a->waiting)
    list_remove(it); /* unanswered: deferred */
    children_drain(&a->children);
}

unsigned delivery_sessions(struct daemon *d)
{
    return ((struct delivery *)d->data)->children.count;
}

void delivery_children(struct daemon *d, struct buf *out)
{
    children_list(&((struct delivery *)d->data)->children, out);
}
