#include "libmail/proto/route.h"

IPC_DEFINE(route, ROUTE_PROTO)
