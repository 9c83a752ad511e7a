/*
 * The right side of an alias, of aliases(5) and of virtual ones, lists that are included, and
 * ~/.forward files: members separated by commas or line ends.
 *
 *     user@domain, name            an address, or a name of this host
 *     Full Name <user@domain>      the same; (comments) are skipped
 *     \name                        the account itself, whatever the aliases say
 *     :include:/path               members from a file
 *     |command, "|command, x"      a command; within quotes \" and \\ stand for " and \
 *     /file                        a file, or a Maildir when it ends with /
 *
 * Double quotes around a whole member keep commas, blanks and # in it.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { ALIAS_COMMAND_MAX = 900, ALIAS_INCLUDE_MAX = 4 * 1024 * 1024 };

enum alias_kind {
    ALIAS_ADDRESS,
    ALIAS_LITERAL, /* the name without its backslash */
    ALIAS_INCLUDE, /* the path */
    ALIAS_COMMAND, /* without the | */
    ALIAS_FILE
};

enum {
    ALIAS_BLANKS = 1,  /* blanks part members, too, but not the words of a command */
    ALIAS_COMMENTS = 2 /* # at the beginning of a member: nothing up to the line's end */
};

struct alias_member {
    enum alias_kind kind;
    struct slice text; /* in the input, or in plain */
    char plain[ALIAS_COMMAND_MAX + 1];
};

/* Cuts the next member off; false at the end. Every input ends. */
bool alias_next(struct slice *rest, unsigned flags, struct alias_member *);
/* Appends the file of an :include: member. It decides who gets mail, so what others could have
 * put in its place is refused (ERR_DENIED): it must be a regular file and no symbolic link, not
 * writable for all; where its directory is, it must belong to root or to us, and the directory
 * be sticky. */
int alias_include(struct slice path, struct buf *out, struct error *) MUST_USE;
/* Whether an alias may have an owner: not the owner's own, nor name-request. */
bool alias_may_have_owner(struct slice name);
