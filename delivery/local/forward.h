/*
 * What a ~/.forward says, in the syntax of libmail/aliases.h:
 *
 * - user@domain, name: to that address, or that name of this host
 * - \name, or the owner's own: into the owner's mailbox; another's \name as that name
 * - /path, /path/: appended to an mbox file, or put into a Maildir; /dev/null: nowhere
 * - :include:/path: addresses from a file, which may name nothing else
 * - |command: run by pipe, as the owner; not in an included file
 *
 * Either all of a file counts or nothing: an error leaves a plan that must not be followed.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum {
    FORWARD_MAX = 64 * 1024, /* bytes of a file */
    FORWARD_ADDRESSES_MAX = 100,
    FORWARD_FILES_MAX = 20,
    FORWARD_INCLUDES_MAX = 10,
    FORWARD_COMMAND_MAX = 900,    /* with the | */
    FORWARD_BYTES_MAX = 16 * 1024 /* of all addresses and commands; of all paths */
};

struct forward_plan {
    bool mailbox;
    bool nowhere; /* an entry was /dev/null */
    unsigned ntargets, nfiles, nincludes;
    struct buf targets, files; /* buf_lv each; a name stands as it is written; |command */
};

struct forward_owner {
    struct slice name, address; /* of the account; of the recipient */
};

/* Appends the content of a file named by :include:, checked as .forward itself. */
typedef int forward_include_fn(struct slice path, struct buf *out, void *arg, struct error *);

void forward_init(struct forward_plan *);
void forward_clear(struct forward_plan *);
/* ERR_SYNTAX, ERR_LIMIT, ERR_DENIED (an include file that says too much), or what include says. The
 * reason never quotes the file: the sender may read it. An empty file means the mailbox. */
int forward_parse(struct forward_plan *, struct slice text, const struct forward_owner *,
    forward_include_fn *include, void *arg, struct error *) MUST_USE;
