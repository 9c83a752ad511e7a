/* What the parts of the spool share: log segments and the running batch. */
#pragma once

#include "libutil/map.h"
#include "qmgr/sectors.h"
#include "qmgr/spool.h"

enum { SPOOL_SEGMENTS_MAX = 4096, SPOOL_PATH = 64 };

/* One segment file, log/NNNN. */
struct segment {
    unsigned number;
    uint64_t generation; /* sequence of its first record; 0: never used */
    uint32_t live;       /* messages whose ACCEPT is here */
    bool soiled;         /* bytes of format 1, or what a failed write left, could pass for damage */
    bool stamped;        /* not of format 1 */
    bool blank;          /* nothing but zeros: made by format 1, or damaged */
    int64_t lacks;       /* it is shorter than this, which it has been; 0: it is not */
};

/* The log. used[] is a queue of segments in use, oldest first; the last one is written to. */
struct spool_log {
    struct disk *disk;
    uint32_t segment_size;
    unsigned format;
    unsigned nominal; /* segments to keep; more were made when there was no other way */
    struct segment *used, *spare;
    unsigned nused, nspare, cap;
    unsigned next_number;
    int fd; /* of the current segment; -1: none */
    uint32_t offset;
    uint64_t sequence;  /* the last one given out */
    uint64_t committed; /* the last one durable */
    uint64_t marked;    /* the last one that the current segment's MARK vouches for */
    bool list_unsure;   /* the list of segments may not be durable as it is */
    bool names_changed; /* a segment was removed, but not durably: no other may be used again */
    struct spool_figures figures;
};

void spool_log_path(unsigned number, char out[SPOOL_PATH]);
/* Makes one more segment file, preallocated; it is durable when this returns 0. */
int spool_log_add(struct spool_log *, struct error *) MUST_USE;
/* Lets a segment that somebody has cut have its size again, if the disk lets it. */
void spool_log_mend(struct spool_log *, struct segment *);
/* A segment with zeros only gets the stamps of one that was never used, durably. */
int spool_log_stamp(struct spool_log *, struct segment *, struct error *) MUST_USE;
/* Begins a new segment. reserve: leave the last spare one for DONE and FORGET records. */
int spool_log_turn(struct spool_log *, bool reserve, struct error *) MUST_USE;
/* Appends the records of these jobs (those with code == OK and a record) and syncs once a
 * segment. Sets code and generation. */
void spool_log_write(struct spool_log *, struct spool_job **jobs, size_t n);
/* A message of this generation is gone; frees old segments. */
void spool_log_release(struct spool_log *, uint64_t generation);
/* Says in the current segment that everything so far was durable. Not synced: the next batch's sync
 * does that, or the system in its own time. */
void spool_log_mark(struct spool_log *);
/* The same as a sector, of any segment. */
void spool_log_put_mark(char out[SECTOR], unsigned format, uint64_t generation, uint64_t committed);
/* With a last mark, synced. */
void spool_log_close(struct spool_log *);

struct spool {
    struct disk *disk;
    struct spool_log log;
    struct list chores;   /* jobs of our own: what failures left to be done */
    struct map unsettled; /* parked files (qid) of which an update failed */
};

/* For parking only: without a log, nothing else can be run. */
struct spool *spool_without_log(struct disk *, unsigned format);

/* What the log says about one message (spool_live.c). */
struct live {
    uint64_t qid, generation;
    struct buf record; /* the ACCEPT */
    size_t accepted;   /* recipients in it */
    uint32_t *done;
    size_t ndone;
    struct expansion *expansions;
    size_t nexpansions;
};

/* format: of the record, and of its recipients. */
struct live *live_new(uint64_t qid, uint64_t generation, struct slice record, unsigned format,
    struct slice recipients);
void live_free(struct live *);
/* Payloads of DONE and EXPAND records, in the order of the log. */
void live_done(struct live *, struct slice payload);
int live_expand(struct live *, struct slice payload) MUST_USE;
/* At the end, once: adds what expansions finished to `done`, and collects their recipients. */
void live_join(struct live *, struct buf *added);

/* A FORGET job whose record is ready. */
struct spool_job *spool_forget_job(uint64_t qid);

/* Sets the job's code, which is returned, and its error: what could not be done with which file, and
 * why. */
int spool_job_failed(struct spool_job *, int rc, const char *what, const char *path);
/* Writes and syncs the files of those jobs that have code == OK, and removes what is to be removed.
 * Sets code. Names become durable with the sync of their directories, which comes behind it. */
void spool_files_run(struct spool *, struct spool_job **jobs, size_t n);

/* Reading the log at start (spool_scan.c). */
struct spool_scan;
struct spool_scan *spool_scan_run(struct disk *, bool read_only, const struct spool_found_ops *,
    void *arg, struct error *) MUST_USE;
void spool_scan_free(struct spool_scan *);
/* Hands over what is live; parked files override the log. Fills the log's segments in (log may
 * be NULL when reading only). */
int spool_scan_report(struct spool_scan *, struct spool_log *log, struct error *) MUST_USE;
/* Moves the FORGET jobs for what the parked files override to out. */
void spool_scan_overridden(struct spool_scan *, struct list *out);
/* Removes all segments, oldest first, and their list; durable when it returns 0. */
int spool_scan_remove_log(struct spool_scan *) MUST_USE;
