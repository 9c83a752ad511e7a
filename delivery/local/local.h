/*
 * Delivery to accounts of this host: serves DELIVER. A recipient's nexthop is the account name.
 * The process has the capabilities to change user and nothing else; it reads the account
 * database, and no mail. The child of each delivery (libmail/delivery.h) becomes the recipient for
 * good and puts the message into the Maildir under its home.
 *
 * A .forward file in the home is read and followed by the child (forward.h); the addresses and
 * commands in it go back to qmgr with the outcome, and become recipients of the same message. One
 * that cannot be trusted or understood defers the delivery: putting the message somewhere else
 * would be wrong.
 */
#pragma once

#include "libmail/delivery.h"

enum { LOCAL_UID_FLOOR = 1000, LOCAL_CHILD_MS = 120 * 1000 };

int local_configure(struct daemon *, struct error *);
/* For tests: frees what configure and deliveries made. No child may be running. */
void local_free(struct daemon *);

/* --- room.c: quota questions of lookupd --- */
void local_room(struct peer *, struct ipc_in *);
void local_room_down(struct peer *);
