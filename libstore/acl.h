/*
 * Who else may use a folder (RFC 4314). The owner of a mail directory has all rights in it; for
 * others a folder's list is in veredus.acl in the folder, a line each: "IDENTIFIER RIGHTS". An
 * identifier is a user's name or "anyone"; with '-' before it, it takes rights away.
 *
 * What needs k, x or a, a session of somebody else cannot do itself: it does not reach the
 * directory in which that is done, and has an agent do it (libmail/proto/share.h).
 */
#pragma once

#include "libstore/store.h"

enum acl_right {
    ACL_LOOKUP = 1 << 0,     /* l */
    ACL_READ = 1 << 1,       /* r */
    ACL_SEEN = 1 << 2,       /* s */
    ACL_WRITE = 1 << 3,      /* w: flags but \Seen and \Deleted */
    ACL_INSERT = 1 << 4,     /* i */
    ACL_POST = 1 << 5,       /* p */
    ACL_CREATE = 1 << 6,     /* k */
    ACL_DELETE_BOX = 1 << 7, /* x */
    ACL_DELETE_MSG = 1 << 8, /* t: \Deleted */
    ACL_EXPUNGE = 1 << 9,    /* e */
    ACL_ADMIN = 1 << 10,     /* a */
    ACL_ALL = (1 << 11) - 1
};

enum { ACL_ENTRIES_MAX = 500, ACL_IDENTIFIER_MAX = 255 };

struct acl_entry {
    char who[ACL_IDENTIFIER_MAX + 1]; /* lower case; '-' first: negative */
    unsigned rights;
};
struct acl {
    struct acl_entry *entries;
    size_t n;
};

/* "lrs" and the like; the old c and d as RFC 4314 §2.1.1 ties them. ERR_SYNTAX. */
int acl_parse_rights(struct slice, unsigned *rights) MUST_USE;
/* In the order of RFC 4314. */
void acl_put_rights(unsigned rights, struct buf *out);
/* What a user who is not the owner may do. */
unsigned acl_rights_of(const struct acl *, struct slice user);
void acl_clear(struct acl *);

/* A folder without a list has none. */
int store_acl_get(struct store *, struct slice folder, struct acl *, struct error *) MUST_USE;
/* What a user who is not the owner may do in the folder. */
int store_acl_rights(struct store *, struct slice folder, struct slice user, unsigned *rights,
    struct error *) MUST_USE;
enum acl_how { ACL_SET, ACL_ADD, ACL_REMOVE };
/* Changes one entry; without rights left it goes. Durable. ERR_LIMIT;
 * ERR_SYNTAX: who. Afterwards the summary is written. */
int store_acl_change(struct store *, struct slice folder, struct slice who, enum acl_how,
    unsigned rights, struct error *) MUST_USE;
/* The nearest folder above this name that there is; INBOX when there is none. */
struct slice store_acl_above(struct store *, struct slice name);
/* A new folder is for those who may use the one above it (RFC 4314 §4). *any (may be NULL): there
 * are such. */
int store_acl_inherit(
    struct store *, struct slice above, struct slice folder, bool *any, struct error *) MUST_USE;
/* Writes veredus.shared in the mail directory anew: for each folder that others may look up, lines
 * "DIRECTORY IDENTIFIER". After folders were renamed or deleted. Does nothing when nothing was ever
 * shared. *shared (may be NULL): something is. */
int store_acl_summary(struct store *, bool *shared, struct error *) MUST_USE;
