/*
 * From a next hop to addresses in the order in which they are to be tried (RFC 5321 §5.1): MX
 * hosts by preference, equal ones shuffled, each with its IPv6 and IPv4 addresses; without MX
 * records the domain itself; a null MX refuses (RFC 7505); hosts at or behind ourselves in the
 * list are cut off.
 */
#pragma once

#include <sys/socket.h>

#include "delivery/remote/nexthop.h"
#include "delivery/remote/remote.h"

enum { ROUTE_HOSTS_MAX = 8, ROUTE_TARGETS_MAX = 12, TARGET_IP_MAX = 64 };

struct target {
    char host[NEXTHOP_HOST_MAX];
    char ip[TARGET_IP_MAX];
    struct sockaddr_storage address;
    socklen_t length;
};

enum route_status { ROUTE_FOUND, ROUTE_DEFERRED, ROUTE_FAILED };

struct route_result {
    enum route_status status;
    char dsn[16], text[400]; /* when not found */
    struct target targets[ROUTE_TARGETS_MAX];
    size_t count;
};

struct route;

typedef void route_fn(const struct route_result *, void *arg);

/* fn is called once, from the loop, unless cancelled. */
struct route *route_find(
    struct remote *, const struct nexthop *, uint64_t trace, route_fn *, void *arg);
void route_cancel(struct route *);
