/*
 * Mailbox names: our own folders, those of other users ("Other Users/alice@example.org/Projects")
 * and public ones ("Public/News"), and what we may do there (RFC 2342, RFC 4314). The INBOX of a
 * user has his name alone: "Other Users/alice@example.org", "Public".
 *
 * The spawner opened the folders that others share with us, and nothing else of theirs; what we
 * may do in them is read from their lists each time, so that a right taken away is gone at once.
 * A folder of ours goes before one of the same name elsewhere.
 */
#pragma once

#include "imapd/session/session.h"
#include "libmail/proto/share.h"
#include "libstore/acl.h"
#include "libstore/quota.h"

#define PLACE_OTHERS "Other Users/"
#define PLACE_PUBLIC "Public/"

struct share {
    struct store *store; /* NULL: not opened yet */
    char *name;          /* as the client sees it, UTF-8 */
    char *folder;        /* as its owner sees it */
    struct session *session;
    const struct session_share *from;
    bool gone; /* deleted or renamed by us: under another name it is there at the next login */
};

/* What is to be done with a folder of somebody else (libmail/proto/share.h). */
struct share_what {
    enum share_verb verb;
    struct slice folder, other;
    enum acl_how how;
    unsigned rights;
};

struct place {
    struct store *store;
    struct slice folder; /* in that store */
    unsigned rights;
    struct share *share; /* NULL: ours */
};

void places_open(struct session *);
void places_close(struct session *);
/* Where the name leads. A name that leads nowhere is taken as one of ours. */
int place_find(struct session *, struct slice name, struct place *, struct error *);
/* The same, and all of these rights are there; otherwise NO is set, with as little said about
 * what the user may not look up as can be. */
bool command_place(struct command *, struct slice name, unsigned needed, struct place *);
/* Rights in the selected mailbox, now; and NO when these are not all there. */
unsigned session_rights(struct session *);
bool command_may(struct command *, unsigned needed);
/* Of these flags, what the user may set in a folder where he has these rights (RFC 4314 §4). */
uint32_t rights_flags(unsigned rights, uint32_t flags);
/* Marks messages in a folder of others as seen by us. */
int place_mark_seen(
    struct session *, const struct place *, const struct uidset *uids, struct error *);
/* The name is in a name space of others. */
bool place_is_foreign(struct session *, struct slice name);
/* The nearest folder above this name that is shared with us, and what the owner calls the name. */
bool place_above(struct session *, struct slice name, struct place *, struct slice *theirs);
/* A share that we deleted or renamed, and others of its owner below it, are not there any more. */
void places_forget(struct session *, const struct share *, bool with_those_below);
/* What we share has changed: tells the spawner. */
void acl_changed(struct session *);
/* Of whose room a share takes: the name of the owner's quota root, which is that of his INBOX. */
void share_root(const struct share *, struct buf *);
/* A share of this root where the user may put something, as only he need know how much fits. */
bool place_of_root(struct session *, struct slice root, struct place *);
/* What the owner has, and his limits. ERR_TEMP: nobody can tell now. */
int share_totals(struct session *, const struct share *, struct quota_usage *, struct quota *limits,
    struct error *) MUST_USE;
/* ERR_QUOTA when so much is too much for the owner; ERR_TEMP. */
int share_room(struct session *, const struct share *, uint64_t bytes, uint64_t messages,
    struct error *) MUST_USE;
/* Has something done with folders of this owner, as libmail/proto/share.h says. *mailbox: number of
 * a folder made. ERR_NOT_FOUND, ERR_DENIED, ERR_EXISTS and the like; ERR_TEMP: not now. */
int share_change(struct session *, const struct share *, const struct share_what *,
    uint64_t *mailbox, struct error *) MUST_USE;
/* Closes the channel to the spawner. */
void share_hang_up(struct session *);
/* NO when messages of these sizes would be too much for the folder. */
bool command_fits(struct command *, const struct place *, uint64_t bytes, uint64_t messages);
