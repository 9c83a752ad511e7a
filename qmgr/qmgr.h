/*
 * The queue manager's parts and how they call each other. Everything here runs in the loop.
 *
 *     inject.c   new messages (server of INJECT)
 *     queue.c    a message's life: load, attempt, settle, park, forget
 *     deliver.c  who is due, and goes to the scheduler
 *     portion.c  reading parked messages, large ones in portions
 *     large.c    the same, and parking them, beside the loop where they are very large
 *     forward.c  recipients that a delivery names (client of ROUTE)
 *     attempt.c  work for agents (client of DELIVER)
 *     agent.c    whether they are alive
 *     beside.c   reading very large files without holding up the loop
 *     sync.c     local deliveries become durable
 *     report.c   reports to senders through the bounce agent
 *     admin*.c   listing and acting on messages (server of QUEUE)
 *     recover.c  what the spool holds at start
 *     settings.c what the configuration says
 */
#pragma once

#include "libmail/proto/deliver.h"
#include "libutil/daemon.h"
#include "libutil/map.h"
#include "qmgr/beside.h"
#include "qmgr/committer.h"
#include "qmgr/events.h"
#include "qmgr/message.h"
#include "qmgr/schedule.h"
#include "qmgr/spool.h"

enum {
    GATHER_MS = 10,         /* first deliveries of what comes one by one wait for each other */
    GATHER_MOST = 32,       /* or until there are so many */
    CROWD = 5,              /* or so many have come with one commit */
    SYNC_DELAY_MS = 200,    /* local deliveries wait so long for a common sync (I10) */
    SYNC_MESSAGES = 1000,   /* or until there are so many */
    AGENT_AWAY_MS = 3000,   /* an agent's restart is not the destination's fault */
    DISK_RETRY_MS = 2000,   /* after the disk refused to note something */
    REPORT_RETRY_MS = 10000 /* after the bounce agent refused */
};

/* When something is tried again, and for how long; ms. */
struct retry {
    int64_t from, to, lifetime, bounce_lifetime, delay_warning;
};

struct transport_settings {
    char name[33];
    struct retry retry;
    struct sched_limits limits; /* 0: as usual */
};

enum { SETTINGS_TRANSPORTS = 8 };

struct settings {
    struct retry retry; /* unless the transport has its own */
    struct transport_settings transports[SETTINGS_TRANSPORTS];
    size_t ntransports;
    struct sched_limits each, host, remote;
    int64_t agent_timeout;
    int64_t report_wait; /* for other failures, before the sender hears of the first */
    uint64_t message_size;
    size_t max_loaded;     /* messages with content at a time */
    size_t max_active;     /* recipients in the content of parked messages */
    size_t max_recipients; /* of one message */
    size_t portion;        /* recipients of one parked message in memory at a time */
    struct spool_config spool;
    char spool_path[4096];
};

/* Accepted and answered, to be delivered next (qmgr/inject.c). */
struct fresh {
    struct list messages;
    size_t count, before; /* all of them; those of earlier batches */
    int64_t until;        /* loop time: so long others may come that go with them */
    struct timer timer;
};

struct qmgr {
    struct daemon *daemon;
    struct loop *loop;
    struct log *log;
    struct settings set;
    struct disk *disk;
    struct spool *spool;
    struct committer *committer;
    struct schedule *schedule;
    struct map messages;   /* by qid */
    struct map users;      /* names of administrators, by uid + 1 */
    struct list all;       /* by serial */
    struct list young;     /* those in the log, as they lie there */
    struct list under_way; /* attempts */
    struct fresh fresh;
    struct {
        struct list accepts; /* that wait for room in the log (qmgr/inject.c) */
        struct timer timer;
    } room;
    struct list sweeps;    /* qmgr/admin_sweep.c */
    struct look *look;     /* qmgr/admin_look.c; NULL: nothing */
    struct list awaited;   /* the same: what is being read for somebody */
    struct beside *beside; /* reads very large files; NULL: nobody else is to be served */
    struct heap due;
    struct timer due_timer, figures_timer, drain_timer, agents_timer;
    uint64_t serial;
    uint64_t resumed; /* qid: what waited for it to be loaded goes on; 0: none */
    size_t loaded;
    size_t active; /* recipients in the content of parked messages */
    int dir_fd;    /* of the spool; the disk takes it */
    int64_t drain_until;
    bool draining;
    bool pressed; /* it was said that the log is full */
    uint64_t troubles;  /* found at start */
    int64_t park_after; /* loop time: the disk refused, parking waits */
    size_t attempts;    /* under way */
    size_t unsynced;    /* local deliveries that are not durable yet */
};

