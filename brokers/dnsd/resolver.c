#include "brokers/dnsd/resolver.h"

#include <event2/event.h>
#include <sys/types.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>

#include "brokers/dnsd/packet.h"
#include "libutil/file.h"
#include "libutil/proto/dns.h"

enum {
    RECORDS_MAX = 60000,
    ANSWER_MS = 25000, /* before the asker's deadline */
    CLASS_IN = 1,
    RCODE_NXDOMAIN = 3,
    FILE_MAX = 1 << 20,
    SECURITY_BOGUS = 1,
    SECURITY_SECURE = 2
};

#define DEFAULT_ANCHOR "/usr/share/dns/root.key"

struct resolver {
    struct loop *loop;
    struct ub_ctx *ub;
};

struct resolver_query {
    struct resolver *resolver;
    resolver_fn *fn;
    void *arg;
    struct timer timer; /* the deadline, or the hand-over of an answer that came at once */
    struct resolver_answer answer;
    struct buf records;
    char why[256];
    int async_id;
    unsigned type;
    bool asking;   /* ub_resolve_event has not returned */
    bool answered; /* libunbound is done with it */
};

/* --- settings ------------------------------------------------------------------------------ */

static int set_options(struct resolver *r, int64_t cache, struct error *err)
{
    char size[32];
    snprintf(size, sizeof(size), "%lld", (long long)cache);
    const struct {
        const char *name, *value;
    } options[] = {
        {"use-syslog:", "no"},
        {"logfile:", ""},
        {"msg-cache-size:", size},
        {"rrset-cache-size:", size},
        {"key-cache-size:", "1m"},
        {"cache-max-negative-ttl:", "300"}, /* a corrected zone should not wait an hour */
        {"do-not-query-localhost:", "no"},  /* a resolver on this host may be configured */
        /* Names that unbound answers itself although a site may well serve them. */
        {"unblock-lan-zones:", "yes"},
        {"insecure-lan-zones:", "yes"},
        {"domain-insecure:", "test."},
    };
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        int rc = ub_ctx_set_option(r->ub, options[i].name, options[i].value);
        if (rc)
            return error_set(err, ERR_UNSUPPORTED, "libunbound: %s %s: %s", options[i].name,
                options[i].value, ub_strerror(rc));
    }
    return OK;
}

static int add_server(
    struct resolver *r, struct slice where, struct resolver_facts *facts, struct error *err)
{
    char text[128];
    if (!slice_to_cstr(where, text, sizeof(text)))
        return error_set(err, ERR_LIMIT, "a name in dns.servers is too long");
    int rc = ub_ctx_set_fwd(r->ub, text);
    if (rc)
        return error_set(err, ERR_SYNTAX, "dns.servers: %s: %s", text, ub_strerror(rc));
    facts->servers++;
    return OK;
}

/* The name servers of /etc/resolv.conf, as far as they can be used; without any, the root
 * servers are asked. */
static void add_system_servers(struct resolver *r, struct resolver_facts *facts)
{
    struct buf text;
    struct error ignored;
    buf_init(&text, FILE_MAX);
    if (file_read("/etc/resolv.conf", &text, &ignored) == OK) {
        struct slice rest = buf_slice(&text);
        while (rest.p) {
            struct slice line = slice_trim(slice_cut(&rest, '\n'));
            if (slice_starts(line, "nameserver ") || slice_starts(line, "nameserver\t"))
                (void)!add_server(r, slice_trim(slice_from_index(line, 11)), facts, &ignored);
        }
    }
    buf_clear(&text);
}

static int add_servers(struct resolver *r, const struct conf_block *dns,
    struct resolver_facts *facts, struct error *err)
{
    size_t n = conf_list_len(dns, "servers");
    int rc = OK;
    for (size_t i = 0; i < n && rc == OK; i++)
        rc = add_server(r, conf_list_at(dns, "servers", i), facts, err);
    if (!n)
        add_system_servers(r, facts);
    return rc;
}

static int add_anchor_text(
    struct resolver *r, struct slice text, struct resolver_facts *facts, struct error *err)
{
    while (text.p) {
        char line[2048];
        struct slice s = slice_trim(slice_cut(&text, '\n'));
        ptrdiff_t comment = slice_chr(s, ';');
        if (comment >= 0)
            s = slice_trim(slice_first(s, (size_t)comment));
        if (!s.n)
            continue;
        if (!slice_to_cstr(s, line, sizeof(line)) || ub_ctx_add_ta(r->ub, line) != 0)
            return error_set(err, ERR_SYNTAX, "%s: not DS or DNSKEY records", facts->anchor);
        facts->validates = true;
    }
    return OK;
}

static int add_anchor(struct resolver *r, const struct conf_block *dns,
    struct resolver_facts *facts, struct error *err)
{
    bool configured = conf_isset(dns, "trust-anchor");
    struct slice path = configured ? conf_string(dns, "trust-anchor") : slice_of(DEFAULT_ANCHOR);
    if (!slice_to_cstr(path, facts->anchor, sizeof(facts->anchor)))
        return error_set(err, ERR_LIMIT, "the path in dns.trust-anchor is too long");
    if (!configured && access(facts->anchor, R_OK) != 0)
        return OK;
    struct buf text;
    buf_init(&text, FILE_MAX);
    int rc = file_read(facts->anchor, &text, err);
    if (rc == OK)
        rc = add_anchor_text(r, buf_slice(&text), facts, err);
    buf_clear(&text);
    return rc;
}

