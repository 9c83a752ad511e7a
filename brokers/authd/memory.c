#include "brokers/authd/memory.h"

#include <sys/random.h>

#include "libutil/buf.h"
#include "libutil/error.h"
#include "libutil/net.h"

static void random_bytes(void *out, size_t n)
{
    if (getrandom(out, n, 0) != (ssize_t)n)
        abort(); /* without randomness nothing here is safe */
}

/* Frees entries whose time is over; every entry begins with the time of its end. */
static void sweep(struct map *map, int64_t now, size_t size)
{
    size_t pos = 0;
    struct slice key;
    void *value;
    while (map_next(map, &pos, &key, &value))
        if (*(int64_t *)value <= now) {
            map_remove(map, key);
            explicit_bzero(value, size);
            free(value);
        }
}

static void clear(struct map *map, size_t size)
{
    sweep(map, INT64_MAX, size);
    map_clear(map);
}

/* --- credentials --------------------------------------------------------------------------------
 */
struct credential {
    int64_t until;
    uint8_t print[SIPHASH_LEN];
};

void credentials_init(struct credentials *c, int64_t ttl_ms)
{
    map_init(&c->map);
    random_bytes(c->key, sizeof(c->key));
    c->ttl = ttl_ms;
}

void credentials_clear(struct credentials *c)
{
    clear(&c->map, sizeof(struct credential));
    explicit_bzero(c, sizeof(*c));
}

static void fingerprint(
    const struct credentials *c, const char *hash, struct slice password, uint8_t out[SIPHASH_LEN])
{
    struct buf b;
    buf_init(&b, 8192);
    buf_lv(&b, slice_of(hash));
    buf_lv(&b, password);
    siphash(c->key, buf_slice(&b), out);
    buf_wipe(&b);
}

void credentials_remember(
    struct credentials *c, const char *user, const char *hash, struct slice password, int64_t now)
{
    if (c->ttl == 0)
        return;
    struct credential *known = map_get(&c->map, slice_of(user));
    if (!known) {
        if (map_count(&c->map) >= CREDENTIALS_MAX)
            sweep(&c->map, now, sizeof(*known));
        if (map_count(&c->map) >= CREDENTIALS_MAX)
            return;
        known = NEW(struct credential);
        map_set(&c->map, slice_of(user), known);
    }
    known->until = now + c->ttl;
    fingerprint(c, hash, password, known->print);
}

bool credentials_known(
    struct credentials *c, const char *user, const char *hash, struct slice password, int64_t now)
{
    const struct credential *known = map_get(&c->map, slice_of(user));
    uint8_t print[SIPHASH_LEN], differ = 0;
    if (!known || known->until <= now)
        return false;
    fingerprint(c, hash, password, print);
    for (size_t i = 0; i < sizeof(print); i++)
        differ |= print[i] ^ known->print[i];
    return differ == 0;
}

/* --- failures -----------------------------------------------------------------------------------
 */
struct failure {
    int64_t until;
    unsigned count;
};

void failures_init(struct failures *f, int64_t window_ms, unsigned most)
{
    map_init(&f->map);
    f->window = window_ms;
    f->most = most;
}

void failures_clear(struct failures *f)
{
    clear(&f->map, sizeof(struct failure));
}

/* An IPv6 client owns at least a /64. */
static struct slice client_key(struct slice client, char out[80])
{
    struct net_addr addr;
    int n;
    if (net_addr_parse(client, &addr) == OK && addr.bits == 128)
        n = snprintf(out, 80, "a:%02x%02x%02x%02x%02x%02x%02x%02x", addr.bytes[0], addr.bytes[1],
            addr.bytes[2], addr.bytes[3], addr.bytes[4], addr.bytes[5], addr.bytes[6],
            addr.bytes[7]);
    else
        n = snprintf(out, 80, "a:%.*s", SLICE_FMT(slice_first(client, 64)));
    return slice_from(out, (size_t)n);
}

static struct slice user_key(struct slice user, char out[300])
{
    int n = snprintf(out, 300, "u:%.*s", SLICE_FMT(slice_first(user, 255)));
    ascii_lower(out, (size_t)n);
    return slice_from(out, (size_t)n);
}

static void add_one(struct failures *f, struct slice key, int64_t now)
{
    struct failure *known = map_get(&f->map, key);
    if (!known) {
        if (map_count(&f->map) >= FAILURES_MAX)
            sweep(&f->map, now, sizeof(*known));
        if (map_count(&f->map) >= FAILURES_MAX)
            return;
        known = NEW(struct failure);
        map_set(&f->map, key, known);
    }
    if (known->until <= now)
        *known = (struct failure){.until = now + f->window};
    known->count++;
}

void failures_add(struct failures *f, struct slice client, struct slice user, int64_t now)
{
    char a[80], u[300];
    add_one(f, client_key(client, a), now);
    add_one(f, user_key(user, u), now);
}

static unsigned count_of(const struct failures *f, struct slice key, int64_t now)
{
    const struct failure *known = map_get(&f->map, key);
    return known && known->until > now ? known->count : 0;
}

bool failures_too_many(struct failures *f, struct slice client, struct slice user, int64_t now)
{
    char a[80], u[300];
    return count_of(f, client_key(client, a), now) >= f->most ||
           count_of(f, user_key(user, u), now) / 10 >= f->most;
}

/* --- tickets ------------------------------------------------------------------------------------
 */
struct ticket {
    int64_t until;
    char user[256], service[17];
};

void tickets_init(struct tickets *t)
{
    map_init(&t->map);
}

void tickets_clear(struct tickets *t)
{
    clear(&t->map, sizeof(struct ticket));
}

int tickets_issue(
    struct tickets *t, const char *user, struct slice service, int64_t now, uint8_t out[TICKET_LEN])
{
    if (map_count(&t->map) >= TICKETS_MAX)
        sweep(&t->map, now, sizeof(struct ticket));
    if (map_count(&t->map) >= TICKETS_MAX)
        return ERR_BUSY;
    struct ticket *ticket = NEW(struct ticket);
    ticket->until = now + TICKET_MS;
    if (!slice_to_cstr(slice_of(user), ticket->user, sizeof(ticket->user)) ||
        !slice_to_cstr(service, ticket->service, sizeof(ticket->service))) {
        free(ticket);
        return ERR_LIMIT;
    }
    random_bytes(out, TICKET_LEN);
    map_set(&t->map, slice_from(out, TICKET_LEN), ticket);
    return OK;
}

bool tickets_redeem(struct tickets *t, struct slice text, struct slice service, int64_t now,
    char *user, size_t size)
{
    struct ticket *ticket = map_remove(&t->map, text);
    if (!ticket)
        return false;
    bool good = ticket->until > now && slice_is(service, ticket->service) &&
                slice_to_cstr(slice_of(ticket->user), user, size);
    explicit_bzero(ticket, sizeof(*ticket));
    free(ticket);
    return good;
}
