#include "pop3d/session/events.h"
#include "pop3d/session/pop3.h"

static int configure(struct daemon *d, struct error *err)
{
    static const struct spawner_kind kind = {.service = "pop3", .session = pop3_session};
    return spawner_configure(d, &kind, err);
}

static const struct daemon_spec spec = {
    .role = ROLE_POP3_SESSION,
    .profile = SPAWNER_PROFILE("pop3-session"),
    .convs = spawner_convs,
    .events = pop3_events,
    .configure = configure,
    .start = spawner_start,
    .drain = spawner_drain,
    .sessions = spawner_sessions,
    .children = spawner_children,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
