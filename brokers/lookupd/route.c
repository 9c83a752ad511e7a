#include "brokers/lookupd/route_parts.h"

#include "libmail/idn.h"
#include "libmail/nexthop.h"
#include "libmail/nfc.h"
#include "libutil/net.h"

enum { ARENA_CAP = 8 * 1024 * 1024, RECIPIENTS_MAX = 60000 };

const struct refusal route_table_trouble = {
    451, "4.3.0", "table", "The address cannot be looked up now, try later", true};
const struct refusal route_alias_limit = {
    554, "5.4.6", "alias-limit", "The address stands for too many others", true};

static const struct refusal
    unknown_user = {550, "5.1.1", "unknown-user", "No such user here", false},
    bad_domain = {550, "5.1.2", "bad-domain", "That domain cannot receive mail", false},
    bad_syntax = {501, "5.1.3", "syntax", "That is not an address", false},
    relay_denied = {554, "5.7.1", "relay-denied", "Relaying is not allowed: log in first", false},
    auth_trouble = {451, "4.3.0", "users", "The user cannot be looked up now, try later", false},
    over_quota = {552, "5.2.2", "quota", "That mailbox is full", false},
    over_quota_wait = {452, "4.2.2", "quota", "That mailbox is full, try later", false},
    bad_transport = {451, "4.3.5", "transport", "The address cannot be routed now, try later",
        true},
    no_admin = {451, "4.3.5", "no-admin", "No one is postmaster here yet, try later", true};

/* --- life ------------------------------------------------------------------------------------- */
struct route *route_new(struct maps *maps, const struct route_check *check, route_ask_fn *ask,
    route_done_fn *done, void *arg)
{
    struct route *r = NEW(struct route);
    r->maps = maps;
    r->ask = ask;
    r->done = done;
    r->arg = arg;
    r->may_relay = check->may_relay;
    arena_init(&r->arena, ARENA_CAP);
    list_init(&r->items);
    map_init(&r->seen);
    buf_init(&r->recipients, RECIPIENTS_MAX);
    r->original = arena_dup(&r->arena, check->address);
    r->client = arena_dup(&r->arena, check->client);
    r->sender = arena_dup(&r->arena, check->sender);
    return r;
}

/* For routes that nobody waits for any more. */
static void free_route(struct route *r)
{
    map_clear(&r->seen);
    buf_clear(&r->recipients);
    arena_reset(&r->arena);
    free(r);
}

static void finish(struct route *r, const struct route_verdict *verdict)
{
    r->finished = true;
    r->done(r, verdict, r->fault, r->reason, r->arg);
    free_route(r);
}

/* --- outcomes --------------------------------------------------------------------------------- */
void route_add_recipient(
    struct route *r, struct slice address, const char *transport, struct slice nexthop)
{
    char key[ENVELOPE_ADDRESS_MAX + 1100];
    int n = snprintf(key, sizeof(key), "%s %.*s", transport, SLICE_FMT(address));
    ascii_lower(key, strlen(key));
    if (strcmp(transport, "pipe") == 0) /* one alias may name several commands */
        n += snprintf(key + n, sizeof(key) - (size_t)n, " %.*s", SLICE_FMT(nexthop));
    struct slice k = slice_from(key, MIN((size_t)n, sizeof(key) - 1));
    if (map_get(&r->seen, k))
        return;
    map_set(&r->seen, k, r);
    struct recipient to = {.address = address,
        .original = r->original,
        .transport = slice_of(transport),
        .nexthop = nexthop,
        .owner = r->current->owner};
    if (record_put(&r->recipients, &recipient_record, &to))
        r->recipients.failed = true;
    r->nrecipients++;
}

/* For an agent with mailboxes: place, and the folder that +detail names. A detail too long for
 * a name of a folder is none. */
