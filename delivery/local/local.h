/*
 * Delivery to accounts of this host: serves DELIVER. A recipient's nexthop is the account name.
 * The process has the capabilities to change user and nothing else; it reads the account
 * database, and no mail. For each delivery it forks a child that becomes the recipient for good,
 * puts the message into the Maildir under its home and reports over a socket pair.
 *
 * A .forward file in the home is read and followed by the child (forward.h); the addresses and
 * commands in it go back to qmgr with the outcome, and become recipients of the same message. One
 * that cannot be trusted or understood defers the delivery: putting the message somewhere else
 * would be wrong.
 */
#pragma once

#include "libutil/daemon.h"

enum {
    LOCAL_UID_FLOOR = 1000,
    LOCAL_CHILDREN_MAX = 20,
    LOCAL_CHILDREN_EACH = 4,
    LOCAL_CHILD_MS = 120 * 1000
};

int local_configure(struct daemon *, struct error *);
int local_start(struct daemon *, struct error *);
void local_message(struct peer *, struct ipc_in *);
void local_peer_down(struct peer *);
void local_drain(struct daemon *);
unsigned local_sessions(struct daemon *);
void local_children(struct daemon *, struct buf *out);
/* For tests: frees what configure and deliveries made. No child may be running. */
void local_free(struct daemon *);
