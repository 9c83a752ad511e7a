/* pipe: runs commands that get mail. A child for each delivery becomes the user for good. */
#include "delivery/pipe/agent.h"
#include "delivery/pipe/events.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_DELIVER,
        .side = IPC_SERVER,
        .proto = &deliver_proto,
        .on_message = delivery_message,
        .on_down = delivery_peer_down},
    {.proto = NULL},
};

/* Accounts of commands in the configuration may be any but root: some lists have low ones. */
static const struct daemon_spec spec = {
    .role = ROLE_PIPE,
    .profile = {.name = "pipe",
        .account = "veredus-mail",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_FORK | SANDBOX_SETID |
                 SANDBOX_SOCKETPAIR | SANDBOX_EXEC,
        .keep_caps = SANDBOX_CAP_SETUID | SANDBOX_CAP_SETGID,
        .uid_floor = 1},
    .convs = convs,
    .events = pipe_events,
    .configure = pipe_configure,
    .start = delivery_start,
    .drain = delivery_drain,
    .sessions = delivery_sessions,
    .children = delivery_children,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
