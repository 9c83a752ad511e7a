/* imap-session: logged-in IMAP connections, a process each. */
#include "imapd/session/events.h"
#include "imapd/session/session.h"
#include "libmail/spawner.h"

static const struct spawner_kind kind = {"imap", session_run, NULL};

static int configure(struct daemon *d, struct error *err)
{
    return spawner_configure(d, &kind, err);
}

int main(int argc, char **argv)
{
    static const struct daemon_spec spec = {
        .role = ROLE_IMAP_SESSION,
        .profile = SPAWNER_PROFILE("imap-session"),
        .convs = spawner_convs,
        .events = imap_events,
        .configure = configure,
        .start = spawner_start,
        .drain = spawner_drain,
        .sessions = spawner_sessions,
        .children = spawner_children,
    };
    return daemon_run(&spec, argc, argv);
}
