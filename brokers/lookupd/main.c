/* lookupd: tables and routing. It has no network and sees no password. */
#include "brokers/lookupd/events.h"
#include "brokers/lookupd/server.h"
#include "libmail/proto/auth.h"
#include "libmail/proto/quota.h"
#include "libmail/proto/route.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_ROUTE,
        .side = IPC_SERVER,
        .proto = &route_proto,
        .on_message = server_message,
        .on_up = server_peer_up,
        .on_down = server_peer_down},
    {.conv = CONV_AUTH,
        .side = IPC_CLIENT,
        .proto = &auth_proto,
        .on_message = server_authd,
        .on_up = server_authd_change,
        .on_down = server_authd_change},
    {.conv = CONV_QUOTA, .side = IPC_CLIENT, .proto = &quota_proto},
    {.proto = NULL},
};

/* No chroot: tables may lie anywhere and are read again when they change. Landlock confines it
 * to their directories, and to /etc when there are local domains. */
static const struct daemon_spec spec = {
    .role = ROLE_LOOKUPD,
    .profile = {.name = "lookupd",
        .account = "veredus-map",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ},
    .convs = convs,
    .events = lookupd_events,
    .configure = server_configure,
    .start = server_start,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
