/* bounce: writes reports about mail that was delivered, delayed or not delivered. */
#include "delivery/bounce/agent.h"
#include "delivery/bounce/events.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_DELIVER,
        .side = IPC_SERVER,
        .proto = &deliver_proto,
        .on_message = bounce_message,
        .on_down = bounce_peer_down},
    {.conv = CONV_INJECT, .side = IPC_CLIENT, .proto = &inject_proto},
    {.conv = CONV_ROUTE, .side = IPC_CLIENT, .proto = &route_proto},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_BOUNCE,
    .profile = {.name = "bounce", .account = "veredus", .root = SANDBOX_ROOT_EMPTY},
    .convs = convs,
    .events = bounce_events,
    .configure = bounce_configure,
    .drain = bounce_drain,
    .sessions = bounce_sessions,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
