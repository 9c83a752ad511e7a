/* What route.c, which goes through the classes of domains, and alias.c share. */
#pragma once

#include "brokers/lookupd/hold.h"
#include "brokers/lookupd/route.h"
#include "libmail/address.h"
#include "libutil/list.h"

enum stage { STAGE_START, STAGE_EXACT, STAGE_PLAIN, STAGE_ACCOUNT };

struct item {
    struct list link;
    const struct item *parent; /* the alias it stands in; NULL: asked for */
    unsigned depth;
    struct address address; /* its local part normalised (libmail/nfc.h) */
    struct slice written;   /* as others get it */
    struct slice owner;           /* of the innermost list it stands in, or empty */
    bool keep_virtual;            /* names itself: virtual aliases are not looked up again */
    bool keep_alias;              /* the same for aliases(5) */
    enum stage stage;             /* of the questions to others */
    struct slice account, detail; /* while an agent is asked about its mailbox */
};

struct route {
    struct maps *maps;
    struct arena arena;
    struct list items;
    size_t nitems, nrecipients;
    struct item *current;
    struct slice original;
    struct slice client, sender; /* as asked */
    char hold[HOLD_TEXT];
    bool may_relay;
    struct map seen; /* recipients, for once each */
    struct buf recipients;
    bool finished;
    /* the first refusal */
    struct route_verdict verdict;
    bool fault;
    char reason[400];
    route_ask_fn *ask;
    route_done_fn *done;
    void *arg;
};

struct refusal {
    uint32_t code;
    const char *dsn, *rule, *text;
    bool fault;
};

extern const struct refusal route_table_trouble, route_alias_limit;

/* Remembers the first refusal; a temporary one outweighs a permanent one, since with it nothing
 * is decided yet. */
void route_refuse(struct route *, const struct refusal *, const char *reason);
/* One for the current item, once each. */
void route_add_recipient(
    struct route *, struct slice address, const char *transport, struct slice nexthop);
/* To be gone through later. NULL: refused. */
struct item *route_add_item(struct route *, const struct item *parent, const struct address *);
/* Whether the address is the item's, or that of an alias it stands in. */
bool route_in_chain(const struct item *, const struct address *);
/* Parses an address; a bare name gets the host's domain, "@domain" keeps the local part. */
int route_complete(
    struct route *, struct slice text, const struct item *parent, struct address *out) MUST_USE;
/* An account of the host: as written, else in lower case, else without +detail. */
void route_account(struct route *, struct item *);

/* --- alias.c --- */
/* A name of the host: aliases(5), else an account. */
void alias_route(struct route *, struct item *);
/* True when virtual aliases had a say. */
bool alias_route_virtual(struct route *, struct item *);
