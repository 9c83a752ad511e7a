/*
 * Whether the agents' processes live. One that has work and does not answer a ping is given up
 * after agent-timeout, and what it was doing is tried again; master kills it and starts another.
 * Agents for mailboxes write one message after another and do not answer meanwhile: they get as
 * much longer as a slow disk needs for what they were given.
 */
#include <stdlib.h>

#include "qmgr/qmgr.h"

enum { LOOKS = 4, SLOW_DISK_BYTES_MS = 1000 /* a megabyte a second */ };

struct agent *agent_of(struct peer *peer)
{
    if (!peer->data) {
        struct agent *a = NEW(struct agent);
        a->q = peer->daemon->data;
        a->peer = peer;
        peer->data = a;
    }
    return peer->data;
}

void agent_heard(struct peer *peer)
{
    agent_of(peer)->heard = loop_now(peer->daemon->loop);
}

static void on_pong(struct ipc_in *in, void *arg)
{
    if (in) /* otherwise the channel is gone, and the agent freed or about to be */
        ((struct agent *)arg)->asked = false;
}

static void ask(struct agent *a)
{
    static const struct deliver_ping ping;
    a->asked = true;
    a->looks = 0;
    a->heard = loop_now(a->q->loop);
    ipc_call(a->peer->ipc, deliver_ping_type, 0, &ping, -1, on_pong, a);
}

static bool hangs(const struct agent *a)
{
    int64_t most = a->q->set.agent_timeout;
    if (a->peer->role != ROLE_REMOTE)
        most += (int64_t)(a->bytes / SLOW_DISK_BYTES_MS);
    return a->looks >= LOOKS && loop_now(a->q->loop) - a->heard > most;
}

void agents_watch(void *arg)
{
    struct qmgr *q = arg;
    LIST_EACH(it, &q->daemon->peers)
    {
        struct peer *p = LIST_ENTRY(it, struct peer, link);
        if (p->conv != CONV_DELIVER || !p->ipc || ipc_pending(p->ipc) == 0)
            continue;
        struct agent *a = agent_of(p);
        a->looks++;
        if (!a->asked) {
            ask(a);
        } else if (hangs(a)) {
            log_event(q->log, agent_trouble, .agent = slice_of(role_info(p->role)->program),
                .reason = SLICE_LIT("the agent hangs; it is given up, its work is tried again"));
            daemon_drop_hung(p, SLICE_LIT("it does not answer qmgr"));
            break; /* the list has changed: the others are looked at next time */
        }
    }
    timer_start(&q->agents_timer, MAX(q->set.agent_timeout / LOOKS, (int64_t)100));
}

void agent_message(struct peer *peer, struct ipc_in *in)
{
    agent_heard(peer);
    if (in->type == deliver_host_type)
        attempt_host(peer, in);
}

void agent_down(struct peer *peer)
{
    struct agent *a = peer->data;
    if (!a)
        return;
    peer->data = NULL;
    sync_down(a->sync);
    free(a);
}
