#include "libmail/login_events.h"
#include "pop3d/login/pop3_login.h"

static int configure(struct daemon *d, struct error *err)
{
    return login_front_configure(d, &pop3_login_protocol, err);
}

static const struct daemon_spec spec = {
    .role = ROLE_POP3_LOGIN,
    .profile = LOGIN_PROFILE("pop3-login"),
    .convs = login_convs,
    .events = login_events,
    .configure = configure,
    .start = login_front_start,
    .on_listener = login_front_listener,
    .drain = login_front_drain,
    .sessions = login_front_sessions,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
