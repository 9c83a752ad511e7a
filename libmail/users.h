/*
 * Who there is. A login name becomes a user: canonical name, password hash, mail directory.
 *
 * Virtual users stand in the users table under their address:
 *     user@domain: HASH[:DIRECTORY[:FIELDS]]
 * FIELDS, separated by spaces: quota=SIZE quota-messages=N (0: no limit), instead of the
 * domain's.
 * System users are accounts of the host; their addresses are name@ any domain of local.domains,
 * and their password stands in the users table under the bare name or one of these addresses.
 * A HASH that begins with '!' is disabled. DIRECTORY, relative to mail-root, overrides the
 * domain's store template.
 */
#pragma once

#include "libutil/accounts.h"
#include "libutil/conf.h"
#include "libutil/table.h"

struct users;

enum { USERS_LIMITS = 1025 };

struct user {
    char name[256]; /* canonical, lower case */
    char hash[512]; /* wiped with user_wipe */
    bool disabled;
    bool system;
    bool coexist;     /* other programs use the mailbox too: system users', and of such domains */
    int64_t uid, gid; /* -1: virtual */
    char mail[1024];  /* virtual: relative to the mail root; system: absolute, empty for mbox */
    char quota[USERS_LIMITS]; /* limits, as libstore/quota.h reads them; empty: none */
};

/* etc: where passwd is, "/etc" but in tests. */
struct users *users_new(const struct conf *, const char *etc, struct error *);
void users_free(struct users *);
/* Directories that lookups read, for Landlock: NULL-ended, owned by users. */
const char *const *users_directories(const struct users *);

/* The user who logs in by this name. 0, ERR_NOT_FOUND, ERR_SYNTAX when the entry is malformed,
 * else a temporary failure. */
int users_login(struct users *, struct slice login, struct user *, struct error *) MUST_USE;
/* The same, but an account of the host need not have an entry with a password: whose mail it is. */
int users_owner(struct users *, struct slice name, struct user *, struct error *) MUST_USE;
/* The limits of every account of the host, from the block `local`; empty: none. */
int users_limits(const struct conf_block *, char out[USERS_LIMITS], struct error *) MUST_USE;
/* The virtual mailbox with this address; the same codes. */
int users_mailbox(struct users *, struct slice address, struct user *, struct error *) MUST_USE;
/* Everybody who may have a mailbox, by canonical name, sorted, each once; whether they have one,
 * users_owner tells. *names and what it holds are the caller's (users_names_free). */
int users_names(struct users *, char ***names, size_t *n, struct error *) MUST_USE;
void users_names_free(char **names, size_t n);
/* Changes when the table may have changed. */
uint64_t users_generation(struct users *);
/* See table_mark: what mailboxes there are depends on nothing else but the configuration. */
int users_mark(struct users *, uint64_t generation, struct filemark *, struct error *) MUST_USE;
/* The hash of some user, to spend as much time on names that do not exist; false: there is none. */
bool users_any_hash(struct users *, char *out, size_t size);
void user_wipe(struct user *);
