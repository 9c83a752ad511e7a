/*
 * The format of a spool that nobody works on: telling it, committing to the newest, and going back
 * to the one before (qmgr/format.h, docs/spool.md).
 */
#pragma once

#include "qmgr/disk.h"

struct upgrade_sum {
    unsigned written, newest; /* formats */
    uint64_t logged, parked;  /* messages */
    uint64_t held;            /* going back: with a release time, which the old format lacks */
    uint64_t damaged;         /* going back: files left as they are */
};

int upgrade_show(struct disk *, struct upgrade_sum *, struct error *) MUST_USE;
/* From the next start on the newest format is written. */
int upgrade_commit(struct disk *, struct error *) MUST_USE;
/* Writes everything again in the oldest format that this release reads: afterwards the log is
 * empty and all messages are parked. May be repeated after a crash. */
int upgrade_revert(struct disk *, struct upgrade_sum *, struct error *) MUST_USE;

/* `qmgr --format DIR [commit|revert]`: prints "format", written, newest, messages in the log,
 * parked, held, damaged, separated by TABs. Works as the spool's owner when started by root.
 * Returns the exit status. */
int upgrade_main(const char *directory, const char *verb);
