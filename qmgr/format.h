/*
 * The versions of the spool's formats (docs/spool.md). All parts of the spool, log records and
 * parked files, share one number. The file `format` in the spool directory names the one that is
 * written; without it, a spool that holds anything is of format 1. This release reads 1 and 2, and
 * writes what the file says, so that the release before can go back to it until an administrator
 * commits to the new format. A new spool begins with the newest.
 *
 * Format 1 knows no priority, release time, rule of hold, expansion, owner and checksum of the body.
 */
#pragma once

#include "libmail/envelope.h"
#include "qmgr/disk.h"

enum { SPOOL_FORMAT = 2, SPOOL_FORMAT_OLDEST = 1 };

/* What the file says; *format is 0 when there is none. ERR_VERSION when it is newer than ours. */
int format_read(struct disk *, unsigned *format, struct error *) MUST_USE;
/* Durable when it returns 0. */
int format_write(struct disk *, unsigned format, struct error *) MUST_USE;

/* The fields of these records in that format; the structs are those of today. */
const struct record *format_envelope(unsigned format);
const struct record *format_recipient(unsigned format);
/* True when the old format cannot say what this envelope says and must not be forgotten. */
bool format_lacks(unsigned format, const struct envelope *);
/* Encodes records of today's format, one after the other, in that one. ERR_CORRUPT, ERR_LIMIT. */
int format_convert(struct slice packed, const struct record *today, const struct record *then,
    struct buf *out) MUST_USE;
