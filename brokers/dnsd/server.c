#include "brokers/dnsd/server.h"

#include "brokers/dnsd/events.h"
#include "brokers/dnsd/resolver.h"
#include "libutil/proto/dns.h"

struct request {
    struct list link; /* in the peer's list */
    struct peer *peer;
    struct resolver_query *query;
    uint64_t trace;
    uint32_t id, type;
    char name[256];
};

int server_configure(struct daemon *d, struct error *err)
{
    struct resolver_facts facts;
    d->data = resolver_new(d->loop, conf_one(d->conf, "dns"), &facts, err);
    if (!d->data)
        return err->code;
    log_event(&d->log, dns_start, .servers = facts.servers,
        .validation = slice_of(facts.validates ? "on" : "off"),
        .anchor = slice_of(facts.validates ? facts.anchor : ""));
    return OK;
}

void server_peer_up(struct peer *peer)
{
    struct list *requests = NEW(struct list);
    list_init(requests);
    peer->data = requests;
}

void server_peer_down(struct peer *peer)
{
    struct list *requests = peer->data;
    LIST_EACH(it, requests)
    {
        struct request *r = LIST_ENTRY(it, struct request, link);
        resolver_cancel(r->query);
        free(r);
    }
    free(requests);
    peer->data = NULL;
}

static void log_failure(const struct request *r, const struct resolver_answer *a)
{
    if (a->status != DNS_BOGUS && a->status != DNS_TROUBLE)
        return;
    log_event(&r->peer->daemon->log, dns_failed, .name = slice_of(r->name), .type = r->type,
        .result = slice_of(a->status == DNS_BOGUS ? "bogus" : "trouble"), .reason = a->why);
}

static void on_answer(const struct resolver_answer *a, void *arg)
{
    struct request *r = arg;
    struct dns_answer answer = {.status = a->status,
        .secure = a->secure,
        .ttl = a->ttl,
        .why = slice_first(a->why, 255),
        .records = a->records};
    log_failure(r, a);
    list_remove(&r->link);
    ipc_reply(r->peer->ipc, r->id, r->trace, dns_answer_type, &answer, -1);
    free(r);
}

void server_request(struct peer *peer, struct ipc_in *in)
{
    const struct dns_query *ask = in->msg;
    struct request *r = NEW(struct request);
    *r = (struct request){.peer = peer, .trace = in->trace, .id = in->id, .type = ask->type};
    if (!slice_to_cstr(ask->name, r->name, sizeof(r->name)))
        r->name[0] = '\0';
    list_append(peer->data, &r->link);
    r->query = resolver_ask(peer->daemon->data, ask->name, ask->type, on_answer, r);
}
