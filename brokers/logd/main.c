/* logd: writes the log file, adding the time and the verified process id to every record. */
#include "brokers/logd/channel.h"
#include "brokers/logd/events.h"
#include "libutil/proto/master.h"

enum { PACE_MS = 5 }; /* how much later than its event a line may be stamped */

static int configure(struct daemon *d, struct error *err)
{
    struct writer *w = writer_new(d, err);
    d->data = w;
    if (!w)
        return err->code;
    d->paths.root = writer_directory(w);
    return channel_own(d, err);
}

static int start(struct daemon *d, struct error *err)
{
    loop_pace(d->loop, PACE_MS);
    return writer_open(d->data, err);
}

/* Everyone else has gone: what they said last is still in the channels. */
static void drain(struct daemon *d)
{
    channel_read_all(d);
    writer_flush(d->data);
    daemon_exit(d);
}

static const struct daemon_conv convs[] = {
    {.conv = CONV_LOG,
        .side = IPC_SERVER,
        .proto = &master_proto,
        .on_up = channel_up,
        .raw = true},
    {.proto = NULL},
};

static const struct daemon_spec spec = {
    .role = ROLE_LOGD,
    .profile = {.name = "logd",
        .account = "veredus-log",
        .root = SANDBOX_ROOT_DIR,
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE,
        .max_files = 4096},
    .convs = convs,
    .events = logd_events,
    .configure = configure,
    .start = start,
    .drain = drain,
};

int main(int argc, char **argv)
{
    return daemon_run(&spec, argc, argv);
}