static void add_mailbox(struct route *r, const struct item *item, const char *transport,
    struct slice place, struct slice detail)
{
    struct buf nexthop;
    buf_init(&nexthop, 1024);
    nexthop_join(&nexthop, place, detail.n <= 255 ? detail : SLICE_LIT(""));
    if (nexthop.failed) {
        buf_reset(&nexthop);
        buf_put(&nexthop, place);
    }
    route_add_recipient(r, address_text(&item->address), transport, buf_slice(&nexthop));
    buf_clear(&nexthop);
}

static bool is_temporary(const struct refusal *why)
{
    return why->code < 500;
}

void route_refuse(struct route *r, const struct refusal *why, const char *reason)
{
    const struct item *item = r->current;
    bool first = r->verdict.code == 0 || (r->verdict.code >= 500 && is_temporary(why));
    if (first) {
        r->verdict = (struct route_verdict){.code = why->code,
            .dsn = slice_of(why->dsn),
            .rule = slice_of(why->rule),
            .text = slice_of(why->text)};
        r->fault = why->fault;
        struct slice at = item ? address_text(&item->address) : SLICE_LIT("");
        snprintf(r->reason, sizeof(r->reason), "%s%s%.*s", reason ? reason : why->text,
            at.n ? ": " : "", SLICE_FMT(at));
    }
    bool lost = why == &unknown_user || why == &bad_domain;
    if (item && item->parent && lost) {
        /* No account has a name with an @ in it: the local agent returns it. */
        struct slice text = address_text(&item->address);
        route_add_recipient(r, text, "local", text);
    }
}

/* Whether the message is to be held, for mail from clients only: what we send ourselves has been
 * judged when it came. False: the table cannot be read. */
static bool judge_hold(struct route *r, struct route_verdict *verdict)
{
    struct error err = {0};
    struct hold_case message = {r->client, r->sender, r->original};
    int rc = hold_find(r->maps, &message, r->hold, &err);
    if (rc == OK)
        verdict->hold = slice_of(r->hold);
    if (rc == OK || rc == ERR_NOT_FOUND)
        return true;
    r->verdict.code = 0;
    r->current = NULL;
    route_refuse(r, &route_table_trouble, err.text);
    return false;
}

static void conclude(struct route *r)
{
    struct route_verdict ok = {.code = 250,
        .dsn = SLICE_LIT("2.1.5"),
        .text = SLICE_LIT("Recipient accepted"),
        .recipients = buf_slice(&r->recipients)};
    if (r->recipients.failed) {
        r->verdict.code = 0;
        r->current = NULL;
        route_refuse(r, &route_alias_limit, "too many recipients");
        finish(r, &r->verdict);
        return;
    }
    bool lost = r->verdict.code == 550;
    bool delivers = r->nrecipients > 0 && (r->verdict.code == 0 || lost);
    /* Only recipients that will be returned: better refused now. */
    for (struct reader in = reader_of(ok.recipients); delivers && lost;) {
        struct recipient to = {0};
        struct slice place, folder;
        if (in.rest.n == 0) {
            delivers = false;
            break;
        }
        int rc = record_get(&in, &recipient_record, &to);
        nexthop_split(to.nexthop, &place, &folder);
        if (rc || slice_chr(place, '@') < 0 || !slice_is(to.transport, "local"))
            break;
    }
    delivers = delivers && judge_hold(r, &ok);
    finish(r, delivers ? &ok : &r->verdict);
}

/* --- items ------------------------------------------------------------------------------------ */
bool route_in_chain(const struct item *item, const struct address *a)
{
    struct address normal = *a;
    if (nfc_address(&normal) != OK)
        return false; /* no item has it */
    for (; item; item = item->parent)
        if (slice_ieq(address_text(&item->address), address_text(&normal)))
            return true;
    return false;
}

