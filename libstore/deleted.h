/*
 * Expunged mail that is kept for some time, and its end. With keep_deleted in store_options the
 * file of an expunged message goes to veredus.deleted/ in the mail directory, where no client
 * sees it and no quota counts it. Its name there tells when that was, and GUID, date, flags and
 * keywords. A message that lives on in another folder (moved, copied) is not kept.
 */
#pragma once

#include "libstore/store.h"

enum { DELETED_NAME = 256 };

struct deleted {
    char folder[STORE_NAME_MAX * 2]; /* where it was */
    char file[DELETED_NAME];
    int64_t time, date; /* when it was expunged; its internal date */
    uint64_t size;      /* of the file */
    uint32_t flags;
    unsigned char guid[STORE_GUID];
    char keywords[DELETED_NAME]; /* names, separated by ',' */
};

/* Calls fn for every kept message in any order until it returns non-zero, and returns that. */
typedef int deleted_fn(void *arg, const struct deleted *, struct error *);
int store_deleted_each(struct store *, deleted_fn *, void *arg, struct error *) MUST_USE;
/* Appends it to its folder, which is made when it is not there, and takes it out of what is kept.
 * Flags (but \Deleted), keywords, dates and the email id are what they were, the UID is new. Not
 * durable until store_sync. */
int store_undelete(
    struct store *, const struct deleted *, struct store_appended *, struct error *) MUST_USE;
/* Removes it for good. */
int store_deleted_remove(struct store *, const struct deleted *, struct error *) MUST_USE;
