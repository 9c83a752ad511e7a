#include "libmail/login_penalty.h"

#include "libutil/buf.h"

enum {
    ENTRIES_MAX = 20000,
    QUIET_MS = 600000,
    FIRST_MS = 1000,
    DELAY_MAX_MS = 30000,
    KEY_MAX = 330
};

struct entry {
    unsigned count;
    int64_t last;
};

void login_penalty_init(struct login_penalty *p)
{
    map_init(&p->failures);
}

static void drop_older(struct login_penalty *p, int64_t before)
{
    size_t pos = 0;
    struct slice key;
    void *value;
    while (map_next(&p->failures, &pos, &key, &value)) {
        struct entry *e = value;
        if (e->last >= before)
            continue;
        map_remove(&p->failures, key);
        free(e);
    }
}

void login_penalty_clear(struct login_penalty *p)
{
    drop_older(p, INT64_MAX);
    map_clear(&p->failures);
}

/* Addresses and accounts live in one table, told apart by a letter. */
static struct slice key_of(struct buf *b, char kind, struct slice name)
{
    buf_init(b, KEY_MAX);
    buf_putc(b, kind);
    for (size_t i = 0; i < MIN(name.n, KEY_MAX - 1); i++)
        buf_putc(b, name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i]);
    return buf_slice(b);
}

static unsigned count_failure(struct login_penalty *p, char kind, struct slice name, int64_t now)
{
    struct buf b;
    struct slice key = key_of(&b, kind, name);
    struct entry *e = map_get(&p->failures, key);
    if (!e && map_count(&p->failures) >= ENTRIES_MAX)
        drop_older(p, now - QUIET_MS);
    if (!e && map_count(&p->failures) >= ENTRIES_MAX)
        drop_older(p, INT64_MAX);
    if (!e) {
        e = NEW(struct entry);
        map_set(&p->failures, key, e);
    }
    if (now - e->last > QUIET_MS)
        e->count = 0;
    e->count++;
    e->last = now;
    buf_clear(&b);
    return e->count;
}

int64_t login_penalty_add(
    struct login_penalty *p, struct slice address, struct slice account, int64_t now)
{
    unsigned a = count_failure(p, 'a', address, now);
    unsigned u = account.n ? count_failure(p, 'u', account, now) : 0;
    unsigned n = MIN(MAX(a, u), 10);
    assert(n > 0);
    return MIN((int64_t)FIRST_MS << (n - 1), DELAY_MAX_MS);
}

void login_penalty_forgive(struct login_penalty *p, struct slice account)
{
    struct buf b;
    free(map_remove(&p->failures, key_of(&b, 'u', account)));
    buf_clear(&b);
}