struct item *route_add_item(struct route *r, const struct item *parent, const struct address *a)
{
    if (parent && (parent->depth + 1 >= ROUTE_DEPTH || r->nitems >= ROUTE_ITEMS)) {
        route_refuse(r, &route_alias_limit, "aliases nested too deep, or too many");
        return NULL;
    }
    struct item *item = ARENA_NEW(&r->arena, struct item);
    if (!item) {
        route_refuse(r, &route_alias_limit, "too much for one address");
        return NULL;
    }
    item->parent = parent;
    item->depth = parent ? parent->depth + 1 : 0;
    item->address = *a;
    item->written = arena_dup(&r->arena, address_text(a));
    if (nfc_address(&item->address) != OK || !item->written.p) {
        route_refuse(r, &bad_syntax, "its local part has no normal form");
        return NULL;
    }
    item->owner = parent ? parent->owner : SLICE_LIT("");
    list_append(&r->items, &item->link);
    r->nitems++;
    return item;
}

int route_complete(
    struct route *r, struct slice text, const struct item *parent, struct address *out)
{
    if (parent && slice_starts(text, "@"))
        return address_make(out, address_local(&parent->address), slice_from_index(text, 1));
    int rc = address_parse(out, text, ADDRESS_UTF8 | ADDRESS_NO_DOMAIN);
    if (rc == OK)
        rc = idn_address(out);
    if (rc == OK && out->local == out->len) {
        char plain[ADDRESS_MAX + 1];
        struct address bare = *out;
        rc = address_make(out, address_local_plain(&bare, plain), maps_home_domain(r->maps));
    }
    return rc;
}

/* --- transports ------------------------------------------------------------------------------- */
/* "[smtp:|lmtp:]HOST" as the agent remote wants it; an empty host is the recipient's domain. */
static void to_remote(struct route *r, const struct item *item, struct slice spec)
{
    char nexthop[512];
    struct slice host;
    bool bracketed, lmtp = slice_starts(spec, "lmtp:");
    uint16_t port = 0;
    if (lmtp || slice_starts(spec, "smtp:"))
        spec = slice_from_index(spec, 5);
    if (spec.n == 0)
        spec = address_domain(&item->address);
    bool literal = address_is_literal(spec);
    if ((!literal && net_hostport_parse(spec, &host, &bracketed, &port)) || spec.n > 400) {
        route_refuse(r, &bad_transport, "a destination is not DOMAIN, [HOST] or [HOST]:PORT");
        return;
    }
    int n = snprintf(nexthop, sizeof(nexthop), "%s%.*s", lmtp ? "lmtp:" : "", SLICE_FMT(spec));
    route_add_recipient(r, item->written, "remote", slice_from(nexthop, (size_t)n));
}

/* A command block of the configuration. */
static void to_command(struct route *r, const struct item *item, struct slice name)
{
    char nexthop[512];
    if (name.n > 255) {
        route_refuse(r, &bad_transport, "pipe: names too long a block");
        return;
    }
    int n = snprintf(nexthop, sizeof(nexthop), "command:%.*s", SLICE_FMT(name));
    route_add_recipient(r, item->written, "pipe", slice_from(nexthop, (size_t)n));
}

static void check_mailbox(struct route *r, struct item *item);

/* Follows the transport table. False: it says nothing. */
static bool by_transport_table(struct route *r, struct item *item)
{
    struct buf value;
    struct error err = {0};
    buf_init(&value, TABLE_VALUE_MAX);
    int rc = maps_transport(
        r->maps, address_text(&item->address), address_domain(&item->address), &value, &err);
    struct slice spec = slice_trim(buf_slice(&value));
    if (rc == ERR_NOT_FOUND) {
        buf_clear(&value);
        return false;
    }
    if (rc)
        route_refuse(r, &route_table_trouble, err.text);
    else if (slice_starts(spec, "smtp:") || slice_starts(spec, "lmtp:"))
        to_remote(r, item, spec);
    else if (slice_starts(spec, "pipe:") && spec.n > 5)
        to_command(r, item, slice_from_index(spec, 5));
    else if (slice_is(spec, "virtual:"))
        check_mailbox(r, item);
    else if (slice_is(spec, "local:"))
        route_account(r, item);
    else
        route_refuse(
            r, &bad_transport, "a transport is not smtp:, lmtp:, pipe:, virtual: or local:");
    buf_clear(&value);
    return true;
}

