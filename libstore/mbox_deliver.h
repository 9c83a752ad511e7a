/*
 * Delivery to a path: a Maildir, or an mbox file (mboxrd: a line of '>'s and "From " gets one '>'
 * more; LF line ends), under a dot lock and an fcntl(2) lock as other programs take them. The
 * message is synced when this returns; on any error the file is as it was. A field with the
 * delivery id makes a repetition do nothing while the message is in the last megabyte of the file;
 * what a crash left of it unfinished at the end of the file is replaced.
 */
#pragma once

#include "libstore/deliver.h"
#include "libstore/quota.h"

enum { MBOX_LOCK_MS = 30000, MBOX_LOCK_STALE_S = 600, MBOX_SEARCH = 1024 * 1024 };

/* path is relative to dir. The file must be ours, regular and with one name; it is made (0600)
 * when it is not there. Where the directory lets us make no lock file, fcntl alone must do.
 * ERR_BUSY: locked by others for too long. */
int mbox_deliver(
    int dir, const char *path, const struct store_delivery *, bool *again, struct error *) MUST_USE;
/* The same for a file that is the mailbox: ERR_QUOTA when it would grow beyond the limit of bytes
 * (and the grace). How many messages it has, nobody counts. */
int mbox_deliver_within(int dir, const char *path, const struct store_delivery *,
    const struct quota *, bool *again, struct error *) MUST_USE;
/* path ends with / : into the Maildir there, which is made; else as mbox_deliver. Durable when it
 * returns 0. */
int path_deliver(
    int dir, const char *path, const struct store_delivery *, bool *again, struct error *) MUST_USE;
