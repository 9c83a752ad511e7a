#include "ctl/queue_summary.h"

#include <inttypes.h>
#include <stdlib.h>

#include "ctl/json.h"

enum { DOMAINS_MAX = 100000, NAME_COLUMNS = 32 };

struct queue_domain {
    struct slice name; /* the map's key */
    struct queue_tally tally;
};

static const struct age {
    int64_t below_ms;
    const char *name;
} ages[QUEUE_AGES] = {{INT64_C(300000), "<5m"}, {INT64_C(600000), "<10m"},
    {INT64_C(1200000), "<20m"}, {INT64_C(2400000), "<40m"}, {INT64_C(4800000), "<80m"},
    {INT64_C(9600000), "<160m"}, {INT64_C(19200000), "<320m"}, {INT64_C(38400000), "<640m"},
    {INT64_C(76800000), "<1280m"}, {INT64_MAX, "older"}};

void queue_summary_init(struct queue_summary *s, int64_t now, bool by_sender)
{
    *s = (struct queue_summary){.now = now, .oldest = now, .by_sender = by_sender};
    map_init(&s->domains);
}

/* NULL: there are too many. */
static struct queue_domain *domain_of(struct queue_summary *s, struct slice name)
{
    struct queue_domain *d = map_get(&s->domains, name);
    if (!d && map_count(&s->domains) < DOMAINS_MAX) {
        d = NEW(struct queue_domain);
        map_set(&s->domains, name, d);
    }
    return d;
}

static void count(
    struct queue_tally *t, const struct queue_share *share, uint64_t messages, int64_t now)
{
    t->messages += messages;
    t->recipients += share->recipients;
    t->active += slice_is(share->state, "active") ? messages : 0;
    t->deferred += slice_is(share->state, "deferred") ? messages : 0;
    t->held += slice_is(share->state, "held") ? messages : 0;
    t->damaged += slice_is(share->state, "damaged") ? messages : 0;
    if (share->received == 0)
        return; /* damaged: nothing is known of it */
    size_t i = 0;
    while (now - share->received >= ages[i].below_ms)
        i++;
    t->ages[i] += messages;
}

void queue_summary_add(struct queue_summary *s, const struct queue_share *share)
{
    s->bytes += share->size;
    if (share->received > 0)
        s->oldest = MIN(s->oldest, share->received);
    count(&s->total, share, share->first, s->now);
    bool null_sender = s->by_sender && share->received > 0 && share->domain.n == 0;
    struct slice name = null_sender ? SLICE_LIT("<>") : share->domain;
    struct queue_domain *d = name.n > 0 ? domain_of(s, name) : NULL;
    if (d)
        count(&d->tally, share, 1, s->now);
}

static int by_messages(const void *a, const void *b)
{
    const struct queue_domain *x = a, *y = b;
    if (x->tally.messages != y->tally.messages)
        return x->tally.messages > y->tally.messages ? -1 : 1;
    return slice_cmp(x->name, y->name);
}

static struct queue_domain *sorted(const struct queue_summary *s, size_t *n)
{
    struct queue_domain *list = xcalloc(map_count(&s->domains) + 1, sizeof(*list));
    struct slice key;
    void *value;
    *n = 0;
    for (size_t pos = 0; map_next(&s->domains, &pos, &key, &value);)
        list[(*n)++] = (struct queue_domain){key, ((struct queue_domain *)value)->tally};
    qsort(list, *n, sizeof(*list), by_messages);
    return list;
}

static void tally_json(struct json *j, const struct queue_tally *t)
{
    json_int(j, "messages", (int64_t)t->messages);
    json_int(j, "recipients", (int64_t)t->recipients);
    json_int(j, "active", (int64_t)t->active);
    json_int(j, "deferred", (int64_t)t->deferred);
    json_int(j, "held", (int64_t)t->held);
    json_int(j, "damaged", (int64_t)t->damaged);
    json_begin(j, "ages", '{');
    for (size_t i = 0; i < QUEUE_AGES; i++)
        json_int(j, ages[i].name, (int64_t)t->ages[i]);
    json_end(j, '}');
}

void queue_summary_json(const struct queue_summary *s, struct buf *out)
{
    struct json j = {out, false};
    size_t n;
    struct queue_domain *domains = sorted(s, &n);
    json_begin(&j, NULL, '{');
    tally_json(&j, &s->total);
    json_int(&j, "bytes", (int64_t)s->bytes);
    json_int(&j, "oldest_ms", s->now - s->oldest);
    json_str(&j, "by", s->by_sender ? SLICE_LIT("sender") : SLICE_LIT("recipient"));
    json_begin(&j, "domains", '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&j, NULL, '{');
        json_str(&j, "domain", domains[i].name);
        tally_json(&j, &domains[i].tally);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
    free(domains);
}

static void print_row(struct slice name, const struct queue_tally *t)
{
    printf("%-*.*s %7" PRIu64 " %7" PRIu64 " %8" PRIu64 " %6" PRIu64, NAME_COLUMNS,
        (int)MIN(name.n, (size_t)NAME_COLUMNS), name.p, t->messages, t->active, t->deferred,
        t->held);
    for (size_t i = 0; i < QUEUE_AGES; i++)
        printf(" %6" PRIu64, t->ages[i]);
    putchar('\n');
}

void queue_summary_print(const struct queue_summary *s, size_t rows)
{
    const struct queue_tally *t = &s->total;
    size_t n;
    struct queue_domain *domains = sorted(s, &n);
    printf("%" PRIu64 " messages, %" PRIu64 " bytes, %" PRIu64 " recipients: %" PRIu64
           " active, %" PRIu64 " deferred, %" PRIu64 " held, %" PRIu64 " damaged\n",
        t->messages, s->bytes, t->recipients, t->active, t->deferred, t->held, t->damaged);
    if (t->messages > 0) {
        printf("oldest: %" PRId64 " minutes\n\n", (s->now - s->oldest) / 60000);
        printf("%-*s %7s %7s %8s %6s", NAME_COLUMNS,
            s->by_sender ? "SENDER DOMAIN" : "RECIPIENT DOMAIN", "TOTAL", "ACTIVE", "DEFERRED",
            "HELD");
        for (size_t i = 0; i < QUEUE_AGES; i++)
            printf(" %6s", ages[i].name);
        putchar('\n');
        print_row(SLICE_LIT("TOTAL"), t);
    }
    for (size_t i = 0; i < MIN(n, rows); i++)
        print_row(domains[i].name, &domains[i].tally);
    if (n > rows)
        printf("and %zu more domains\n", n - rows);
    free(domains);
}

void queue_summary_clear(struct queue_summary *s)
{
    void *value;
    for (size_t pos = 0; map_next(&s->domains, &pos, NULL, &value);)
        free(value);
    map_clear(&s->domains);
}
