#include "ctl/queue_summary.h"

#include <inttypes.h>

#include "ctl/json.h"

enum { DOMAINS_MAX = 100000, DOMAINS_SHOWN = 20 };

struct queue_domain {
    struct slice name; /* the map's key */
    uint64_t messages;
};

static const struct age {
    int64_t below_ms;
    const char *name;
} ages[QUEUE_AGES] = {{INT64_C(300000), "<5m"}, {INT64_C(3600000), "<1h"},
    {INT64_C(14400000), "<4h"}, {INT64_C(86400000), "<1d"}, {INT64_C(259200000), "<3d"},
    {INT64_MAX, "older"}};

void queue_summary_init(struct queue_summary *s, int64_t now)
{
    *s = (struct queue_summary){.now = now, .oldest = now};
    map_init(&s->domains);
}

static void count_domain(struct queue_summary *s, struct slice recipient)
{
    ptrdiff_t at = slice_rchr(recipient, '@');
    struct slice domain = at < 0 ? recipient : slice_from_index(recipient, (size_t)at + 1);
    struct queue_domain *d = map_get(&s->domains, domain);
    if (!d && map_count(&s->domains) >= DOMAINS_MAX)
        return;
    if (!d) {
        d = NEW(struct queue_domain);
        map_set(&s->domains, domain, d);
    }
    d->messages++;
}

void queue_summary_add(struct queue_summary *s, const struct queue_entry *e)
{
    s->messages++;
    s->bytes += e->size;
    s->active += slice_is(e->state, "active");
    s->deferred += slice_is(e->state, "deferred");
    s->held += slice_is(e->state, "held");
    s->damaged += slice_is(e->state, "damaged");
    if (e->received == 0)
        return; /* damaged: nothing is known of it */
    s->oldest = MIN(s->oldest, e->received);
    size_t i = 0;
    while (s->now - e->received >= ages[i].below_ms)
        i++;
    s->ages[i]++;
    count_domain(s, e->recipient);
}

static int by_messages(const void *a, const void *b)
{
    const struct queue_domain *x = a, *y = b;
    if (x->messages != y->messages)
        return x->messages > y->messages ? -1 : 1;
    return slice_cmp(x->name, y->name);
}

static struct queue_domain *sorted(const struct queue_summary *s, size_t *n)
{
    struct queue_domain *list = xcalloc(map_count(&s->domains) + 1, sizeof(*list));
    struct slice key;
    void *value;
    *n = 0;
    for (size_t pos = 0; map_next(&s->domains, &pos, &key, &value);)
        list[(*n)++] = (struct queue_domain){key, ((struct queue_domain *)value)->messages};
    qsort(list, *n, sizeof(*list), by_messages);
    return list;
}

static void print_json(const struct queue_summary *s, const struct queue_domain *domains, size_t n)
{
    struct buf b;
    struct json j = {&b, false};
    buf_init(&b, 64 * 1024 * 1024);
    json_begin(&j, NULL, '{');
    json_int(&j, "messages", (int64_t)s->messages);
    json_int(&j, "bytes", (int64_t)s->bytes);
    json_int(&j, "active", (int64_t)s->active);
    json_int(&j, "deferred", (int64_t)s->deferred);
    json_int(&j, "held", (int64_t)s->held);
    json_int(&j, "damaged", (int64_t)s->damaged);
    json_int(&j, "oldest_ms", s->now - s->oldest);
    json_begin(&j, "ages", '{');
    for (size_t i = 0; i < QUEUE_AGES; i++)
        json_int(&j, ages[i].name, (int64_t)s->ages[i]);
    json_end(&j, '}');
    json_begin(&j, "domains", '[');
    for (size_t i = 0; i < n; i++) {
        json_begin(&j, NULL, '{');
        json_str(&j, "domain", domains[i].name);
        json_int(&j, "messages", (int64_t)domains[i].messages);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
}

void queue_summary_print(const struct queue_summary *s, bool as_json)
{
    size_t n;
    struct queue_domain *domains = sorted(s, &n);
    if (as_json) {
        print_json(s, domains, n);
        free(domains);
        return;
    }
    printf("%" PRIu64 " messages, %" PRIu64 " bytes: %" PRIu64 " active, %" PRIu64
           " deferred, %" PRIu64 " held, %" PRIu64 " damaged\n",
        s->messages, s->bytes, s->active, s->deferred, s->held, s->damaged);
    if (s->messages)
        printf("oldest: %" PRId64 " minutes\n", (s->now - s->oldest) / 60000);
    for (size_t i = 0; i < QUEUE_AGES && s->messages; i++)
        printf("%s%s %" PRIu64, i ? "  " : "age: ", ages[i].name, s->ages[i]);
    if (s->messages)
        putchar('\n');
    for (size_t i = 0; i < MIN(n, (size_t)DOMAINS_SHOWN); i++)
        printf("%9" PRIu64 "  %.*s\n", domains[i].messages, SLICE_FMT(domains[i].name));
    free(domains);
}

void queue_summary_clear(struct queue_summary *s)
{
    void *value;
    for (size_t pos = 0; map_next(&s->domains, &pos, NULL, &value);)
        free(value);
    map_clear(&s->domains);
}
