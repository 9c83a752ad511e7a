/* Between schedule.c and site.c. */
#pragma once

#include "libutil/map.h"
#include "qmgr/schedule.h"

/* Spaces starts evenly. */
struct pace {
    struct timer timer; /* runs until the next start is allowed */
    int64_t next_us;
};

/* Destinations of a transport take turns in lanes. */
enum lane { PROVEN, DOUBTFUL, LANES };

struct transport {
    struct schedule *schedule;
    char name[33];
    bool local, doubtful_turn;
    unsigned busy;
    unsigned doubtful_busy; /* of busy: for doubtful destinations */
    struct sched_transport set;
    struct list ready[LANES]; /* destinations with work and an open window, in turn */
    struct list all;          /* link among transports */
    struct pace pace;
};

/* An MX host that destinations lead to. */
struct site {
    struct schedule *schedule;
    char *host; /* lower case */
    size_t destinations;
    unsigned busy, window;
    struct sched_limits limits;
    struct list blocked; /* destinations that are ready but for this */
    struct pace pace;
};

struct destination {
    struct schedule *schedule;
    struct transport *transport;
    char *key; /* transport \0 nexthop */
    size_t key_len;
    struct list ready;               /* in a lane of transport->ready, or in site->blocked */
    struct site *site;               /* where it led last; NULL: not known */
    struct heap jobs[SCHED_CLASSES]; /* by priority and turn */
    unsigned since[SCHED_CLASSES];   /* starts since this class had one while it waited */
    size_t waiting;
    unsigned busy, window;
    struct sched_limits limits;
    struct pace pace;
    double failed_cohorts;
    bool dead, probing;
    bool doubtful;      /* nothing has worked since it was new or failed */
    struct timer timer; /* dead: revival; else: forgetting what we know of the site */
    char reason[256];
};

struct schedule {
    struct loop *loop;
    struct schedule_policy policy;
    struct schedule_ops ops;
    void *arg;
    struct map destinations, sites;
    struct list transports;
    int64_t turn; /* of the next job in line */
    struct timer no_agent;
    bool deferred;
};

void pace_used(struct schedule *, struct pace *, unsigned per_minute);
void dispatch_soon(struct schedule *);
/* Puts the destination into, or takes it out of, its transport's turn. */
void destination_update(struct destination *);

/* Something was learned about the site: it is not forgotten as soon as nothing is to be done. */
void destination_remember(struct destination *);

/* --- site.c --- */
/* Whether the site has a place. */
bool site_open(const struct site *);
/* Takes a place for the ticket. */
void site_enter(struct site *, struct sched_ticket *);
/* Gives it back. */
void site_leave(struct sched_ticket *, enum sched_result);
/* The destination waits for a place. */
void site_block(struct destination *);
/* Those that may have one now go on. */
void site_unblock(struct site *);
/* The destination leads nowhere any more. */
void site_forget(struct destination *);
void sites_set_limits(struct schedule *);
void sites_clear(struct schedule *);
