/*
 * \Seen of one user in a folder that others share with him. It is kept in his own mail directory,
 * in veredus.seen.ID (ID: of the folder, which stays when it is renamed): UIDVALIDITY and the set
 * of UIDs. Another UIDVALIDITY means nothing is seen.
 */
#pragma once

#include "libstore/store.h"

/* From now on \Seen in this view is that of the user whose mail directory `home` is; home must
 * stay open. store_change with STORE_ADD or STORE_REMOVE changes it there, REPLACE leaves it. */
int store_private_seen(struct store_mailbox *, struct store *home, struct error *) MUST_USE;
/* Marks messages of the view as seen by the owner of home; also with read access only. */
int store_private_mark(struct store_mailbox *, const struct uidset *uids, struct error *) MUST_USE;
