#include "delivery/remote/route.h"

#include <arpa/inet.h>
#include <strings.h>

#include "libutil/proto/dns.h"

enum { QUESTIONS_MAX = 1 + 2 * ROUTE_HOSTS_MAX };

struct host {
    char name[NEXTHOP_HOST_MAX];
    uint32_t preference;
    uint64_t shuffle;
    struct target addresses[4]; /* IPv6 first */
    size_t count;
};

struct question {
    struct route *route;
    struct host *host; /* NULL: the MX question */
    unsigned type;
};

struct route {
    struct remote *remote;
    struct nexthop hop;
    uint64_t trace;
    route_fn *fn; /* NULL: cancelled */
    void *arg;
    struct host hosts[ROUTE_HOSTS_MAX];
    size_t nhosts;
    struct question questions[QUESTIONS_MAX];
    size_t asked, pending;
    bool trouble; /* an answer was missing for a reason that will pass */
    char why[256];
    struct timer later;
    struct route_result result;
};

/* --- the end ------------------------------------------------------------------------------- */

static void finish(void *arg)
{
    struct route *r = arg;
    timer_stop(&r->later);
    if (r->fn)
        r->fn(&r->result, r->arg);
    free(r);
}

PRINTF_LIKE(4, 5)
static void settle(struct route *r, enum route_status status, const char *dsn, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    r->result.status = status;
    snprintf(r->result.dsn, sizeof(r->result.dsn), "%s", dsn);
    vsnprintf(r->result.text, sizeof(r->result.text), fmt, ap);
    va_end(ap);
    timer_start(&r->later, 0);
}

void route_cancel(struct route *r)
{
    if (!r)
        return;
    r->fn = NULL; /* freed when its last answer has come */
}

/* --- addresses ----------------------------------------------------------------------------- */

