/* virtual: delivers to virtual mailboxes below the mail root, without any capability. */
#include "delivery/virtual/events.h"
#include "delivery/virtual/virtual.h"
#include "libmail/proto/deliver.h"
#include "libmail/proto/notify.h"
#include "libmail/proto/quota.h"
#include "libmail/proto/share.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_DELIVER,
        .side = IPC_SERVER,
        .proto = &deliver_proto,
        .on_message = virtual_message,
        .on_down = virtual_down},
    {.conv = CONV_QUOTA, .side = IPC_SERVER, .proto = &quota_proto, .on_message = virtual_quota},
    {.conv = CONV_SHARE, .side = IPC_SERVER, .proto = &share_proto, .on_message = virtual_share},
    {.conv = CONV_NOTIFY, .side = IPC_CLIENT, .proto = &notify_proto},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_VIRTUAL,
    .profile = {.name = "virtual",
        .account = "veredus-mail",
        .root = SANDBOX_ROOT_DIR,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_THREADS},
    .convs = convs,
    .events = virtual_events,
    .configure = virtual_configure,
    .drain = virtual_drain,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