/* --- classes ---------------------------------------------------------------------------------- */
static bool is_postmaster(const struct item *item)
{
    return slice_iis(address_local(&item->address), "postmaster");
}

/* Nobody has this address. */
static void nobody(struct route *r, struct item *item)
{
    struct slice admin = conf_string(conf_root(r->maps->conf), "admin");
    struct address a;
    if (!is_postmaster(item)) {
        route_refuse(r, &unknown_user, NULL);
    } else if (admin.n == 0 || route_complete(r, admin, NULL, &a) || route_in_chain(item, &a)) {
        route_refuse(r, &no_admin, "admin is not set, or leads to nobody");
    } else {
        route_add_item(r, item, &a);
    }
}

static struct slice without_detail(const struct item *item, struct slice *detail)
{
    struct slice user;
    address_split_detail(address_local(&item->address), '+', &user, detail);
    return user;
}

/* One asked for by itself may be refused for being full; behind an alias the delivery tells. */
static void found_account(
    struct route *r, struct item *item, struct slice user, struct slice detail)
{
    if (item->parent || !r->maps->limits[0]) {
        add_mailbox(r, item, "local", user, detail);
        return;
    }
    item->account = arena_dup(&r->arena, user);
    item->detail = arena_dup(&r->arena, detail);
    item->stage = STAGE_ACCOUNT;
    r->ask(r, ROUTE_ACCOUNT, item->account, r->arg);
}

void route_account(struct route *r, struct item *item)
{
    struct error err = {0};
    char plain[ADDRESS_MAX + 1], kept[ADDRESS_MAX + 1];
    struct slice user = address_local_plain(&item->address, plain), detail = {NULL, 0};
    struct slice written = address_local_plain(&item->address, kept), ignored;
    int rc = maps_account(r->maps, user, &err);
    if (rc == ERR_NOT_FOUND) {
        plain[user.n] = '\0';
        ascii_lower(plain, strlen(plain));
        rc = maps_account(r->maps, user, &err);
    }
    if (rc == ERR_NOT_FOUND) {
        address_split_detail(user, '+', &user, &ignored);
        address_split_detail(written, '+', &ignored, &detail); /* in its own case */
        rc = maps_account(r->maps, user, &err);
    }
    if (rc == OK)
        found_account(r, item, user, detail);
    else if (rc == ERR_NOT_FOUND)
        nobody(r, item);
    else
        route_refuse(r, &route_table_trouble, err.text);
}

static const struct conf_block *block_of(const struct route *r, const struct item *item)
{
    const struct conf_block *block;
    maps_class(r->maps, address_domain(&item->address), &block);
    return block;
}

/* Asks authd for the address, then for it without its detail. */
static void check_mailbox(struct route *r, struct item *item)
{
    const struct conf_block *block = block_of(r, item);
    struct slice domain = address_domain(&item->address), user, detail;
    char plain[ADDRESS_MAX + 1], text[ADDRESS_MAX * 2];
    if (!block || block == r->maps->local) {
        route_refuse(r, &bad_transport, "virtual: is for the domains of domain blocks");
        return;
    }
    item->stage++;
    if (item->stage == STAGE_PLAIN)
        user = without_detail(item, &detail);
    else
        user = address_local_plain(&item->address, plain);
    int n = snprintf(text, sizeof(text), "%.*s@%.*s", SLICE_FMT(user), SLICE_FMT(domain));
    r->ask(r, ROUTE_MAILBOX, slice_from(text, MIN((size_t)n, (size_t)255)), r->arg);
}

static bool has_detail(const struct route *r, const struct item *item)
{
    struct slice detail;
    return without_detail(item, &detail).n < address_local(&item->address).n &&
           conf_bool(block_of(r, item), "plus-address");
}