static bool set_target(struct target *t, const char *host, struct slice ip, uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&t->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&t->address;
    memset(t, 0, sizeof(*t));
    if (!slice_to_cstr(ip, t->ip, sizeof(t->ip)))
        return false;
    snprintf(t->host, sizeof(t->host), "%s", host);
    if (inet_pton(AF_INET, t->ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        t->length = sizeof(*v4);
    } else if (inet_pton(AF_INET6, t->ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        t->length = sizeof(*v6);
    }
    return t->length > 0;
}

static void gather_targets(struct route *r)
{
    struct route_result *out = &r->result;
    for (size_t h = 0; h < r->nhosts; h++)
        for (size_t a = 0; a < r->hosts[h].count && out->count < ROUTE_TARGETS_MAX; a++)
            out->targets[out->count++] = r->hosts[h].addresses[a];
    if (out->count) {
        settle(r, ROUTE_FOUND, "", "found");
    } else if (r->trouble || !r->hop.mx) {
        /* A relay host is our own configuration: mail waits until it is mended. */
        settle(r, ROUTE_DEFERRED, "4.4.3", "cannot find the address of %s: %s", r->hosts[0].name,
            r->why[0] ? r->why : "there is none");
    } else {
        settle(r, ROUTE_FAILED, "5.4.4", "no mail server of %s has an address", r->hop.host);
    }
}

static void take_addresses(struct host *h, struct slice records, unsigned type, uint16_t port)
{
    struct reader reader = reader_of(records);
    struct dns_record record;
    struct target found[2] = {0};
    size_t n = 0;
    while (reader.rest.n && n < ARRAY_LEN(found))
        if (record_get(&reader, &dns_record_record, &record) != OK ||
            !set_target(&found[n++], h->name, record.data, port))
            return;
    /* IPv6 goes first, whichever answer comes first. */
    if (type == DNS_AAAA)
        memmove(h->addresses + n, h->addresses, h->count * sizeof(h->addresses[0]));
    memcpy(h->addresses + (type == DNS_AAAA ? 0 : h->count), found, n * sizeof(found[0]));
    h->count += n;
}

/* --- questions ----------------------------------------------------------------------------- */

static void on_answer(struct ipc_in *in, void *arg);

static void ask(struct route *r, struct host *host, unsigned type)
{
    struct question *q = &r->questions[r->asked++];
    *q = (struct question){r, host, type};
    struct dns_query query = {
        .name = slice_of(host ? host->name : r->hop.host), .type = (uint32_t)type};
    r->pending++;
    daemon_call(
        r->remote->daemon, CONV_DNS, -1, dns_query_type, r->trace, &query, -1, on_answer, q);
}

static void ask_addresses(struct route *r)
{
    for (size_t i = 0; i < r->nhosts; i++) {
        ask(r, &r->hosts[i], DNS_AAAA);
        ask(r, &r->hosts[i], DNS_A);
    }
}

static void add_host(struct route *r, struct slice name, uint32_t preference)
{
    struct host *h = &r->hosts[r->nhosts];
    if (r->nhosts < ROUTE_HOSTS_MAX && slice_to_cstr(name, h->name, sizeof(h->name))) {
        h->preference = preference;
        h->shuffle = id_new();
        r->nhosts++;
    }
}

static int by_preference(const void *a, const void *b)
{
    const struct host *x = a, *y = b;
    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return x->shuffle < y->shuffle ? -1 : x->shuffle > y->shuffle;
}

/* Mail is never passed to a host that would pass it on to us (RFC 5321 §5.1). Hosts are sorted. */
static void cut_ourselves(struct route *r)
{
    const struct remote_settings *s = &r->remote->settings;
    for (size_t i = 0; i < r->nhosts; i++)
        if (strcasecmp(r->hosts[i].name, s->hostname) == 0 ||
            strcasecmp(r->hosts[i].name, s->helo) == 0) {
            while (i > 0 && r->hosts[i - 1].preference == r->hosts[i].preference)
                i--;
            r->nhosts = i;
            return;
        }
}

/* The best ROUTE_HOSTS_MAX of however many there are. */
static void take_hosts(struct route *r, struct slice records)
{
    struct reader reader = reader_of(records);
    struct dns_record record;
    bool null_mx = false;
    while (reader.rest.n && record_get(&reader, &dns_record_record, &record) == OK) {
        null_mx |= slice_is(record.data, ".");
        if (slice_is(record.data, "."))
            continue;
        if (r->nhosts == ROUTE_HOSTS_MAX) {
            qsort(r->hosts, r->nhosts, sizeof(r->hosts[0]), by_preference);
            r->nhosts -= record.preference < r->hosts[r->nhosts - 1].preference;
        }
        add_host(r, record.data, record.preference);
    }
    size_t before = r->nhosts;
    qsort(r->hosts, r->nhosts, sizeof(r->hosts[0]), by_preference);
    cut_ourselves(r);
    if (r->nhosts) {
        ask_addresses(r);
    } else if (before) {
        settle(r, ROUTE_FAILED, "5.4.6", "mail for %s would come back to this host", r->hop.host);
    } else if (null_mx) {
        settle(r, ROUTE_FAILED, "5.1.10", "%s does not accept mail (null MX)", r->hop.host);
    } else {
        settle(r, ROUTE_FAILED, "5.4.4", "the MX records of %s name no host", r->hop.host);
    }
}

static void take_mx(struct route *r, const struct dns_answer *answer)
{
    switch (answer ? answer->status : (uint32_t)DNS_TROUBLE) {
    case DNS_OK:
        take_hosts(r, answer->records);
        break;
    case DNS_NO_DATA:
        add_host(r, slice_of(r->hop.host), 0);
        ask_addresses(r);
        break;
    case DNS_NO_NAME:
        settle(r, ROUTE_FAILED, "5.1.2", "the domain %s does not exist", r->hop.host);
        break;
    default:
        settle(r, ROUTE_DEFERRED, "4.4.3", "cannot look up the mail servers of %s%s%.*s",
            r->hop.host, answer && answer->why.n ? ": " : "", answer ? (int)answer->why.n : 0,
            answer ? answer->why.p : "");
    }
}

static void note_trouble(struct route *r, const struct dns_answer *answer)
{
    r->trouble = true;
    if (!answer || !slice_to_cstr(answer->why, r->why, sizeof(r->why)) || !r->why[0])
        snprintf(r->why, sizeof(r->why), "the resolver does not answer");
}

static void on_answer(struct ipc_in *in, void *arg)
{
    struct question *q = arg;
    struct route *r = q->route;
    const struct dns_answer *answer = in ? in->msg : NULL;
    r->pending--;
    if (!r->fn) {
        if (!r->pending)
            finish(r);
        return;
    }
    if (!q->host) {
        take_mx(r, answer);
        return;
    }
    if (answer && answer->status == DNS_OK)
        take_addresses(q->host, answer->records, q->type, r->hop.port);
    else if (!answer || answer->status == DNS_TROUBLE || answer->status == DNS_BOGUS)
        note_trouble(r, answer);
    if (!r->pending)
        gather_targets(r);
}

struct route *route_find(
    struct remote *remote, const struct nexthop *hop, uint64_t trace, route_fn *fn, void *arg)
{
    struct route *r = NEW(struct route);
    r->remote = remote;
    r->hop = *hop;
    r->trace = trace;
    r->fn = fn;
    r->arg = arg;
    timer_init(&r->later, remote->daemon->loop, finish, r);
    if (set_target(&r->result.targets[0], hop->host, slice_of(hop->host), hop->port)) {
        r->result.count = 1;
        settle(r, ROUTE_FOUND, "", "found");
    } else if (hop->mx) {
        ask(r, NULL, DNS_MX);
    } else {
        add_host(r, slice_of(hop->host), 0);
        ask_addresses(r);
    }
    return r;
}
