/*
 * Makes deliveries durable in a thread of its own, so that a slow disk does not hold up the
 * deliveries that come meanwhile: one sync of file systems at a time, in the order asked for.
 */
#pragma once

#include "delivery/virtual/stores.h"
#include "libutil/error.h"
#include "libutil/list.h"
#include "libutil/loop.h"

struct syncer;

/* One request; zeroed but for what the caller sets. */
struct sync_job {
    struct list link;
    int fds[STORES_FILE_SYSTEMS]; /* one on each file system; the job's until done() takes them */
    size_t n;
    void *arg;
    int code; /* what became of it */
    struct error error;
};

/* done is called in the loop; it closes what is left in fds and frees the job. */
struct syncer *syncer_new(
    struct loop *, void (*done)(struct sync_job *, void *arg), void *arg, struct error *);
/* Waits for what is running; what waits is dropped, and its arg with it. Takes NULL. */
void syncer_free(struct syncer *);
void syncer_add(struct syncer *, struct sync_job *);
bool syncer_busy(const struct syncer *);
/* Calls fn for every request that is not done. */
void syncer_each(struct syncer *, void (*fn)(struct sync_job *, void *arg), void *arg);
