/* notifyd: wakes those who wait for a mailbox to change. Holds no file and no mail. */
#include "brokers/notifyd/events.h"
#include "brokers/notifyd/hub.h"
#include "libmail/proto/notify.h"
#include "libutil/daemon.h"

static int start(struct daemon *d, struct error *err)
{
    (void)err;
    d->data = hub_new(d->loop, &d->log);
    return OK;
}

static void on_message(struct peer *peer, struct ipc_in *in)
{
    hub_trusted(peer->daemon->data, peer->role, in);
}

static unsigned sessions(struct daemon *d)
{
    return hub_channels(d->data);
}

static const struct daemon_conv convs[] = {
    {.conv = CONV_NOTIFY, .side = IPC_SERVER, .proto = &notify_proto, .on_message = on_message},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_NOTIFYD,
    .profile = {.name = "notifyd", .account = "veredus-login", .root = SANDBOX_ROOT_EMPTY},
    .convs = convs,
    .events = notifyd_events,
    .start = start,
    .sessions = sessions,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
