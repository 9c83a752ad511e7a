/*
 * Opening a user's mail from the command line. As root the process becomes the mailbox's owner,
 * for good, before it reads any mail: files it makes belong to the right account, and a hostile
 * mail directory meets no privilege.
 */
#pragma once

#include "ctl/ctl.h"
#include "libstore/store.h"

/* name: an address, or an account of the host. With `create` a mail directory is made when there
 * is none. ERR_NOT_FOUND: no such user, or no mail yet. */
int mailuser_open(
    struct ctl *, const char *name, bool create, struct store **, struct error *) MUST_USE;
