#include "imapd/login/imap_login.h"
#include "libmail/login_events.h"

static int configure(struct daemon *d, struct error *err)
{
    return login_front_configure(d, &imap_login_protocol, err);
}

static const struct daemon_spec spec = {
    .role = ROLE_IMAP_LOGIN,
    .profile = LOGIN_PROFILE("imap-login"),
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
