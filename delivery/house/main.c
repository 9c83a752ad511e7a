/* house: goes through the mailboxes and does what time asks for. Never reads mail itself: a child
 * for each mailbox becomes its owner for good. */
#include "delivery/house/events.h"
#include "delivery/house/house.h"
#include "libmail/proto/auth.h"
#include "libmail/proto/notify.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_AUTH, .side = IPC_CLIENT, .proto = &auth_proto},
    {.conv = CONV_NOTIFY, .side = IPC_CLIENT, .proto = &notify_proto},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_HOUSE,
    .profile = {.name = "house",
        .account = "veredus-mail",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_FORK | SANDBOX_SETID |
                 SANDBOX_SOCKETPAIR | SANDBOX_INSTALL,
        .keep_caps = SANDBOX_CAP_SETUID | SANDBOX_CAP_SETGID,
        .uid_floor = HOUSE_UID_FLOOR,
        .gid_floor = 1}, /* an account's own group may be one of the system's */
    .convs = convs,
    .events = house_events,
    .configure = house_configure,
    .start = house_start,
    .drain = house_drain,
    .sessions = house_sessions,
    .children = house_children,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
