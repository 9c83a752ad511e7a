/*
 * Reading everything the spool holds and telling what is not sound. Nothing is changed. While the
 * system runs, what changes under our eyes looks damaged for a moment: only what is found again in
 * several passes counts.
 */
#pragma once

#include "qmgr/disk.h"

struct verify_sum {
    uint64_t logged, parked, bytes; /* messages in the log, parked, bytes of bodies read */
    uint64_t damaged, notes;        /* findings */
};

/* name: the file or message. note: worth knowing, but nothing is lost. */
typedef void verify_found_fn(bool note, const char *name, const char *reason, void *arg);

/* Calls found for each finding. running: qmgr works on this spool now. Returns 0 also when there is
 * damage; an error when the spool cannot be read at all. */
int verify_spool(struct disk *, bool running, verify_found_fn *found, void *arg,
    struct verify_sum *, struct error *) MUST_USE;

/* The same for a directory, printed as lines of TAB-separated words: "damaged" or "note", name,
 * reason; at the end "sum", logged, parked, bytes. Returns the exit status: 0, 1 for damage, 2 when
 * it could not be read. */
int verify_main(const char *directory, bool running);
