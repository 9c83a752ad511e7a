/*
 * Housekeeping: at its time a round through all mailboxes, one after the other, with little
 * priority. Who there is, and whose mail is where, authd tells; a child that has become the owner
 * does what libstore/chores.h says. A round that is broken off (stop, reload) begins anew with the
 * next process; what it did already costs nothing the second time. When the last whole round began
 * is noted in `veredus.housekept` in the mail root, so that one that was missed is made up for.
 */
#pragma once

#include "libutil/daemon.h"

enum {
    HOUSE_UID_FLOOR = 1000,
    HOUSE_RETRY_MS = 60 * 1000,      /* after authd could not answer */
    HOUSE_CHILD_MS = 60 * 60 * 1000, /* a mailbox that takes longer is left */
    HOUSE_STOP_MS = 5 * 1000,        /* what a child is given to finish a step */
    HOUSE_LOOK_MS = 10 * 60 * 1000   /* the clock may be set while we wait */
};

int house_configure(struct daemon *, struct error *);
int house_start(struct daemon *, struct error *);
void house_drain(struct daemon *);
unsigned house_sessions(struct daemon *);
void house_children(struct daemon *, struct buf *out);

/* When the next round begins, in seconds since 1970: `every` seconds after the last; when that is
 * a day or more, on that day at `from` seconds after midnight, local time. */
int64_t house_next(int64_t last, int64_t every, int64_t from);
