/*
 * Who waits for the disk: a thread, so that the loop goes on meanwhile; all jobs that arrive while
 * a batch is being written form the next one, and results come back into the loop through an
 * eventfd. While the disk takes less time than the two changes of threads are worth, the loop
 * itself.
 */
#pragma once

#include "libutil/loop.h"
#include "qmgr/spool.h"

struct committer;

/* Who sends mail waits for no more files of others (lazy jobs) than these with each commit. */
enum { COMMITTER_FILES = 64 };

/* threaded false: batches run in the loop's own thread (tests). on_batch is called in the loop
 * after the jobs of a batch were given back. */
struct committer *committer_new(struct loop *, struct spool *, bool threaded,
    void (*on_batch)(void *arg), void *arg, struct error *) MUST_USE;
/* Finishes what was handed over, gives it back, ends the thread. */
void committer_free(struct committer *);
/* Takes the job; job->done is called from the loop, never before this returns. */
void committer_submit(struct committer *, struct spool_job *);
/* Jobs not yet given back. */
size_t committer_pending(const struct committer *);
/* As of the end of the last batch. */
const struct spool_figures *committer_figures(const struct committer *);
