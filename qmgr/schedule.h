/*
 * Who is served next. Work is queued per destination (transport and next hop). A destination has
 * a window of concurrent deliveries that opens with success and shrinks when the site itself
 * fails; a dead site is left alone for a while and then gets one probe at a time. Transports take
 * turns among their destinations; those that have not shown yet that they work get half of the
 * places together. Within a destination urgent messages (MT-PRIORITY above 0) go first, but for
 * every fourth start; short messages pass long lists and bulk mail, which keep every fifth; reports
 * (null sender) come last and keep every twentieth. Within a class a higher priority goes first
 * (RFC 6710), equal ones take turns. So neither a list, nor a flood of bounces, nor slow sites keep
 * others waiting.
 *
 * Many domains may lead to one MX host: attempts hold a place there, too (qmgr/site.c). Which host
 * it is shows only when an agent is about to connect; the destination remembers it.
 *
 * Rates are starts per minute, spaced evenly: of one destination, one MX host, one transport.
 *
 * The scheduler knows no messages and no agents: `start` begins an attempt, schedule_finished
 * reports its end.
 */
#pragma once

#include "libutil/heap.h"
#include "libutil/list.h"
#include "libutil/loop.h"
#include "libutil/slice.h"

struct schedule;
struct destination;
struct site;

/* In the order in which they are served. */
enum sched_class { SCHED_URGENT, SCHED_SHORT, SCHED_LIST, SCHED_REPORT, SCHED_CLASSES };

enum {
    SCHED_SHORT_MAX = 10,   /* recipients of a short message */
    SCHED_SHORT_SHARE = 4,  /* one start in so many is for short ones that wait */
    SCHED_LIST_SHARE = 5,   /* for lists and bulk mail */
    SCHED_REPORT_SHARE = 20 /* for reports */
};

/* What decides a message's place in line. */
struct sched_order {
    int priority; /* -9 to 9 */
    bool bulk;    /* by its own account */
    bool report;  /* of the null sender */
};

/* Recipients of one message for one destination. The schedule owns it from schedule_add until
 * all were started, the destination was found dead, or schedule_drop. */
struct sched_job {
    struct heap_node turn; /* in a class of the destination */
    struct list sibling;   /* the message's */
    struct destination *destination;
    void *message;
    size_t count, next;
    enum sched_class class;
    struct sched_order order;
    uint32_t recipients[];
};

/* The places that an attempt holds from start() to schedule_finished. */
struct sched_ticket {
    struct destination *destination;
    struct site *site; /* NULL: not known yet, or no matter */
};

enum sched_result {
    SCHED_WORKED,      /* with the site; what became of the message is another matter */
    SCHED_SITE_FAILED, /* the destination as a whole */
    SCHED_UNTRIED
};

struct sched_limits {
    unsigned concurrency; /* starts under way */
    unsigned rate;        /* starts per minute; 0: any */
};

struct schedule_policy {
    unsigned initial;           /* first window of a destination */
    struct sched_limits each;   /* of a destination, unless limits_of says otherwise */
    struct sched_limits host;   /* of an MX host, unless host_limits says otherwise */
    struct sched_limits remote; /* of all remote ones together */
    int64_t dead_ms;            /* how long a dead site is left alone */
};

/* Of one transport. */
struct sched_transport {
    struct sched_limits limits;
    int64_t dead_ms;
};

struct schedule_ops {
    /* Begins an attempt for up to n recipients. Returns how many it took; 0: no agent of this
     * transport is there now. */
    size_t (*start)(struct sched_job *, const struct sched_ticket *, const uint32_t *recipients,
        size_t n, void *arg);
    /* The site is known to be dead: these recipients have to wait. */
    void (*refuse)(struct sched_job *, const uint32_t *recipients, size_t n, int64_t wait_ms,
        struct slice reason, void *arg);
    /* Changes the limits of a remote destination that has its own. May be NULL. */
    void (*limits_of)(struct slice nexthop, struct sched_limits *, void *arg);
    /* The same for an MX host, and for a transport. May be NULL. */
    void (*host_limits)(struct slice host, struct sched_limits *, void *arg);
    void (*transport_of)(struct slice name, struct sched_transport *, void *arg);
};

struct schedule *schedule_new(
    struct loop *, const struct schedule_policy *, const struct schedule_ops *, void *arg);
void schedule_free(struct schedule *);
/* Windows that are too wide for the new limit shrink as their attempts end. */
void schedule_set_policy(struct schedule *, const struct schedule_policy *);

/* Transports that deliver on this host: one queue for all their next hops, because it is the
 * agent and not a site that limits them. */
bool schedule_is_local(struct slice transport);

/* The indexes are copied. sibling is appended to siblings. */
void schedule_add(struct schedule *, struct slice transport, struct slice nexthop, void *message,
    struct list *siblings, const uint32_t *recipients, size_t count, const struct sched_order *);
/* Takes a job back; returns how many recipients had not been started. */
size_t schedule_drop(struct sched_job *);
/* The attempt is about to connect to this MX host. False: that has all it may have; finish with
 * SCHED_UNTRIED and add the recipients again, they will wait for the host. */
bool schedule_enter_host(struct schedule *, struct sched_ticket *, struct slice host);
/* One start() is over. The ticket's places are free. */
void schedule_finished(
    struct schedule *, struct sched_ticket *, enum sched_result, struct slice reason);
/* An agent came (back) up. */
void schedule_wake(struct schedule *);
/* Revives dead sites (flush): all, or one. */
void schedule_revive(struct schedule *);
void schedule_revive_one(struct schedule *, struct slice transport, struct slice nexthop);
struct slice destination_transport(const struct destination *);

/* Wait before attempt n+1 (n >= 1 attempts made): from doubling up to most, with jitter of a
 * quarter; random is any number. */
int64_t schedule_retry_ms(int64_t from, int64_t most, uint32_t attempts, uint64_t random);
