/* remote: passes mail on to other servers over SMTP and LMTP. */
#include "delivery/remote/events.h"
#include "delivery/remote/remote.h"
#include "libmail/proto/deliver.h"
#include "libutil/proto/dns.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_DELIVER,
        .side = IPC_SERVER,
        .proto = &deliver_proto,
        .on_message = remote_message,
        .on_down = remote_peer_down},
    {.conv = CONV_DNS, .side = IPC_CLIENT, .proto = &dns_proto},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_REMOTE,
    .profile = {.name = "remote",
        .account = "veredus-out",
        .root = SANDBOX_ROOT_EMPTY,
        .calls = SANDBOX_CONNECT},
    .convs = convs,
    .events = remote_events,
    .configure = remote_configure,
    .drain = remote_drain,
    .sessions = remote_sessions,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
