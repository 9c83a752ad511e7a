/* What the spawner is asked about folders of others: only an agent sees all of an owner's. */
#include "libmail/proto/room.h"
#include "imapd/session/place.h"
#include "libutil/error.h"

void share_hang_up(struct session *s)
{
    if (s->room.fd >= 0)
        ipc_sync_close(&s->room);
    s->room.fd = -1;
}

static int call(
    struct session *s, uint16_t type, const void *ask, struct ipc_in *in, struct error *err)
{
    bool first = !s->room_used;
    s->room_used = true;
    if (first && s->env->room >= 0 &&
        ipc_sync_open(&s->room, s->env->room, &room_proto, IPC_CLIENT, err))
        s->room.fd = -1;
    if (s->room.fd < 0)
        return error_set(err, ERR_TEMP, "no channel to the spawner");
    int rc = ipc_sync_call(&s->room, type, s->env->trace, ask, -1, in, err);
    if (rc == ERR_CLOSED)
        share_hang_up(s);
    return rc ? ERR_TEMP : OK;
}

static int ask_room(struct session *s, const struct share *sh, uint64_t bytes, uint64_t messages,
    struct room_answer *out, struct error *err)
{
    struct ipc_in in;
    const struct room_ask ask = {slice_of(sh->from->owner), slice_of(sh->from->directory),
        slice_of(sh->folder), bytes, messages};
    int rc = call(s, room_ask_type, &ask, &in, err);
    if (rc)
        return rc;
    *out = *(const struct room_answer *)in.msg;
    return out->verdict == QUOTA_UNKNOWN ? error_set(err, ERR_TEMP, "nobody can tell") : OK;
}

int share_room(
    struct session *s, const struct share *sh, uint64_t bytes, uint64_t messages, struct error *err)
{
    struct room_answer a;
    int rc = ask_room(s, sh, bytes, messages, &a, err);
    return rc || a.verdict == QUOTA_FITS ? rc : ERR_QUOTA;
}

int share_totals(struct session *s, const struct share *sh, struct quota_usage *used,
    struct quota *limits, struct error *err)
{
    struct room_answer a;
    int rc = ask_room(s, sh, 0, 0, &a, err);
    if (rc)
        return rc;
    *used = (struct quota_usage){a.used_bytes, a.used_messages};
    *limits = (struct quota){.bytes = a.max_bytes, .messages = a.max_messages};
    return OK;
}

int share_change(struct session *s, const struct share *sh, const struct share_what *what,
    uint64_t *mailbox, struct error *err)
{
    struct ipc_in in;
    const struct room_change ask = {.owner = slice_of(sh->from->owner),
        .directory = slice_of(sh->from->directory),
        .verb = what->verb,
        .folder = what->folder,
        .other = what->other,
        .how = what->how,
        .rights = what->rights};
    int rc = call(s, room_change_type, &ask, &in, err);
    if (rc)
        return rc;
    const struct room_changed *done = in.msg;
    if (mailbox)
        *mailbox = done->mailbox;
    return done->code ? error_set(err, (int)done->code, "refused by the agent") : OK;
}
