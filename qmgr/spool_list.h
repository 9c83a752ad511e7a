/*
 * The list of the log's segments, which lies outside the log: the file `segments` in the spool
 * directory. With it a start knows of segments that somebody has removed or overwritten with zeros,
 * even when they were the first or the last ones, or all.
 *
 * It names segments that exist and hold something, no more: one enters it after its file, which is
 * stamped when it is made (spool_log_add), is durable, and leaves it, durably, before the file is
 * removed. So a crash at any point leaves a list that is true. Format 1 has none.
 */
#pragma once

#include "qmgr/spool_scan.h"

/* Compares it with what was found, and reports what is not there any more. ERR_IO: it cannot be
 * read. */
int spool_list_check(struct spool_scan *) MUST_USE;
/* True when there is a list that names segments: the spool is not of format 1. */
bool spool_list_used(struct disk *);
/* All segments of the log but the first `but` spare ones from place `from` on. Writes nothing when
 * the list is so already. */
int spool_list_write(struct spool_log *, unsigned from, unsigned but) MUST_USE;
/* Names none: they are going to be removed, or be looked after by a release that knows no list. */
int spool_list_empty(struct disk *) MUST_USE;
/* When there are none any more. */
int spool_list_remove(struct disk *) MUST_USE;
