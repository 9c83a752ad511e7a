#include "libutil/map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static char gone_mark, id_mark;
#define MAP_GONE (&gone_mark)
#define MAP_ID (&id_mark)

static uint64_t rotl(uint64_t v, int n)
{
    return v << n | v >> (64 - n);
}

#define SIP_ROUND(v)                                                       \
    do {                                                                   \
        v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32); \
        v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];                        \
        v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];                        \
        v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32); \
    } while (0)

/* SipHash-1-3 (Aumasson and Bernstein, 2012) with a key drawn once per process. */
static uint64_t keyed_hash(struct slice s)
{
    static uint64_t key[2];
    if (!key[0] && !key[1] && getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        key[0] = (uint64_t)(uintptr_t)&s | 1;
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
        key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const unsigned char *p = (const unsigned char *)s.p;
    uint64_t last = (uint64_t)s.n << 56;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t m;
        memcpy(&m, p + i, 8);
        v[3] ^= m;
        SIP_ROUND(v);
        v[0] ^= m;
    }
    for (int shift = 0; i < s.n; i++, shift += 8)
        last |= (uint64_t)p[i] << shift;
    v[3] ^= last;
    SIP_ROUND(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++)
        SIP_ROUND(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

static bool is_live(const struct map_entry *e)
{
    return e->key && e->key != MAP_GONE;
}

/* Ids are the keys of most maps, and need no memory of their own. */
static struct slice key_of(const struct map_entry *e)
{
    return e->key == MAP_ID ? slice_from(&e->id, sizeof(e->id)) : slice_from(e->key, e->key_len);
}

static void set_key(struct map_entry *e, struct slice key)
{
    if (key.n == sizeof(e->id)) {
        e->key = MAP_ID;
        memcpy(&e->id, key.p, sizeof(e->id));
    } else {
        e->key = xmemdup0(key.p, key.n);
        e->key_len = key.n;
    }
}

static void free_key(struct map_entry *e)
{
    if (e->key != MAP_ID)
        free(e->key);
}

void map_clear(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->entries[i]))
            free_key(&m->entries[i]);
    free(m->entries);
    map_init(m);
}

/* The entry of key, or NULL. */
static struct map_entry *find(const struct map *m, struct slice key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_entry *e = &m->entries[i];
        if (!e->key)
            return NULL;
        if (is_live(e) && e->hash == hash && slice_eq(key_of(e), key))
            return e;
    }
}

static void place(struct map *m, struct map_entry entry)
{
    size_t i = entry.hash & (m->cap - 1);
    while (m->entries[i].key)
        i = (i + 1) & (m->cap - 1);
    m->entries[i] = entry;
    m->filled++;
}

static void resize(struct map *m)
{
    struct map old = *m;
    m->cap = 4;
    while (m->cap < old.used * 2 + 2)
        m->cap *= 2;
    m->filled = 0;
    m->entries = xcalloc(m->cap, sizeof(*m->entries));
    for (size_t i = 0; i < old.cap; i++)
        if (is_live(&old.entries[i]))
            place(m, old.entries[i]);
    free(old.entries);
}

void *map_get(const struct map *m, struct slice key)
{
    if (m->used == 0)
        return NULL;
    const struct map_entry *e = find(m, key, keyed_hash(key));
    return e ? e->value : NULL;
}

void *map_set(struct map *m, struct slice key, void *value)
{
    assert(value);
    uint64_t hash = keyed_hash(key);
    struct map_entry *e = find(m, key, hash);
    if (e) {
        void *before = e->value;
        e->value = value;
        return before;
    }
    if ((m->filled + 1) * 4 > m->cap * 3)
        resize(m);
    struct map_entry entry = {.hash = hash, .value = value};
    set_key(&entry, key);
    place(m, entry);
    m->used++;
    return NULL;
}

void *map_remove(struct map *m, struct slice key)
{
    struct map_entry *e = m->used ? find(m, key, keyed_hash(key)) : NULL;
    if (!e)
        return NULL;
    void *value = e->value;
    /* Nobody looks behind it for another when nothing follows. */
    bool last = !m->entries[(size_t)(e - m->entries + 1) & (m->cap - 1)].key;
    free_key(e);
    *e = (struct map_entry){.key = last ? NULL : MAP_GONE};
    m->filled -= last;
    m->used--;
    return value;
}

size_t map_count(const struct map *m)
{
    return m->used;
}

bool map_next(const struct map *m, size_t *pos, struct slice *key, void **value)
{
    for (; *pos < m->cap; ++*pos) {
        const struct map_entry *e = &m->entries[*pos];
        if (!is_live(e))
            continue;
        if (key)
            *key = key_of(e);
        if (value)
            *value = e->value;
        ++*pos;
        return true;
    }
    return false;
}

static struct slice id_key(const uint64_t *id)
{
    return (struct slice){(const char *)id, sizeof(*id)};
}

void *map_get_id(const struct map *m, uint64_t id)
{
    return map_get(m, id_key(&id));
}

void *map_set_id(struct map *m, uint64_t id, void *value)
{
    return map_set(m, id_key(&id), value);
}

void *map_remove_id(struct map *m, uint64_t id)
{
    return map_remove(m, id_key(&id));
}
