/* qmgr: keeps accepted mail safe and sees to it that it is delivered. */
#include <unistd.h>

#include "qmgr/offline.h"
#include "qmgr/qmgr.h"
#include "qmgr/upgrade.h"
#include "qmgr/verify.h"

static const struct daemon_spec spec = {
    .role = ROLE_QMGR,
    .profile = {.name = "qmgr",
        .account = "veredus-q",
        .root = SANDBOX_ROOT_DIR,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_THREADS | SANDBOX_LEASE},
    .convs = qmgr_convs,
    .events = qmgr_events,
    .configure = qmgr_configure,
    .start = qmgr_start,
    .reconfigure = qmgr_reconfigure,
    .drain = qmgr_drain,
    .sessions = qmgr_sessions,
};

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--offline") == 0)
        return offline_serve(argv[2], STDIN_FILENO);
    if (argc >= 3 && strcmp(argv[1], "--verify") == 0)
        return verify_main(argv[2], argc > 3);
    if (argc >= 3 && strcmp(argv[1], "--format") == 0)
        return upgrade_main(argv[2], argc > 3 ? argv[3] : "");
    return daemon_run(&spec, argc, argv);
}
