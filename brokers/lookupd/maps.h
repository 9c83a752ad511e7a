/* What the configuration and the tables say about addresses; no decisions. */
#pragma once

#include "libmail/report_texts.h"
#include "libmail/users.h"
#include "libutil/accounts.h"
#include "libutil/conf.h"
#include "libutil/map.h"
#include "libutil/table.h"

enum domain_class {
    DOMAIN_OTHER,   /* not ours */
    DOMAIN_SELF,    /* our host name, not configured otherwise */
    DOMAIN_LOCAL,   /* accounts of this host */
    DOMAIN_VIRTUAL, /* mailboxes under the mail root */
    DOMAIN_RELAY    /* passed on */
};

struct maps {
    const struct conf *conf;
    const struct conf_block *local;
    struct map domains; /* name -> its block */
    struct table *aliases, *virtual_aliases, *transport, *hold, *report_texts; /* NULL: not set */
    struct accounts *accounts; /* NULL: no local domains */
    char limits[USERS_LIMITS]; /* what an account may keep; empty: no limits */
    struct map directories;    /* set of paths */
    uint64_t beyond;           /* look-ups so far in what is no table: accounts, included files */
    const char **read;         /* the same as a NULL-ended list, for Landlock */
};

/* etc: where passwd is, "/etc" but in tests. */
struct maps *maps_new(const struct conf *, const char *etc, struct error *);
void maps_free(struct maps *);

enum domain_class maps_class(
    const struct maps *, struct slice domain, const struct conf_block **block);
/* The host's domain for bare names: the first local one, else the host name. */
struct slice maps_home_domain(const struct maps *);

/* Lookups append to out. 0, ERR_NOT_FOUND, or a failure to be taken as temporary. */

/* user+detail@domain, user@domain, @domain; with `plus`, the detail is ignored second. */
int maps_virtual_alias(struct maps *, struct slice local, struct slice domain, struct buf *out,
    struct error *) MUST_USE;
int maps_alias(struct maps *, struct slice name, struct buf *out, struct error *) MUST_USE;
/* user@domain, domain, .parent and so on up. */
int maps_transport(struct maps *, struct slice address, struct slice domain, struct buf *out,
    struct error *) MUST_USE;
/* Whether the table of held mail has this key. */
int maps_hold(struct maps *, struct slice key, struct error *) MUST_USE;
/* Words of a report, as they stand in the table: in the first of these languages that it has them
 * in, or in none. */
int maps_report_text(struct maps *, unsigned kind, enum report_text, struct slice languages,
    struct buf *out, struct error *) MUST_USE;
/* An account that may receive mail. */
int maps_account(struct maps *, struct slice name, struct error *) MUST_USE;
