/* Items that stand for others: aliases(5) and virtual ones. */
#include "brokers/lookupd/route_parts.h"
#include "libmail/aliases.h"
#include "libmail/nexthop.h"

enum { INCLUDES = 5 };

static const struct refusal loop = {554, "5.4.6", "alias-loop", "The address leads back to itself",
                                true},
                            target = {554, "5.3.5", "alias-target",
                                "The address leads to what cannot receive mail", true};

static void add_member(
    struct route *r, struct item *item, const struct alias_member *m, bool is_virtual)
{
    struct address a;
    bool literal = m->kind == ALIAS_LITERAL;
    if (route_complete(r, m->text, item, &a)) {
        route_refuse(r, &target, "an alias names what is not an address");
        return;
    }
    bool self = slice_ieq(address_text(&a), address_text(&item->address));
    if (!self && !literal && route_in_chain(item, &a)) {
        route_refuse(r, &loop, "an alias loops");
        return;
    }
    struct item *child = route_add_item(r, item, &a);
    if (!child)
        return;
    child->keep_virtual = literal || (self && (is_virtual || item->keep_virtual));
    child->keep_alias = literal || (self && (!is_virtual || item->keep_alias));
}

/* |command and /file of aliases(5): as the account that the administrator chose for them. */
static void add_command(struct route *r, const struct item *item, const struct alias_member *m)
{
    struct slice user = conf_string(conf_one(r->maps->conf, "pipe"), "command-user");
    struct buf nexthop;
    if (m->kind == ALIAS_FILE && slice_is(m->text, "/dev/null")) {
        route_add_recipient(r, address_text(&item->address), "pipe", SLICE_LIT("discard:"));
        return;
    }
    if (user.n == 0) {
        route_refuse(r, &target, "an alias names a command or file, and command-user is not set");
        return;
    }
    buf_init(&nexthop, 1024);
    buf_printf(&nexthop, "%.*s//%s", SLICE_FMT(user), m->kind == ALIAS_COMMAND ? "|" : "");
    buf_put(&nexthop, m->text);
    if (nexthop.failed || m->text.n == 0 || memchr(m->text.p, '\0', m->text.n))
        route_refuse(r, &target, "an alias names too long a command or file, or an empty one");
    else
        route_add_recipient(r, address_text(&item->address), "pipe", buf_slice(&nexthop));
    buf_clear(&nexthop);
}

static void expand(
    struct route *r, struct item *item, struct slice members, bool is_virtual, unsigned includes);

static void include(struct route *r, struct item *item, struct slice path, unsigned includes)
{
    struct buf text;
    struct error err = {0};
    buf_init(&text, ALIAS_INCLUDE_MAX);
    r->maps->beyond++;
    if (alias_include(path, &text, &err))
        route_refuse(r, &route_table_trouble, err.text);
    else
        expand(r, item, buf_slice(&text), false, includes + 1);
    buf_clear(&text);
}

/* Whom a list names who is not its administrator, mail is sent to, and nothing else is done. */
static void expand(
    struct route *r, struct item *item, struct slice members, bool is_virtual, unsigned includes)
{
    unsigned flags = ALIAS_BLANKS | (includes ? ALIAS_COMMENTS : 0);
    struct alias_member m;
    while (alias_next(&members, flags, &m)) {
        if (m.kind == ALIAS_ADDRESS || (m.kind == ALIAS_LITERAL && !is_virtual))
            add_member(r, item, &m, is_virtual);
        else if (is_virtual)
            route_refuse(r, &target, "a virtual alias names what is not an address");
        else if (m.kind == ALIAS_INCLUDE && includes < INCLUDES)
            include(r, item, m.text, includes);
        else if (m.kind == ALIAS_INCLUDE)
            route_refuse(r, &route_alias_limit, "included files nest too deep");
        else if (includes)
            route_refuse(r, &target, "an included file names a command or a file");
        else
            add_command(r, item, &m);
    }
}

/* owner-NAME, where there is one, sends what NAME sends on (RFC 5321 §3.9). Mail of the null
 * sender stays so: what cannot be delivered of it must not come back to a list. */
static void find_owner(struct route *r, struct item *item, struct slice name)
{
    struct slice user, detail;
    struct address owner;
    struct error err = {0};
    struct buf key, value;
    if (r->sender.n == 0 || !alias_may_have_owner(name))
        return;
    buf_init(&key, ADDRESS_MAX + 8);
    buf_init(&value, TABLE_VALUE_MAX);
    address_split_detail(name, '+', &user, &detail);
    buf_puts(&key, "owner-");
    buf_put(&key, user);
    int rc = maps_alias(r->maps, buf_slice(&key), &value, &err);
    if (rc && rc != ERR_NOT_FOUND)
        route_refuse(r, &route_table_trouble, err.text);
    else if (!rc && !address_make(&owner, buf_slice(&key), address_domain(&item->address)))
        item->owner = arena_dup(&r->arena, address_text(&owner));
    buf_clear(&key);
    buf_clear(&value);
}

void alias_route(struct route *r, struct item *item)
{
    struct buf value;
    struct error err = {0};
    char plain[ADDRESS_MAX + 1];
    buf_init(&value, TABLE_VALUE_MAX);
    struct slice name = address_local_plain(&item->address, plain);
    int rc = item->keep_alias ? ERR_NOT_FOUND : maps_alias(r->maps, name, &value, &err);
    if (rc == OK) {
        find_owner(r, item, name);
        expand(r, item, buf_slice(&value), false, 0);
    } else if (rc == ERR_NOT_FOUND) {
        route_account(r, item);
    } else {
        route_refuse(r, &route_table_trouble, err.text);
    }
    buf_clear(&value);
}

bool alias_route_virtual(struct route *r, struct item *item)
{
    struct buf value;
    struct error err = {0};
    buf_init(&value, TABLE_VALUE_MAX);
    int rc = item->keep_virtual ? ERR_NOT_FOUND
                                : maps_virtual_alias(r->maps, address_local(&item->address),
                                      address_domain(&item->address), &value, &err);
    if (rc == OK)
        expand(r, item, buf_slice(&value), true, 0);
    else if (rc != ERR_NOT_FOUND)
        route_refuse(r, &route_table_trouble, err.text);
    buf_clear(&value);
    return rc != ERR_NOT_FOUND;
}