/* --- queue.c --- */
struct message *queue_find(struct qmgr *, uint64_t qid);
/* Enters a message into the queue's tables. ERR_EXISTS when the qid is known. */
int queue_add(struct qmgr *, struct message *) MUST_USE;
void queue_remove(struct qmgr *, struct message *);
/* All attempts are over: report, finish, or park. Does nothing while something is under way. */
void queue_settle(struct qmgr *, struct message *);
/* Wakes the message after so long: to load it, or to settle it again. */
void queue_wake_in(struct qmgr *, struct message *, int64_t ms);
/* The same at a time of the wall clock, but never later than the longest retry time. */
void queue_wake_at(struct qmgr *, struct message *, int64_t wall);
/* One recipient needs nothing more; the disk learns it soon. */
void queue_rcpt_done(struct qmgr *, struct message *, struct rcpt *, bool delivered);
/* It failed for good; the sender is to hear of it. */
void queue_rcpt_failed(struct qmgr *, struct message *, struct rcpt *);
/* One recipient has the message, durably; perhaps the sender wants to hear of it. */
void queue_delivered(struct qmgr *, struct message *, struct rcpt *);
/* An attempt failed for now. site: the agent was away, which counts as no attempt. */
void queue_rcpt_defer(struct qmgr *, struct message *, struct rcpt *, int64_t wait_ms);
/* Puts DONE for these on the disk (recipients just marked RCPT_DONE). */
void queue_note_done(struct qmgr *, struct message *, const uint32_t *indexes, size_t n);
/* The longest anything waits for its next attempt. A time beyond it was written before somebody set
 * the clock back. */
int64_t queue_longest_wait(const struct qmgr *);
/* Writes what has changed behind the parked message. */
void queue_update(struct qmgr *, struct message *);
/* Moves a message out of the log now, whatever it is doing. */
void queue_park(struct qmgr *, struct message *, const char *why);
void queue_on_batch(void *arg);
/* Half of the log's room is gone: what is done should leave it soon. */
bool queue_crowded(const struct qmgr *);
void queue_due(void *arg);
/* When a recipient that could not be reached is given up; ms since 1970. */
int64_t queue_expires(const struct qmgr *, const struct message *, const struct rcpt *);
/* The message's place in line. */
struct sched_order queue_order(const struct message *);

/* --- deliver.c --- */
/* Begins attempts for all recipients that are due. */
void queue_deliver(struct qmgr *, struct message *);
/* What comes before the time that the sender gave waits for it (RFC 4865). Content is present, and
 * nothing was tried. */
void queue_postpone(struct message *, int64_t now);
/* Takes waiting work of this message back from the scheduler. */
void queue_unschedule(struct qmgr *, struct message *);
/* Whether it waits for the time that its sender gave (RFC 4865). Content is present. */
bool queue_awaits_release(const struct qmgr *, const struct message *);
/* Recipients that wait are due at once, whatever they wait for. Content is present. */
void queue_hurry(struct message *);