static void ignore_answer(
    void *arg, int rcode, void *packet, int length, int security, char *why, int limited)
{
    (void)arg;
    (void)rcode;
    (void)packet;
    (void)length;
    (void)security;
    (void)why;
    (void)limited;
}

struct resolver *resolver_new(struct loop *loop, const struct conf_block *dns,
    struct resolver_facts *facts, struct error *err)
{
    struct resolver *r = NEW(struct resolver);
    *facts = (struct resolver_facts){0};
    r->loop = loop;
    r->ub = ub_ctx_create_event(loop_event_base(loop));
    int rc = r->ub ? OK : error_set(err, ERR_TEMP, "libunbound refuses our event base");
    if (rc == OK)
        rc = set_options(r, conf_int(dns, "cache"), err);
    if (rc == OK)
        rc = add_servers(r, dns, facts, err);
    if (rc == OK)
        rc = add_anchor(r, dns, facts, err);
    /* Its default zones hide test.; this is also where it takes its settings in. */
    if (rc == OK && ub_ctx_zone_remove(r->ub, "test.") != 0)
        rc = error_set(err, ERR_SYNTAX, "%s%s", facts->validates ? facts->anchor : "libunbound",
            facts->validates ? ": not DS or DNSKEY records" : " refuses its settings");
    if (rc == OK) {
        /* The first question makes libunbound read and build what it needs. This one it answers
         * itself (RFC 6761 §6.3). */
        int id;
        int failed =
            ub_resolve_event(r->ub, "localhost", DNS_A, CLASS_IN, NULL, ignore_answer, &id);
        if (failed)
            rc = error_set(err, ERR_TEMP, "libunbound: %s", ub_strerror(failed));
    }
    if (rc != OK) {
        resolver_free(r);
        return NULL;
    }
    return r;
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    if (r->ub)
        ub_ctx_delete(r->ub);
    free(r);
}

/* --- questions ----------------------------------------------------------------------------- */

static void hand_over(void *arg)
{
    struct resolver_query *q = arg;
    timer_stop(&q->timer);
    if (!q->answered) {
        ub_cancel(q->resolver->ub, q->async_id);
        q->answer.why = SLICE_LIT("no answer in time");
    }
    q->answer.records = buf_slice(&q->records);
    q->fn(&q->answer, q->arg);
    buf_clear(&q->records);
    free(q);
}

static unsigned status_of(const struct packet *p)
{
    if (p->rcode == RCODE_NXDOMAIN)
        return DNS_NO_NAME;
    if (p->rcode != 0)
        return DNS_TROUBLE;
    return p->count ? DNS_OK : DNS_NO_DATA;
}

static void on_answer(
    void *arg, int rcode, void *packet, int length, int security, char *why, int limited)
{
    (void)limited;
    struct resolver_query *q = arg;
    struct packet p = {.rcode = (unsigned)rcode};
    struct resolver_answer *a = &q->answer;
    q->answered = true;
    a->status = DNS_TROUBLE;
    if (security == SECURITY_BOGUS) {
        a->status = DNS_BOGUS;
        snprintf(q->why, sizeof(q->why), "%s", why ? why : "DNSSEC validation failed");
    } else if (rcode == 0 || rcode == RCODE_NXDOMAIN) {
        int rc = OK;
        if (packet && length > 0)
            rc = packet_read(slice_from(packet, (size_t)length), q->type, &p, &q->records);
        a->status = rc == OK ? status_of(&p) : (unsigned)DNS_TROUBLE;
        a->secure = security == SECURITY_SECURE;
        a->ttl = p.ttl;
    } else {
        snprintf(q->why, sizeof(q->why), "the name servers answer with error %d", rcode);
    }
    a->why = slice_of(q->why);
    if (q->asking)
        timer_start(&q->timer, 0); /* never before resolver_ask returns */
    else
        hand_over(q);
}

struct resolver_query *resolver_ask(
    struct resolver *r, struct slice name, unsigned type, resolver_fn *fn, void *arg)
{
    struct resolver_query *q = NEW(struct resolver_query);
    *q = (struct resolver_query){.resolver = r, .fn = fn, .arg = arg, .type = type};
    q->answer.status = DNS_TROUBLE;
    buf_init(&q->records, RECORDS_MAX);
    timer_init(&q->timer, r->loop, hand_over, q);
    char text[PACKET_NAME_MAX];
    bool asked = slice_to_cstr(name, text, sizeof(text)) && *text;
    if (type == DNS_PTR && packet_reverse_name(name, text) == OK)
        asked = true;
    q->asking = true;
    if (asked)
        asked = ub_resolve_event(r->ub, text, (int)type, CLASS_IN, q, on_answer, &q->async_id) == 0;
    q->asking = false;
    if (!asked) {
        q->answered = true;
        q->answer.status = DNS_NO_NAME; /* what cannot be asked does not exist */
        q->answer.why = SLICE_LIT("not a name of DNS");
    }
    timer_start(&q->timer, q->answered ? 0 : ANSWER_MS);
    return q;
}

void resolver_cancel(struct resolver_query *q)
{
    if (!q->answered)
        ub_cancel(q->resolver->ub, q->async_id);
    timer_stop(&q->timer);
    buf_clear(&q->records);
    free(q);
}
