#include "smtpd/own_address.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* Our end of the connection. A local submitter has none: loopback, as for anybody on this host. */
static bool is_our_end(const struct session *s, const struct net_addr *wanted)
{
    struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
    const struct sockaddr_in *in = (const void *)&ss;
    const struct sockaddr_in6 *in6 = (const void *)&ss;
    socklen_t n = sizeof(ss);
    if (getsockname(stream_fd(s->stream), (struct sockaddr *)&ss, &n) != 0)
        return false;
    if (ss.ss_family == AF_INET)
        return wanted->bits == 32 && memcmp(&in->sin_addr, wanted->bytes, 4) == 0;
    if (ss.ss_family != AF_INET6)
        return net_addr_is_loopback(wanted);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        return wanted->bits == 32 && memcmp(in6->sin6_addr.s6_addr + 12, wanted->bytes, 4) == 0;
    return wanted->bits == 128 && memcmp(&in6->sin6_addr, wanted->bytes, 16) == 0;
}

static bool listens_there(const struct service *v, const struct net_addr *wanted)
{
    struct net_listen place;
    struct net_addr addr;
    struct error err;
    return net_listen_parse(slice_of(v->address), &place, &err) == OK &&
           net_addr_parse(place.host, &addr) == OK && addr.bits == wanted->bits &&
           memcmp(addr.bytes, wanted->bytes, wanted->bits / 8) == 0;
}

bool own_address(const struct session *s, const struct address *a)
{
    struct net_addr wanted;
    if (!a->literal || net_addr_parse(address_domain(a), &wanted))
        return false;
    if (is_our_end(s, &wanted))
        return true;
    LIST_EACH(it, &s->server->services)
    {
        if (listens_there(LIST_ENTRY(it, struct service, link), &wanted))
            return true;
    }
    return false;
}
