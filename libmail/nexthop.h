/*
 * How a recipient's nexthop names a folder for the agents virtual and local: PLACE, or
 * PLACE//FOLDER for user+FOLDER@domain. PLACE is a mail directory or an account name; neither
 * has an empty path component, so the first "//" ends it. FOLDER is the detail as the sender
 * wrote it: the agents deliver there when the folder exists, else into INBOX, and never make it.
 */
#pragma once

#include "libutil/buf.h"

/* Appends. The folder is left out when it is empty, or when place could not be told from it. */
void nexthop_join(struct buf *out, struct slice place, struct slice folder);
/* Without a folder, *folder is empty. Both are parts of nexthop. */
void nexthop_split(struct slice nexthop, struct slice *place, struct slice *folder);
