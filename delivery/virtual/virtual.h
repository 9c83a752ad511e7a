/*
 * Delivery to virtual mailboxes: serves DELIVER. A recipient's nexthop is its mail directory
 * relative to the mail root, as authd grants it; it is made on the first delivery. A folder may
 * follow (libmail/nexthop.h).
 */
#pragma once

#include "libutil/daemon.h"

int virtual_configure(struct daemon *, struct error *);
/* Closes what virtual_configure and deliveries opened; before the loop is freed. */
void virtual_free(struct daemon *);
void virtual_message(struct peer *, struct ipc_in *);
void virtual_down(struct peer *);
void virtual_drain(struct daemon *);
/* Closes what is open of this mail directory, for somebody who changes its folders. Returns the
 * mail root, not to be closed. */
int virtual_let_go(struct daemon *, struct slice mail);
/* Serves SHARE: what users may do with folders of others (share.c). */
void virtual_share(struct peer *, struct ipc_in *);
/* Serves QUOTA: whether mail for a mailbox would be accepted now. Remembers the limits told. */
void virtual_quota(struct peer *, struct ipc_in *);
