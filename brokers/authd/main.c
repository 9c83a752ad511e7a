/* authd: credentials. The only process that sees password hashes; it has no network. */
#include "brokers/authd/events.h"
#include "brokers/authd/server.h"
#include "libmail/proto/auth.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_AUTH,
        .side = IPC_SERVER,
        .proto = &auth_proto,
        .on_message = server_message,
        .on_down = server_peer_down},
    {.proto = NULL},
};

/* No chroot: tables may lie anywhere and are read again when they change. Landlock confines it
 * to their directories, and to /etc when system users may log in. */
static const struct daemon_spec spec = {
    .role = ROLE_AUTHD,
    .profile = {.name = "authd",
        .account = "veredus-auth",
        .root = SANDBOX_ROOT_HOST,
        .calls = SANDBOX_FILES_READ | SANDBOX_THREADS},
    .convs = convs,
    .events = authd_events,
    .configure = server_configure,
    .start = server_start,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
