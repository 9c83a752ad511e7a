#include "libstore/uidset.h"

#include <stdlib.h>
#include <string.h>

void uidset_clear(struct uidset *s)
{
    free(s->ranges);
    *s = (struct uidset){0};
}

/* Index of the first range that ends at or after uid. */
static size_t find(const struct uidset *s, uint32_t uid)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->ranges[mid].max < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void uidset_add_range(struct uidset *s, uint32_t min, uint32_t max)
{
    assert(min <= max);
    /* Ranges from `first` up to (not including) `last` touch the new one and are merged. */
    size_t first = find(s, min ? min - 1 : 0), last = first;
    while (last < s->n && (max == UINT32_MAX || s->ranges[last].min <= max + 1)) {
        min = MIN(min, s->ranges[last].min);
        max = MAX(max, s->ranges[last].max);
        last++;
    }
    if (first == last && s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        s->ranges = xrealloc(s->ranges, s->cap, sizeof(*s->ranges));
    }
    if (last - first != 1) {
        memmove(s->ranges + first + 1, s->ranges + last, (s->n - last) * sizeof(*s->ranges));
        s->n = s->n - (last - first) + 1;
    }
    s->ranges[first] = (struct uid_range){min, max};
}

void uidset_add(struct uidset *s, uint32_t uid)
{
    uidset_add_range(s, uid, uid);
}

bool uidset_has(const struct uidset *s, uint32_t uid)
{
    size_t i = find(s, uid);
    return i < s->n && s->ranges[i].min <= uid;
}

size_t uidset_count(const struct uidset *s)
{
    size_t count = 0;
    for (size_t i = 0; i < s->n; i++)
        count += (size_t)(s->ranges[i].max - s->ranges[i].min) + 1;
    return count;
}

void uidset_print(const struct uidset *s, struct buf *out)
{
    for (size_t i = 0; i < s->n; i++) {
        buf_printf(out, "%s%u", i ? "," : "", s->ranges[i].min);
        if (s->ranges[i].max != s->ranges[i].min)
            buf_printf(out, ":%u", s->ranges[i].max);
    }
}

bool uidset_next(const struct uidset *s, uint32_t *uid)
{
    if (*uid == UINT32_MAX)
        return false;
    size_t i = find(s, *uid + 1);
    if (i == s->n)
        return false;
    *uid = MAX(*uid + 1, s->ranges[i].min);
    return true;
}
