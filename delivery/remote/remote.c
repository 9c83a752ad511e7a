#include "delivery/remote/remote.h"

#include "delivery/remote/job.h"
#include "delivery/remote/session.h"
#include "libmail/proto/deliver.h"
#include "libutil/tls.h"

static enum tls_policy policy_of(struct slice word)
{
    if (slice_is(word, "none"))
        return TLS_NEVER;
    return slice_is(word, "required") ? TLS_REQUIRED : TLS_OPTIONAL;
}

static int read_settings(const struct conf *conf, struct remote_settings *s, struct error *err)
{
    const struct conf_block *out = conf_one(conf, "outbound");
    struct slice hostname = conf_string(conf_root(conf), "hostname");
    struct slice helo = conf_isset(out, "helo") ? conf_string(out, "helo") : hostname;
    *s = (struct remote_settings){.port = (uint16_t)conf_int(out, "port"),
        .connect_ms = conf_int(out, "connect-timeout"),
        .reply_ms = conf_int(out, "timeout"),
        .tls = policy_of(conf_string(out, "tls")),
        .has_source = conf_isset(out, "source")};
    if (!slice_to_cstr(hostname, s->hostname, sizeof(s->hostname)) ||
        !slice_to_cstr(helo, s->helo, sizeof(s->helo)))
        return error_set(err, ERR_LIMIT, "hostname or outbound.helo is too long");
    if (s->has_source && net_addr_parse(conf_string(out, "source"), &s->source) != OK)
        return error_set(err, ERR_SYNTAX, "outbound.source is no address");
    return OK;
}

struct remote *remote_new(struct daemon *d, const struct remote_settings *s, struct error *err)
{
    struct remote *remote = NEW(struct remote);
    remote->daemon = d;
    remote->settings = *s;
    list_init(&remote->jobs);
    list_init(&remote->idle);
    remote->tls = tls_client_new(slice_of(""), false, err);
    if (!remote->tls || tls_warm_up(remote->tls, err) != OK) {
        remote_free(remote);
        return NULL;
    }
    return remote;
}

void remote_free(struct remote *remote)
{
    LIST_EACH(it, &remote->jobs)
    job_cancel(LIST_ENTRY(it, struct job, link));
    session_close_idle(remote);
    tls_context_free(remote->tls);
    free(remote);
}

int remote_configure(struct daemon *d, struct error *err)
{
    struct remote_settings settings;
    int rc = read_settings(d->conf, &settings, err);
    if (rc != OK)
        return rc;
    d->data = remote_new(d, &settings, err);
    return d->data ? OK : err->code;
}

void remote_drain(struct daemon *d)
{
    struct remote *remote = d->data;
    session_close_idle(remote);
    if (!remote->active)
        daemon_exit(d);
}

unsigned remote_sessions(struct daemon *d)
{
    struct remote *remote = d->data;
    return (unsigned)remote->active;
}

/* There is nothing to make durable here: what another server took is its own. */
static void sync_reply(struct peer *peer, struct ipc_in *in)
{
    struct deliver_synced done = {.code = OK};
    ipc_reply(peer->ipc, in->id, in->trace, deliver_synced_type, &done, -1);
}

static void report_reply(struct peer *peer, struct ipc_in *in)
{
    struct deliver_reported done = {
        .code = ERR_UNSUPPORTED, .text = SLICE_LIT("reports are written by bounce")};
    ipc_reply(peer->ipc, in->id, in->trace, deliver_reported_type, &done, -1);
}

static void answer_ping(struct peer *peer, struct ipc_in *in)
{
    deliver_pong(peer->ipc, in);
}

void remote_message(struct peer *peer, struct ipc_in *in)
{
    static void (*const handlers[])(struct peer *, struct ipc_in *) = {
        [deliver_start_type] = job_start,
        [deliver_sync_type] = sync_reply,
        [deliver_report_type] = report_reply,
        [deliver_ping_type] = answer_ping,
    };
    if (in->type < ARRAY_LEN(handlers) && handlers[in->type])
        handlers[in->type](peer, in);
}

void remote_peer_down(struct peer *peer)
{
    struct remote *remote = peer->daemon->data;
    LIST_EACH(it, &remote->jobs)
    {
        struct job *job = LIST_ENTRY(it, struct job, link);
        if (job->peer == peer)
            job_cancel(job);
    }
}
