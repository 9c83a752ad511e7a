/* local: delivers to accounts of this host. Never reads mail itself: a child for each delivery
 * becomes the recipient for good. */
#include "delivery/local/events.h"
#include "delivery/local/local.h"
#include "libmail/proto/notify.h"
#include "libmail/proto/quota.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_DELIVER,
        .side = IPC_SERVER,
        .proto = &deliver_proto,
        .on_message = delivery_message,
        .on_down = delivery_peer_down},
    {.conv = CONV_NOTIFY, .side = IPC_CLIENT, .proto = &notify_proto},
    {.conv = CONV_QUOTA,
        .side = IPC_SERVER,
        .proto = &quota_proto,
        .on_message = local_room,
        .on_down = local_room_down},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_LOCAL,
    .profile = {.name = "local",
        .account = "veredus-mail",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_FORK | SANDBOX_SETID |
                 SANDBOX_SOCKETPAIR | SANDBOX_INSTALL,
        .keep_caps = SANDBOX_CAP_SETUID | SANDBOX_CAP_SETGID,
        .uid_floor = LOCAL_UID_FLOOR,
        .gid_floor = 1}, /* group mail, for a directory of mbox files */
    .convs = convs,
    .events = local_events,
    .configure = local_configure,
    .start = delivery_start,
    .drain = delivery_drain,
    .sessions = delivery_sessions,
    .children = delivery_children,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
