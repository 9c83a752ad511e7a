/*
 * The spool: a write-ahead log of preallocated, recycled segments for young mail, one file per
 * parked message, and files for large bodies (docs/spool.md has the format and why it is safe).
 *
 * Everything that must reach the disk is a job. The loop fills jobs in and hands them to the
 * committer (qmgr/committer.h), which runs whole batches through spool_run: all jobs of a batch
 * share their syncs. A job belongs to the spool from hand-over until it comes back with `code`.
 * Only spool_run touches the log, so there are no locks in here.
 *
 * Segments are used and freed strictly in order: a segment is free when it and all older ones
 * hold no live message. So a DONE or FORGET record never disappears before its ACCEPT.
 */
#pragma once

#include "libutil/list.h"
#include "qmgr/disk.h"
#include "qmgr/logrec.h"
#include "qmgr/parked.h"

enum { SPOOL_BIG_PATH = 64 };

struct spool_config {
    uint32_t segment_size; /* bytes, a multiple of 4096 */
    unsigned segments;     /* at least 3 */
};

enum spool_op {
    SPOOL_ACCEPT, /* record is sealed into the log; big, if any, is checked and synced before */
    SPOOL_DONE,   /* record */
    SPOOL_EXPAND, /* record: recipients take the place of others, all or nothing. Of one message one
                   * at a time, and none while it is being parked. A failure undoes it for good;
                   * a parked message is expanded by an UPDATE (parked_put_growth) */
    SPOOL_FORGET, /* record; gives up generation; then big is removed */
    SPOOL_PARK,   /* body + text become a parked file, then record (FORGET) is logged */
    SPOOL_UPDATE, /* text is appended to the parked file at `offset`; due becomes its mtime */
    SPOOL_REMOVE  /* the parked file is removed */
};

struct spool_job {
    struct list link;
    enum spool_op op;
    bool lazy; /* may wait up to SPOOL_LAZY_MS for company */
    uint64_t qid;
    uint64_t generation;       /* of the segment that holds the ACCEPT; set by ACCEPT; 0: none */
    struct buf record;         /* finished, not sealed */
    struct slice body;         /* PARK of a body in memory; must live until the job is back */
    char big[LOGREC_BIG_NAME]; /* file under big/, or empty */
    uint64_t size;             /* of the body */
    struct buf text;           /* PARK: first block; UPDATE: update block */
    uint64_t offset;           /* UPDATE: after the body, where the text goes */
    int64_t due;               /* PARK, UPDATE: ms since 1970 */
    bool half_written;         /* the record may be on the disk although code says it failed */
    bool filed;                /* all but the log is done */
    int code;                  /* OK or enum error_code */
    struct error error;
    void (*done)(struct spool_job *, void *arg); /* in the loop; frees the job */
    void *arg;
};

enum { SPOOL_LAZY_MS = 50 };

struct spool_job *spool_job_new(enum spool_op, uint64_t qid);
void spool_job_free(struct spool_job *);

struct spool;

/* Figures, read by the loop between batches. */
struct spool_figures {
    uint64_t batches, records, syncs, bytes;
    unsigned segments, free_segments;
    uint64_t room, whole; /* bytes of the log that new mail may still take; when it is empty */
    uint64_t oldest; /* generation of the oldest segment in use; 0: none */
    bool full;       /* the last batch had to refuse an ACCEPT for want of a segment */
};

/* A message found at start. */
struct spool_found {
    uint64_t qid;
    struct logrec_accept accept; /* slices into record */
    struct buf record;           /* may be taken: set data to NULL */
    struct slice added;          /* encoded recipients, behind those of accept: expansions */
    const uint32_t *done;        /* indexes of recipients with nothing more to do */
    size_t ndone;
    uint64_t generation;
};

struct spool_found_ops {
    void (*message)(struct spool_found *, void *arg);
    void (*parked)(uint64_t qid, uint64_t size, int64_t due, void *arg);
    /* Something was wrong: what, and what was done about it. */
    void (*trouble)(const char *what, const char *reason, void *arg);
};

/* Opens or creates the spool on this disk (not taken) and reports everything in it. Fails when
 * a newer release wrote it, or the disk refuses. */
struct spool *spool_open(struct disk *, const struct spool_config *, const struct spool_found_ops *,
    void *arg, struct error *) MUST_USE;
void spool_close(struct spool *);
/* The same without changing anything: for listings while the system is down. */
int spool_peek(struct disk *, const struct spool_found_ops *, void *arg, struct error *) MUST_USE;

/* Runs a batch (list of spool_job); every job has its code afterwards. Nothing is called back. */
void spool_run(struct spool *, struct list *batch);
/* True when the last batches are vouched for by nothing yet (spool_mark). */
bool spool_unmarked(const struct spool *);
/* For idle moments: one small write, from which a later start knows that what was committed last
 * had been committed, and is damaged if it cannot be read. */
void spool_mark(struct spool *);
void spool_figures(const struct spool *, struct spool_figures *);
/* The format it is written in (qmgr/format.h): ACCEPT records and parked files have to be built in
 * it. Expansions of messages in the log (SPOOL_EXPAND) need format 2. */
unsigned spool_format(const struct spool *);
/* The largest record an ACCEPT may have. */
size_t spool_record_max(const struct spool *);

/* A new empty file under big/; returns a descriptor or negative errno; name is set. */
int spool_big_create(struct disk *, char name[LOGREC_BIG_NAME]);
void spool_big_path(const char *name, char out[SPOOL_BIG_PATH]);
