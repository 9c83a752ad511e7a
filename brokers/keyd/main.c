/* keyd: holds the private keys and signs TLS handshakes for processes that must not. */
#include "brokers/keyd/events.h"
#include "brokers/keyd/server.h"
#include "libutil/daemon.h"
#include "libutil/proto/sign.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_SIGN, .side = IPC_SERVER, .proto = &sign_proto, .on_message = server_request},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_KEYD,
    .profile = {.name = "keyd",
        .account = "veredus-key",
        .root = SANDBOX_ROOT_EMPTY,
        .max_files = 1024},
    .convs = convs,
    .events = keyd_events,
    .configure = server_configure,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
