/* dnsd: the resolver; beside remote the only process that opens sockets. */
#include "brokers/dnsd/events.h"
#include "brokers/dnsd/server.h"
#include "libutil/daemon.h"
#include "libutil/proto/dns.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_DNS,
        .side = IPC_SERVER,
        .proto = &dns_proto,
        .on_message = server_request,
        .on_up = server_peer_up,
        .on_down = server_peer_down},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_DNSD,
    .profile = {.name = "dnsd",
        .account = "veredus-dns",
        .root = SANDBOX_ROOT_EMPTY,
        .calls = SANDBOX_CONNECT},
    .convs = convs,
    .events = dnsd_events,
    .configure = server_configure,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
