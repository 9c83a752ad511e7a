/*
 * Who is served next. Work is queued per destination (transport and next hop). A destination has
 * a window of concurrent deliveries that opens with success and shrinks when the site itself
 * fails; a dead site is left alone for a while and then gets one probe at a time. Transports take
 * turns among their destinations; those that have not shown yet that they work get half of the
 * places together. Within a destination short messages pass long lists, which keep every fifth
 * start; reports (null sender) come last and keep every twentieth. Each kind takes turns among its
 * messages. So neither a list, nor a flood of bounces, nor slow sites keep others waiting.
 *
 * Rates are starts per minute, spaced evenly: of one destination, and of all remote ones together.
 *
 * The scheduler knows no messages and no agents: `start` begins an attempt, schedule_finished
 * reports its end.
 */
#pragma once

#include "libutil/list.h"
#include "libutil/loop.h"
#include "libutil/slice.h"

struct schedule;
struct destination;

/* In the order in which they are served. */
enum sched_class { SCHED_SHORT, SCHED_LIST, SCHED_REPORT, SCHED_CLASSES };

enum {
    SCHED_SHORT_MAX = 10,   /* recipients of a short message */
    SCHED_LIST_SHARE = 5,   /* one start in so many is for lists that wait */
    SCHED_REPORT_SHARE = 20 /* and for reports */
};

/* Recipients of one message for one destination. The schedule owns it from schedule_add until
 * all were started, the destination was found dead, or schedule_drop. */
struct sched_job {
    struct list link;    /* the destination's */
    struct list sibling; /* the message's */
    struct destination *destination;
    void *message;
    uint32_t *recipients;
    size_t count, next;
    bool report;
};

struct sched_limits {
    unsigned concurrency; /* starts under way */
    unsigned rate;        /* starts per minute; 0: any */
};

struct schedule_policy {
    unsigned initial;           /* first window of a destination */
    struct sched_limits each;   /* of a destination, unless limits_of says otherwise */
    struct sched_limits remote; /* of all remote ones together */
    int64_t dead_ms;            /* how long a dead site is left alone */
};

struct schedule_ops {
    /* Begins an attempt for up to n recipients. Returns how many it took; 0: no agent of this
     * transport is there now. */
    size_t (*start)(
        struct sched_job *, struct destination *, const uint32_t *recipients, size_t n, void *arg);
    /* The site is known to be dead: these recipients have to wait. */
    void (*refuse)(struct sched_job *, const uint32_t *recipients, size_t n, int64_t wait_ms,
        struct slice reason, void *arg);
    /* Changes the limits of a remote destination that has its own. May be NULL. */
    void (*limits_of)(struct slice nexthop, struct sched_limits *, void *arg);
};

struct schedule *schedule_new(
    struct loop *, const struct schedule_policy *, const struct schedule_ops *, void *arg);
void schedule_free(struct schedule *);
/* Windows that are too wide for the new limit shrink as their attempts end. */
void schedule_set_policy(struct schedule *, const struct schedule_policy *);

/* Transports that deliver on this host: one queue for all their next hops, because it is the
 * agent and not a site that limits them. */
bool schedule_is_local(struct slice transport);

/* The indexes are copied. sibling is appended to siblings. report: of the null sender. */
void schedule_add(struct schedule *, struct slice transport, struct slice nexthop, void *message,
    struct list *siblings, const uint32_t *recipients, size_t count, bool report);
/* Takes a job back; returns how many recipients had not been started. */
size_t schedule_drop(struct sched_job *);
/* One start() is over. site_failed: the destination as a whole did not work. */
void schedule_finished(
    struct schedule *, struct destination *, bool site_failed, struct slice reason);
/* An agent came (back) up. */
void schedule_wake(struct schedule *);
/* Revives dead sites (flush). */
void schedule_revive(struct schedule *);
struct slice destination_transport(const struct destination *);
struct slice destination_nexthop(const struct destination *);

/* One destination, for summaries. Returns false at the end; *pos starts at 0. */
struct destination_figures {
    struct slice transport, nexthop;
    size_t waiting;
    unsigned busy, window;
    bool dead;
};
bool schedule_next(const struct schedule *, size_t *pos, struct destination_figures *out);

/* Wait before attempt n+1 (n >= 1 attempts made): from doubling up to most, with jitter of a
 * quarter; random is any number. */
int64_t schedule_retry_ms(int64_t from, int64_t most, uint32_t attempts, uint64_t random);