/* --- portion.c --- */
/* Makes content present. */
int queue_load(struct qmgr *, struct message *, struct error *) MUST_USE;
/* The same with all recipients, however many. ERR_BUSY while some are being worked on. */
int queue_load_whole(struct qmgr *, struct message *, struct error *) MUST_USE;
void queue_unload(struct qmgr *, struct message *);
/* Its file cannot be read: it is held, or tried again. */
void queue_load_failed(struct qmgr *, struct message *, const struct error *);
/* The message has more recipients than may be in memory: it gets a file, from which it is delivered
 * in portions. True: it will go on when that is done. */
bool portion_split(struct qmgr *, struct message *);
/* The portion in memory is through. True: others are due, and the message goes on by itself. */
bool portion_next(struct qmgr *, struct message *);
/* Puts the portion in memory, of which the file knows everything, back. When that fails the message
 * has no content. */
int portion_leave(struct qmgr *, struct message *) MUST_USE;

/* Which recipients the next portion is made of. */
struct roster_choice portion_choice(const struct qmgr *, const struct message *);
/* What a message, which may be a copy for the purpose, has in its file: a portion or all of it. */
int portion_read(struct message *, const struct roster_choice *, size_t portion, struct disk *,
    struct error *) MUST_USE;
/* All recipients in memory that wait are returned to the sender (message->giving_up); with the last
 * of the file that is over. */
void portion_give_up(struct qmgr *, struct message *);
/* Content has come from its file. */
void portion_loaded(struct qmgr *, struct message *);

/* --- large.c --- */
/* Its file is so large that reading it in the loop would keep others waiting: it has to be loaded
 * by large_load. Content is not present. */
bool large_file(const struct qmgr *, const struct message *);
/* Loads it beside the loop; nothing else is begun with it meanwhile. Then `over` is called (ran:
 * false when qmgr stops) and the message goes on by itself. It may have gone, or it could not be
 * read. over NULL: it is delivered. */
void large_load(struct qmgr *, struct message *, void (*over)(void *arg, bool ran), void *arg);
/* So many recipients are not parked in the loop. */
bool large_count(const struct qmgr *, size_t recipients);
/* Moves the message, of which nothing is under way, out of the log, into a file that is put
 * together beside the loop: from its content, or (record) from the ACCEPT record, which is taken.
 * It is `committing` until then, and goes on by itself. */
void large_park(struct qmgr *, struct message *, struct buf *record);

/* --- expand.c --- */
/* Recipient `index`, which is busy, stands for these (packed: encoded struct recipient, with their
 * `via` filled in; copied): in one step that survives crashes it is done, neither delivered nor
 * failed, and they wait to be delivered. When the disk refuses, it is tried again later; when they
 * are too many for one message, it fails with 5.4.6. In each case it is not busy afterwards and the
 * message has gone on. An agent calls for this instead of sending anything on itself. */
void queue_expand(struct qmgr *, struct message *, uint32_t index, struct slice recipients);
/* Begins one that waits, if it may: called whenever something was written. */
void queue_expand_next(struct qmgr *, struct message *);

/* --- forward.c: whom a delivery names to take a recipient's place --- */
/* Keeps outcome.targets while the delivery is not durable. */
struct outcome;
void forward_keep(struct qmgr *, struct message *, uint32_t index, const struct outcome *);
/* The delivery is durable. False: nothing was kept. Otherwise the recipient stays busy until they
 * are routed and in its place, or it is deferred, and the message goes on by itself. */
bool forward_begin(struct message *, uint32_t index);

/* --- attempt.c --- */
extern const struct schedule_ops attempt_ops;
/* The role that serves this transport, or -1. */
int attempt_agent(struct slice transport);
/* An attempt was made and failed for now: wait (0: by the retry schedule), or expire. */
void attempt_deferred(struct qmgr *, struct message *, struct rcpt *, int64_t wait_ms);
/* An agent asks whether it may connect to an MX host. */
void attempt_host(struct peer *, const struct ipc_in *);
/* One line about one recipient. */
void attempt_log(struct qmgr *, struct message *, const struct rcpt *, const char *result);

