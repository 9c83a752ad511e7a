#include "brokers/lookupd/hold.h"

#include "libmail/address.h"

/* The address, then what is in front of each of its dots or colons: a network. */
static int find_client(struct maps *maps, struct slice client, struct slice *key, struct error *err)
{
    for (*key = client; key->n > 0;) {
        int rc = maps_hold(maps, *key, err);
        if (rc != ERR_NOT_FOUND)
            return rc;
        ptrdiff_t dot = slice_rchr(*key, '.'), colon = slice_rchr(*key, ':');
        *key = slice_first(*key, (size_t)MAX(MAX(dot, colon), (ptrdiff_t)0));
    }
    return ERR_NOT_FOUND;
}

/* The address, then its domain. */
static int find_address(
    struct maps *maps, struct slice address, struct slice *key, struct error *err)
{
    struct slice local;
    *key = address;
    int rc = maps_hold(maps, address, err);
    if (rc == ERR_NOT_FOUND && address_cut(address, &local, key))
        rc = maps_hold(maps, *key, err);
    return rc;
}

int hold_find(struct maps *maps, const struct hold_case *c, char out[HOLD_TEXT], struct error *err)
{
    struct slice key;
    const char *kind = "client";
    if (c->client.n == 0 || !maps->hold)
        return ERR_NOT_FOUND;
    int rc = find_client(maps, c->client, &key, err);
    if (rc == ERR_NOT_FOUND) {
        kind = "sender";
        rc = find_address(maps, c->sender.n ? c->sender : SLICE_LIT("<>"), &key, err);
    }
    if (rc == ERR_NOT_FOUND) {
        kind = "recipient";
        rc = find_address(maps, c->recipient, &key, err);
    }
    if (rc == OK)
        snprintf(out, HOLD_TEXT, "%s=%.*s", kind, SLICE_FMT(key));
    return rc;
}
