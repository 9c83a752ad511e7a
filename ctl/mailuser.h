/*
 * Opening a user's mail from the command line. As root the process becomes the mailbox's owner,
 * for good, before it reads any mail: files it makes belong to the right account, and a hostile
 * mail directory meets no privilege.
 */
#pragma once

#include "ctl/ctl.h"
#include "libmail/users.h"
#include "libstore/store.h"

/* What the owner is to have: descriptors of root's. */
struct mailuser_gift {
    int fds[4];
    size_t n;
};

/* What the configuration says about users; NULL with the reason. users_free it. */
struct users *mailuser_table(struct ctl *, struct error *) MUST_USE;
/* Whose mail `name` is, without asking for a password (users_owner). ERR_NOT_FOUND: nobody's. */
int mailuser_find(struct ctl *, const char *name, struct user *, struct error *) MUST_USE;

/* name: an address, or an account of the host. With `create` a mail directory is made when there
 * is none. `gift` (may be NULL) is chowned to the owner. ERR_NOT_FOUND: no such user, or no mail
 * yet. */
int mailuser_open(struct ctl *, const char *name, bool create, const struct mailuser_gift *gift,
    struct store **, struct error *) MUST_USE;
