#include "smtpd/verdicts.h"

#include <stdlib.h>

enum { KEPT_MAX = 2048, SIZE_MAX_KEPT = 1024 };

struct kept {
    size_t n;
    char recipients[];
};

/* What the verdict depends on; false: too long. */
static bool make_key(struct slice address, bool may_relay, char out[322], struct slice *key)
{
    if (address.n > 320)
        return false;
    out[0] = may_relay ? 'r' : '-';
    memcpy(out + 1, address.p, address.n);
    *key = slice_from(out, address.n + 1);
    return true;
}

static void forget_all(struct verdicts *v)
{
    size_t pos = 0;
    void *kept;
    while (map_next(&v->kept, &pos, NULL, &kept))
        free(kept);
    map_clear(&v->kept);
    map_init(&v->kept);
}

void verdicts_init(struct verdicts *v)
{
    map_init(&v->kept);
    for (size_t i = 0; i < ROUTE_SOURCES; i++)
        v->marks[i] = FILEMARK_NONE;
}

void verdicts_reset(struct verdicts *v)
{
    forget_all(v);
    for (size_t i = 0; i < ROUTE_SOURCES; i++)
        filemark_clear(&v->marks[i]);
}

void verdicts_mark(struct verdicts *v, const struct route_mark *msg, int *fd)
{
    if (msg->source >= ROUTE_SOURCES)
        return;
    forget_all(v);
    filemark_clear(&v->marks[msg->source]);
    v->marks[msg->source] = FILEMARK_OF(msg, *fd);
    *fd = -1;
}

static bool all_hold(const struct verdicts *v)
{
    for (size_t i = 0; i < ROUTE_SOURCES; i++)
        if (!filemark_holds(&v->marks[i]))
            return false;
    return true;
}

struct slice verdicts_find(struct verdicts *v, const struct route_check *check)
{
    char text[322];
    struct slice key;
    const struct slice none = {NULL, 0};
    if (map_count(&v->kept) == 0 || !make_key(check->address, check->may_relay, text, &key))
        return none;
    const struct kept *kept = map_get(&v->kept, key);
    if (!kept)
        return none;
    if (!all_hold(v)) {
        forget_all(v);
        return none;
    }
    return slice_from(kept->recipients, kept->n);
}

void verdicts_keep(
    struct verdicts *v, struct slice address, bool may_relay, const struct route_verdict *verdict)
{
    char text[322];
    struct slice key, packed = verdict->recipients;
    if (!verdict->keep || verdict->code != 250 || verdict->hold.n || packed.n > SIZE_MAX_KEPT ||
        !make_key(address, may_relay, text, &key))
        return;
    if (map_count(&v->kept) >= KEPT_MAX)
        forget_all(v);
    struct kept *kept = xcalloc(1, sizeof(*kept) + packed.n);
    kept->n = packed.n;
    memcpy(kept->recipients, packed.p, packed.n);
    free(map_set(&v->kept, key, kept));
}
