/* smtpd: receives mail over SMTP, submission, LMTP and the local socket. */
#include "libmail/proto/auth.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"
#include "libutil/daemon.h"
#include "libutil/proto/dns.h"
#include "libutil/proto/sign.h"
#include "smtpd/events.h"
#include "smtpd/server.h"

static const struct daemon_conv convs[] = {
    {.conv = CONV_INJECT, .side = IPC_CLIENT, .proto = &inject_proto, .on_up = server_qmgr_up},
    {.conv = CONV_ROUTE,
        .side = IPC_CLIENT,
        .proto = &route_proto,
        .on_message = server_lookupd,
        .on_up = server_lookupd_change,
        .on_down = server_lookupd_change},
    {.conv = CONV_AUTH, .side = IPC_CLIENT, .proto = &auth_proto},
    {.conv = CONV_DNS, .side = IPC_CLIENT, .proto = &dns_proto},
    {.conv = CONV_SIGN, .side = IPC_CLIENT, .proto = &sign_proto, .raw = true},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_SMTPD,
    .profile = {.name = "smtpd",
        .account = "veredus",
        .root = SANDBOX_ROOT_EMPTY,
        .calls = SANDBOX_ACCEPT},
    .convs = convs,
    .events = smtpd_events,
    .configure = server_configure,
    .on_listener = server_on_listener,
    .drain = server_drain,
    .sessions = server_sessions,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