static void no_mailbox(struct route *r, struct item *item)
{
    struct slice catch_all = conf_string(block_of(r, item), "catch-all");
    struct address a;
    if (catch_all.n && !is_postmaster(item) && route_complete(r, catch_all, NULL, &a) == OK &&
        !route_in_chain(item, &a))
        route_add_item(r, item, &a);
    else
        nobody(r, item);
}

static void route_other(struct route *r, struct item *item)
{
    struct slice domain = address_domain(&item->address);
    struct slice relay_host = conf_string(conf_one(r->maps->conf, "outbound"), "relay-host");
    if (!r->may_relay && !item->parent)
        route_refuse(r, &relay_denied, NULL);
    else if (by_transport_table(r, item))
        return;
    else if (relay_host.n)
        to_remote(r, item, relay_host);
    else if (!address_is_literal(domain) && slice_chr(domain, '.') < 0)
        route_refuse(r, &bad_domain, NULL);
    else
        to_remote(r, item, domain);
}

static void step(struct route *r, struct item *item)
{
    const struct conf_block *block;
    if (alias_route_virtual(r, item))
        return;
    enum domain_class class = maps_class(r->maps, address_domain(&item->address), &block);
    if (class != DOMAIN_OTHER && by_transport_table(r, item))
        return;
    switch (class) {
    case DOMAIN_LOCAL:
    case DOMAIN_SELF:
        alias_route(r, item);
        break;
    case DOMAIN_VIRTUAL:
        check_mailbox(r, item);
        break;
    case DOMAIN_RELAY:
        to_remote(r, item, conf_string(block, "relay"));
        break;
    case DOMAIN_OTHER:
        route_other(r, item);
        break;
    }
}

/* --- the machine ------------------------------------------------------------------------------ */
/* Works until a question is out or nothing is left. */
static void work(struct route *r)
{
    while (!list_empty(&r->items)) {
        struct item *item = LIST_ENTRY(r->items.next, struct item, link);
        list_remove(&item->link);
        r->current = item;
        step(r, item);
        if (item->stage != STAGE_START)
            return;
    }
    conclude(r);
}

void route_run(struct route *r)
{
    struct address a;
    if (!r->original.p || route_complete(r, r->original, NULL, &a)) {
        route_refuse(r, &bad_syntax, NULL);
        finish(r, &r->verdict);
        return;
    }
    route_add_item(r, NULL, &a);
    work(r);
}

struct slice route_folder(const struct route *r)
{
    struct slice detail = {NULL, 0};
    if (r->current->stage == STAGE_PLAIN)
        without_detail(r->current, &detail);
    else if (r->current->stage == STAGE_ACCOUNT)
        detail = r->current->detail;
    return detail.n <= 255 ? detail : (struct slice){NULL, 0};
}

void route_known(struct route *r, int rc, struct slice directory)
{
    struct item *item = r->current;
    if (rc == ERR_NOT_FOUND && item->stage == STAGE_EXACT && has_detail(r, item)) {
        check_mailbox(r, item);
        return;
    }
    struct slice detail = {NULL, 0};
    if (item->stage == STAGE_PLAIN)
        without_detail(item, &detail);
    bool account = item->stage == STAGE_ACCOUNT;
    /* Behind an alias, a full mailbox must not spoil the others: it is refused at delivery. */
    bool full = rc == ERR_QUOTA || rc == ERR_AGAIN;
    if (full && !item->parent)
        route_refuse(r, rc == ERR_QUOTA ? &over_quota : &over_quota_wait, NULL);
    else if (account)
        add_mailbox(r, item, "local", item->account, item->detail);
    else if (rc == OK || full)
        add_mailbox(r, item, "virtual", directory, detail);
    else if (rc == ERR_NOT_FOUND)
        no_mailbox(r, item);
    else
        route_refuse(r, &auth_trouble, "authd does not answer, or cannot read its table");
    work(r);
}
