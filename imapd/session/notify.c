#include <poll.h>

#include "imapd/session/place.h"
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

static void tell(struct session *s, unsigned type, const void *m)
{
    struct error err;
    if (s->notify.fd >= 0 && ipc_sync_send(&s->notify, type, s->env->trace, 0, m, -1, &err))
        lost(s, &err);
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
        return;
    }
    const struct notify_seal seal = {(uint32_t)s->nshares};
    for (size_t i = 0; i < s->nshares; i++) {
        const struct share *sh = &s->shares[i];
        const struct notify_share m = {slice_of(sh->from->mail), slice_of(sh->folder)};
        tell(s, notify_share_type, &m);
    }
    tell(s, notify_seal_type, &seal);
}

void notify_close(struct session *s)
{
    if (s->notify.fd >= 0)
        ipc_sync_close(&s->notify);
    s->notify.fd = -1;
}

void notify_changed_folder(void *arg, struct slice folder, uint64_t sequence)
{
    const struct notify_changed m = {SLICE_LIT(""), folder, sequence};
    tell(arg, notify_changed_type, &m);
}

void notify_changed_share(void *arg, struct slice folder, uint64_t sequence)
{
    const struct share *sh = arg;
    const struct notify_changed m = {slice_of(sh->from->mail), slice_of(sh->folder), sequence};
    (void)folder; /* in its own store it is INBOX */
    tell(sh->session, notify_changed_type, &m);
}

void notify_watch_selected(struct session *s)
{
    const struct share *sh = s->selected;
    const struct notify_watch m = {
        slice_of(sh ? sh->from->mail : ""), sh ? slice_of(sh->folder) : s->folder};
    tell(s, notify_watch_type, &m);
}

void notify_unwatch(struct session *s)
{
    const struct notify_watch m = {SLICE_LIT(""), SLICE_LIT("")};
    tell(s, notify_watch_type, &m);
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