/* --- agent.c: the delivery agents' processes --- */
struct sync_batch;
/* What we know of one, while its channel is up. */
struct agent {
    struct qmgr *q;
    struct peer *peer;
    struct sync_batch *sync; /* deliveries that are not durable yet; NULL: none */
    bool asked;              /* a ping is under way */
    unsigned looks;          /* since then; time alone may pass while we are not running */
    int64_t heard;           /* loop time of its last sign of life since it was asked */
    uint64_t bytes;          /* of the deliveries under way, each recipient counted */
};
struct agent *agent_of(struct peer *);
void agent_heard(struct peer *);
/* Looks after all agents that have work. */
void agents_watch(void *arg);
void agent_message(struct peer *, struct ipc_in *);
void agent_down(struct peer *);

/* --- sync.c: local deliveries become durable together (I10) --- */
void sync_add(struct qmgr *, struct peer *, struct message *, uint32_t index);
/* What waits for company is synced now. */
void sync_hurry(struct qmgr *);
void sync_down(struct sync_batch *);

/* --- report.c --- */
/* Tells the sender what there is to tell. True when a report was begun and queue_settle will be
 * called again. */
bool report_begin(struct qmgr *, struct message *);
/* Failures that nobody is told of are done. */
void report_silent(struct qmgr *, struct message *);
/* Recipients have failed so long ago that the sender hears of it before the others are tried. */
bool report_overdue(const struct qmgr *, const struct message *);
/* The message wakes in time for that. */
void report_watch(struct qmgr *, struct message *);
/* A message that may be a report (envelope.about) is durable: what it tells of is told. */
void report_accepted(struct qmgr *, const struct envelope *);
/* The same at start, when the message it tells of may not know. */
void report_found(struct qmgr *, const struct envelope *);

/* --- report_send.c --- */
/* Has it written and queued: report_over is called. */
void report_send(struct report *);

/* --- inject.c --- */
void inject_message(struct peer *, struct ipc_in *);
void inject_down(struct peer *);
/* What a batch has made durable is delivered, now or with what comes soon. */
void inject_on_batch(struct qmgr *);
/* Begins the delivery of all that was accepted. arg: the qmgr. */
void inject_deliver(void *arg);
/* What waits for room in the log tries again. */
void inject_again(void *arg);

/* --- admin.c --- */
void admin_message(struct peer *, struct ipc_in *);
void admin_down(struct peer *);
/* The whole of a parked message, as its file has it now, where it has just been read beside the
 * loop; the caller frees it. NULL: it has not. */
struct message *admin_look_take(struct qmgr *, const struct message *);
/* Remembers an administrator's name for the log. */
void admin_up(struct peer *);

/* --- settings.c --- */
int settings_read(struct settings *, const struct conf *, struct error *) MUST_USE;
const struct retry *settings_retry(const struct settings *, struct slice transport);
/* The longest wait between two attempts that any transport has, without jitter. */
int64_t settings_longest_retry(const struct settings *);
/* For struct schedule_ops; arg is the struct qmgr. */
void settings_transport(struct slice name, struct sched_transport *, void *arg);
void settings_destination(struct slice nexthop, struct sched_limits *, void *arg);
void settings_host(struct slice host, struct sched_limits *, void *arg);

/* --- recover.c --- */
int recover_open(struct qmgr *, struct error *) MUST_USE;
/* Reports that were accepted before a crash, when the committer runs: the messages they tell of
 * may not know. */
void recover_reports(struct qmgr *);

/* --- qmgr.c --- */
int qmgr_configure(struct daemon *, struct error *);
int qmgr_start(struct daemon *, struct error *);
void qmgr_reconfigure(struct daemon *d);
void qmgr_drain(struct daemon *);
unsigned qmgr_sessions(struct daemon *);
extern const struct daemon_conv qmgr_convs[];
