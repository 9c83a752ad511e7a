/* The registry's rules between keys. */
#include "libutil/conf_internal.h"
#include "libutil/map.h"
#include "libutil/net.h"

struct checker {
    const struct conf *conf;
    struct conf_report report;
};

/* --- what one value implies for another ------------------------------------------------------- */
static void imply(struct conf *c, struct conf_block *b, const char *name, struct slice value)
{
    if (conf_entry_find(b, name))
        return;
    struct conf_entry *e = ARENA_NEW(&c->arena, struct conf_entry);
    struct slice *word = ARENA_NEW(&c->arena, struct slice);
    assert(e && word);
    *word = value;
    *e = (struct conf_entry){.key = conf_key_find(b->schema, slice_of(name)),
        .words = word,
        .nwords = 1,
        .file = "implied"};
    struct error err;
    if (conf_value_check(&c->arena, c->directory, e, &err) == OK)
        conf_add_entry(b, e);
}

void conf_settle(struct conf *c)
{
    for (struct conf_block *b = c->root->children; b; b = b->next) {
        if (strcmp(b->key->name, "listen") != 0 || b->nargs == 0)
            continue;
        imply(c, b, "protocol", b->args[0]);
        const struct conf_entry *protocol = conf_entry_find(b, "protocol");
        bool submission = protocol && slice_is(protocol->words[0], "submission");
        imply(c, b, "auth", submission ? SLICE_LIT("required") : SLICE_LIT("none"));
    }
}

/* --- required keys ---------------------------------------------------------------------------- */
static void check_required(struct checker *k, const struct conf_block *b)
{
    for (const struct conf_key *key = b->schema->keys; key->name; key++) {
        if (!key->required || conf_entry_find(b, key->name))
            continue;
        if (b->key)
            conf_complain(&k->report, b->where.p, 0, "%s: its key %s is missing, as in: %s %s",
                b->key->name, key->name, key->name, key->example);
        else
            conf_complain(&k->report, k->conf->file, 0, "the key %s is missing, as in: %s %s",
                key->name, key->name, key->example);
    }
    for (const struct conf_block *c = b->children; c; c = c->next)
        check_required(k, c);
}

/* --- listeners -------------------------------------------------------------------------------- */
/* Names, and addresses as HOST:PORT, seen so far; values are the blocks. */
struct listeners {
    struct map names, places, ports;
};

static void check_place(
    struct checker *k, struct listeners *seen, const struct conf_block *b, struct slice word)
{
    struct net_listen on;
    char place[160], port[16];
    if (net_listen_parse(word, &on, NULL))
        return;
    snprintf(place, sizeof(place), "%.*s:%u", SLICE_FMT(slice_first(on.host, 100)), on.port);
    snprintf(port, sizeof(port), "%u", on.port);
    bool any = slice_is(on.host, "*");
    const struct conf_block *other = map_get(&seen->places, slice_of(place));
    if (!other && any)
        other = map_get(&seen->ports, slice_of(port));
    if (!other) {
        snprintf(place, sizeof(place), "*:%u", on.port);
        other = map_get(&seen->places, slice_of(place));
    }
    if (other)
        conf_complain(&k->report, b->where.p, 0,
            "listen: on: %.*s is in use already by the block at %s", SLICE_FMT(word),
            other->where.p);
    snprintf(place, sizeof(place), "%.*s:%u", SLICE_FMT(slice_first(on.host, 100)), on.port);
    map_set(&seen->places, slice_of(place), (void *)(uintptr_t)b);
    map_set(&seen->ports, slice_of(port), (void *)(uintptr_t)b);
    if (on.tls && !conf_isset(conf_one(k->conf, "tls"), "cert"))
        conf_complain(&k->report, b->where.p, 0,
            "listen: on: %.*s asks for TLS, but tls { cert ...; key ... } is not set",
            SLICE_FMT(word));
}

static void check_listener(struct checker *k, struct listeners *seen, const struct conf_block *b)
{
    const char *where = b->where.p;
    struct slice name = conf_arg(b, 0), tls = conf_string(b, "tls");
    bool cert = conf_isset(conf_one(k->conf, "tls"), "cert");
    const struct conf_block *other = map_set(&seen->names, name, (void *)(uintptr_t)b);
    if (other)
        conf_complain(&k->report, where, 0, "listen: the name %.*s is used already at %s",
            SLICE_FMT(name), other->where.p);
    if (name.n == 0 || name.n > 63)
        conf_complain(&k->report, where, 0, "listen: its name must have 1 to 63 bytes");
    if (!conf_string(b, "protocol").p)
        conf_complain(&k->report, where, 0,
            "listen: protocol is missing: must be one of smtp, submission, lmtp, imap, pop3");
    for (size_t i = 0; i < conf_list_len(b, "on"); i++)
        check_place(k, seen, b, conf_list_at(b, "on", i));
    if (slice_is(tls, "required") && !cert)
        conf_complain(&k->report, where, 0,
            "listen: tls: required, but tls { cert ...; key ... } is not set");
    bool no_tls = slice_is(tls, "none") || !cert;
    if (no_tls && slice_is(conf_string(b, "auth"), "required") &&
        slice_is(conf_string(b, "plaintext-auth"), "never"))
        conf_complain(&k->report, where, 0,
            "listen: auth: required, but nobody can log in: no TLS, and plaintext-auth is never");
}

