/*
 * Where one address goes. An address is resolved by a list of items: the address
 * itself, then whatever aliases turn it into. Each item passes, in this order:
 *
 *     virtual alias -> transport table (for our domains) -> by class of its domain:
 *       local, self   aliases(5), then an account of the host
 *       virtual       a mailbox authd knows, without +detail, the domain's catch-all
 *       (where the mailbox was found without it, the detail goes along as a folder's name)
 *       relay         the domain's relay
 *       other         only for who may relay, or behind an alias: transport table, relay-host, MX
 *     postmaster of any domain of ours is accepted always: the admin's, when nobody else's.
 *
 * An alias that names itself keeps a copy. What an alias NAME sends on is owner-NAME's, where there
 * is such an alias. Behind an alias, an address that does not exist does
 * not spoil the others: it becomes a recipient that the local agent returns to the sender.
 */
#pragma once

#include "brokers/lookupd/maps.h"
#include "libmail/proto/route.h"
#include "libutil/arena.h"

enum { ROUTE_DEPTH = 20, ROUTE_ITEMS = 5000 };

struct route;

enum route_question {
    ROUTE_MAILBOX, /* does a virtual mailbox with this address exist, and has it room */
    ROUTE_ACCOUNT  /* has the mailbox of this account room */
};
/* The answer comes by route_known, from the loop. */
typedef void route_ask_fn(struct route *, enum route_question, struct slice name, void *arg);
/* The verdict; its slices live until this returns. The route is freed afterwards. fault: the
 * configuration is to blame, and the reason is for the log. */
typedef void route_done_fn(
    struct route *, const struct route_verdict *, bool fault, const char *reason, void *arg);

struct route *route_new(
    struct maps *, const struct route_check *, route_ask_fn *, route_done_fn *, void *arg);
/* Begins; may call done before it returns. */
void route_run(struct route *);
/* The folder that mail for the mailbox asked for would go to, if it exists; empty: INBOX. */
struct slice route_folder(const struct route *);
/* The answer to ask: ERR_NOT_FOUND, OK with the directory, ERR_QUOTA with it (deliveries are
 * refused) or ERR_AGAIN (they wait) when it is full, or a temporary failure. */
void route_known(struct route *, int rc, struct slice directory);
