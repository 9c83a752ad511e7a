/*
 * Work that would keep the loop from serving others for too long: reading a very large file. It is
 * done in a thread beside the loop, which lives as long as there is some, one job after another.
 */
#pragma once

#include "libutil/error.h"
#include "libutil/list.h"
#include "libutil/loop.h"

struct beside_job {
    struct list link;
    /* In the thread: may touch only what belongs to the job, and the disk. */
    void (*work)(struct beside_job *);
    /* In the loop, once; may begin others, and frees the job. ran: work() was called. */
    void (*done)(struct beside_job *, bool ran);
};

struct beside;

struct beside *beside_new(struct loop *, struct error *) MUST_USE;
/* Waits for the job under way; those behind it are done without having run. NULL is ignored. */
void beside_free(struct beside *);
void beside_run(struct beside *, struct beside_job *);