static void check_listeners(struct checker *k)
{
    struct listeners seen;
    map_init(&seen.names);
    map_init(&seen.places);
    map_init(&seen.ports);
    for (const struct conf_block *b = NULL; (b = conf_next(k->conf->root, "listen", b));)
        check_listener(k, &seen, b);
    map_clear(&seen.names);
    map_clear(&seen.places);
    map_clear(&seen.ports);
}

/* --- the rest --------------------------------------------------------------------------------- */
static void check_domain_name(
    struct checker *k, struct map *seen, const struct conf_block *b, struct slice name)
{
    char lower[256];
    if (!net_is_domain(name) || !slice_to_cstr(name, lower, sizeof(lower))) {
        conf_complain(&k->report, b->where.p, 0, "%s: '%.*s' is not a domain name", b->key->name,
            SLICE_FMT(slice_first(name, 80)));
        return;
    }
    ascii_lower(lower, strlen(lower));
    const struct conf_block *other = map_set(seen, slice_of(lower), (void *)(uintptr_t)b);
    if (other)
        conf_complain(&k->report, b->where.p, 0, "%s: %s is given already at %s", b->key->name,
            lower, other->where.p);
}

/* All the other keys are about mailboxes. */
static void check_relayed(struct checker *k, const struct conf_block *b)
{
    for (const struct conf_key *key = b->schema->keys; key->name; key++) {
        bool set = key->type == CONF_BLOCK ? conf_next(b, key->name, NULL) != NULL
                                           : conf_isset(b, key->name);
        if (set && strcmp(key->name, "relay") != 0)
            conf_complain(&k->report, b->where.p, 0,
                "domain: with relay, no mail is kept here: %s cannot be set", key->name);
    }
}

static void check_domains(struct checker *k)
{
    struct map seen;
    map_init(&seen);
    for (const struct conf_block *b = NULL; (b = conf_next(k->conf->root, "domain", b));) {
        for (size_t i = 0; i < conf_args(b); i++)
            check_domain_name(k, &seen, b, conf_arg(b, i));
        if (conf_isset(b, "relay"))
            check_relayed(k, b);
    }
    const struct conf_block *local = conf_one(k->conf, "local");
    for (size_t i = 0; i < conf_list_len(local, "domains"); i++)
        check_domain_name(k, &seen, local, conf_list_at(local, "domains", i));
    map_clear(&seen);
}

/* Blocks that name a transport. */
static void check_transports(struct checker *k)
{
    static const char *const known[] = {"remote", "virtual", "local", "pipe"};
    for (const struct conf_block *b = NULL; (b = conf_next(conf_root(k->conf), "agent", b));) {
        for (size_t i = 0; i < conf_args(b); i++) {
            size_t n = 0;
            while (n < ARRAY_LEN(known) && !slice_is(conf_arg(b, i), known[n]))
                n++;
            if (n == ARRAY_LEN(known))
                conf_complain(&k->report, b->where.p, 0,
                    "agent: '%.*s' must be one of remote, virtual, local, pipe",
                    SLICE_FMT(conf_arg(b, i)));
        }
        if (conf_isset(b, "retry-from") && conf_isset(b, "retry-to") &&
            conf_int(b, "retry-from") > conf_int(b, "retry-to"))
            conf_complain(&k->report, b->where.p, 0, "agent: retry-from is longer than retry-to");
    }
}

static void check_others(struct checker *k)
{
    const struct conf_block *tls = conf_one(k->conf, "tls"), *out = conf_one(k->conf, "outbound"),
                            *log = conf_one(k->conf, "log");
    if (conf_isset(tls, "cert") != conf_isset(tls, "key"))
        conf_complain(&k->report, tls->where.p, 0, "tls: %s is missing: cert and key go together",
            conf_isset(tls, "cert") ? "key" : "cert");
    if (conf_int(out, "retry-from") > conf_int(out, "retry-to"))
        conf_complain(&k->report, out->where.p, 0, "outbound: retry-from is longer than retry-to");
    if (conf_list_len(log, "to") != 2 || !slice_is(conf_list_at(log, "to", 0), "file"))
        conf_complain(&k->report, log->where.p, 0, "log: to: must be: to file PATH");
}

int conf_check(const struct conf *c, struct buf *errors, struct error *err)
{
    struct checker k = {.conf = c, .report = {.lines = errors, .err = err}};
    check_required(&k, c->root);
    check_listeners(&k);
    check_domains(&k);
    check_transports(&k);
    check_others(&k);
    return k.report.count ? ERR_SYNTAX : OK;
}
