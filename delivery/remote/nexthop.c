#include "delivery/remote/nexthop.h"

#include "libutil/net.h"

int nexthop_parse(struct slice s, uint16_t smtp_port, struct nexthop *hop, struct error *err)
{
    struct slice whole = s, host;
    struct net_addr address;
    bool bracketed;
    *hop = (struct nexthop){.lmtp = slice_istarts(s, "lmtp:")};
    hop->port = hop->lmtp ? LMTP_PORT : smtp_port;
    if (hop->lmtp || slice_istarts(s, "smtp:"))
        s = slice_from_index(s, 5);
    if (net_hostport_parse(s, &host, &bracketed, &hop->port) != OK)
        goto bad;
    if (slice_istarts(host, "IPv6:"))
        host = slice_from_index(host, 5);
    bool literal = net_addr_parse(host, &address) == OK;
    if (!literal && !net_is_domain(host))
        goto bad;
    if (!slice_to_cstr(host, hop->host, sizeof(hop->host)))
        goto bad;
    hop->mx = !bracketed && !literal && !hop->lmtp;
    return OK;
bad:
    return error_set(err, ERR_SYNTAX, "%.*s is no next hop", (int)MIN(whole.n, 200), whole.p);
}
