#include "qmgr/qmgr.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "libmail/proto/inject.h"
#include "libmail/proto/queue.h"
#include "libmail/proto/route.h"

enum {
    INITIAL_WINDOW = 5,
    FIGURES_MS = 60000,
    MMAP_FROM = 512 * 1024,
    DRAIN_POLL_MS = 50,
    DRAIN_MOST_MS = 8000
};

int qmgr_configure(struct daemon *d, struct error *err)
{
    struct qmgr *q = NEW(struct qmgr);
    /* What one large message needs for a moment goes back to the system at once. */
    mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
    d->data = q;
    q->daemon = d;
    q->log = &d->log;
    map_init(&q->messages);
    map_init(&q->users);
    list_init(&q->all);
    list_init(&q->young);
    list_init(&q->under_way);
    list_init(&q->fresh.messages);
    list_init(&q->room.accepts);
    list_init(&q->sweeps);
    list_init(&q->awaited);
    heap_init(&q->due);
    int rc = settings_read(&q->set, d->conf, err);
    if (rc != OK)
        return rc;
    d->paths.root = q->set.spool_path;
    q->dir_fd = open(q->set.spool_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (q->dir_fd < 0)
        return error_sys(err, "cannot open the spool directory %s", q->set.spool_path);
    return OK;
}

/* Figures for the log, and for whoever wonders what the committer does. */
static void log_figures(void *arg)
{
    struct qmgr *q = arg;
    const struct spool_figures *f = committer_figures(q->committer);
    log_event(q->log, spool_commits, .batches = f->batches, .records = f->records,
        .syncs = f->syncs, .bytes = f->bytes, .free_segments = f->free_segments,
        .queued = map_count(&q->messages));
    malloc_trim(0); /* what a burst needed goes back to the system */
    timer_start(&q->figures_timer, FIGURES_MS);
}

static struct schedule_policy policy_of(const struct qmgr *q)
{
    return (struct schedule_policy){.initial = INITIAL_WINDOW,
        .each = q->set.each,
        .host = q->set.host,
        .remote = q->set.remote,
        .dead_ms = q->set.retry.from};
}

int qmgr_start(struct daemon *d, struct error *err)
{
    struct qmgr *q = d->data;
    struct schedule_policy policy = policy_of(q);
    q->loop = d->loop;
    timer_init(&q->due_timer, q->loop, queue_due, q);
    timer_init(&q->figures_timer, q->loop, log_figures, q);
    timer_init(&q->fresh.timer, q->loop, inject_deliver, q);
    timer_init(&q->room.timer, q->loop, inject_again, q);
    q->disk = disk_posix_new(q->dir_fd, q->set.spool_path, err);
    if (!q->disk)
        return err->code;
    int rc = recover_open(q, err);
    if (rc != OK)
        return rc;
    q->schedule = schedule_new(q->loop, &policy, &attempt_ops, q);
    q->committer = committer_new(q->loop, q->spool, true, queue_on_batch, q, err);
    if (!q->committer)
        return err->code;
    q->beside = beside_new(q->loop, err);
    if (!q->beside)
        return err->code;
    recover_reports(q);
    timer_init(&q->agents_timer, q->loop, agents_watch, q);
    timer_start(&q->figures_timer, FIGURES_MS);
    timer_start(&q->agents_timer, q->set.agent_timeout);
    return OK;
}

void qmgr_reconfigure(struct daemon *d)
{
    struct qmgr *q = d->data;
    struct settings before = q->set;
    struct error err;
    if (settings_read(&q->set, d->conf, &err) != OK) {
        q->set = before;
        return;
    }
    if (strcmp(before.spool_path, q->set.spool_path) != 0 ||
        before.spool.segment_size != q->set.spool.segment_size ||
        before.spool.segments != q->set.spool.segments)
        log_event(q->log, log_warning, .what = SLICE_LIT("reload"),
            .reason = SLICE_LIT("the spool's place and segments change at the next start"));
    struct schedule_policy policy = policy_of(q);
    schedule_set_policy(q->schedule, &policy);
}

/* What was begun is finished; the rest stays in the spool and is found at the next start. */
static void drain_poll(void *arg)
{
    struct qmgr *q = arg;
    bool over = loop_now(q->loop) >= q->drain_until;
    bool idle = q->attempts == 0 && q->unsynced == 0 && committer_pending(q->committer) == 0 &&
                list_empty(&q->room.accepts);
    if (over || idle) {
        timer_stop(&q->room.timer);
        beside_free(q->beside);
        committer_free(q->committer);
        spool_close(q->spool);
        daemon_exit(q->daemon);
        return;
    }
    timer_start(&q->drain_timer, DRAIN_POLL_MS);
}

void qmgr_drain(struct daemon *d)
{
    struct qmgr *q = d->data;
    q->draining = true;
    q->drain_until = loop_now(q->loop) + DRAIN_MOST_MS;
    timer_stop(&q->figures_timer);
    timer_stop(&q->due_timer);
    timer_init(&q->drain_timer, q->loop, drain_poll, q);
    timer_start(&q->drain_timer, 0);
}

unsigned qmgr_sessions(struct daemon *d)
{
    struct qmgr *q = d->data;
    return (unsigned)map_count(&q->messages);
}

static void agent_up(struct peer *peer)
{
    struct qmgr *q = peer->daemon->data;
    schedule_wake(q->schedule);
}

const struct daemon_conv qmgr_convs[] = {
    {.conv = CONV_INJECT,
        .side = IPC_SERVER,
        .proto = &inject_proto,
        .on_message = inject_message,
        .on_up = admin_up,
        .on_down = inject_down},
    {.conv = CONV_DELIVER,
        .side = IPC_CLIENT,
        .proto = &deliver_proto,
        .on_message = agent_message,
        .on_up = agent_up,
        .on_down = agent_down},
    {.conv = CONV_ROUTE, .side = IPC_CLIENT, .proto = &route_proto},
    {.conv = CONV_QUEUE,
        .side = IPC_SERVER,
        .proto = &queue_proto,
        .on_message = admin_message,
        .on_up = admin_up,
        .on_down = admin_down},
    {.proto = NULL},
};
