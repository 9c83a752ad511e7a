#include <poll.h>

#include "imapd/session/session.h"
#include "libmail/proto/notify.h"
#include "libutil/error.h"

static void lost(struct session *s, const struct error *err)
{
    if (!session_stopping(s)) /* then notifyd may have gone before us */
        log_event(&s->env->log, log_warning, .what = SLICE_LIT("no channel to notifyd"),
            .reason = slice_of(err->text));
    notify_close(s);
}

void notify_open(struct session *s)
{
    struct error err;
    s->notify.fd = -1;
    if (s->env->notify < 0)
        return;
    if (ipc_sync_open(&s->notify, s->env->notify, &notify_proto, IPC_CLIENT, &err)) {
        s->notify.fd = -1;
        lost(s, &err);
    }
}

void notify_close(struct session *s)
{
    if (s->notify.fd >= 0)
        ipc_sync_close(&s->notify);
    s->notify.fd = -1;
}

void notify_changed_folder(void *arg, struct slice folder, uint64_t sequence)
{
    struct session *s = arg;
    struct error err;
    const struct notify_changed m = {slice_of(s->env->user), folder, sequence};
    if (s->notify.fd >= 0 &&
        ipc_sync_send(&s->notify, notify_changed_type, s->env->trace, 0, &m, -1, &err))
        lost(s, &err);
}

void notify_watch_folder(struct session *s, struct slice folder)
{
    struct error err;
    const struct notify_watch m = {folder};
    if (s->notify.fd >= 0 &&
        ipc_sync_send(&s->notify, notify_watch_type, s->env->trace, 0, &m, -1, &err))
        lost(s, &err);
}

void notify_drain(struct session *s)
{
    struct error err;
    while (s->notify.fd >= 0) {
        struct pollfd p = {.fd = s->notify.fd, .events = POLLIN};
        struct ipc_in in;
        if (poll(&p, 1, 0) <= 0)
            return;
        int rc = ipc_sync_receive(&s->notify, 0, &in, &err);
        if (rc == ERR_TIMEOUT)
            return;
        if (rc)
            lost(s, &err);
    }
}
