#include "libutil/slice.h"

#include <string.h>
#include <strings.h>

#include "libutil/error.h"

bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool slice_ieq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

bool slice_is(struct slice a, const char *s)
{
    return slice_eq(a, slice_of(s));
}

bool slice_starts(struct slice s, const char *prefix)
{
    return slice_is(slice_first(s, strlen(prefix)), prefix);
}

bool slice_istarts(struct slice s, const char *prefix)
{
    return slice_iis(slice_first(s, strlen(prefix)), prefix);
}

bool slice_ends(struct slice s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s.n >= n && slice_is(slice_from_index(s, s.n - n), suffix);
}

bool slice_is_ascii(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] > 127)
            return false;
    return true;
}

static int hex(char c, char ten)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= ten && c <= ten + 5 ? c - ten + 10 : -1;
}

int hex_digit_lower(char c)
{
    return hex(c, 'a');
}

int hex_digit_upper(char c)
{
    return hex(c, 'A');
}

int hex_digit(char c)
{
    int value = hex(c, 'a');
    return value < 0 ? hex(c, 'A') : value;
}

int slice_cmp(struct slice a, struct slice b)
{
    size_t n = MIN(a.n, b.n);
    int r = n ? memcmp(a.p, b.p, n) : 0;
    if (r)
        return r;
    return a.n < b.n ? -1 : a.n > b.n;
}

ptrdiff_t slice_chr(struct slice s, char c)
{
    const char *hit = s.n ? memchr(s.p, c, s.n) : NULL;
    return hit ? hit - s.p : -1;
}

ptrdiff_t slice_rchr(struct slice s, char c)
{
    const char *hit = s.n ? memrchr(s.p, c, s.n) : NULL;
    return hit ? hit - s.p : -1;
}

ptrdiff_t slice_find(struct slice s, struct slice needle)
{
    if (needle.n == 0)
        return 0;
    const char *hit = s.n ? memmem(s.p, s.n, needle.p, needle.n) : NULL;
    return hit ? hit - s.p : -1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
    while (s.n && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct slice slice_cut(struct slice *rest, char sep)
{
    struct slice all = *rest;
    ptrdiff_t at = slice_chr(all, sep);
    if (at < 0) {
        *rest = (struct slice){NULL, 0};
        return all;
    }
    *rest = slice_from_index(all, (size_t)at + 1);
    return slice_first(all, (size_t)at);
}

int slice_u64(struct slice s, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (s.n == 0)
        return ERR_SYNTAX;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return ERR_SYNTAX;
        if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
            return ERR_LIMIT;
    }
    if (v < min || v > max)
        return ERR_LIMIT;
    *out = v;
    return OK;
}

int slice_i64(struct slice s, int64_t min, int64_t max, int64_t *out)
{
    bool negative = s.n && s.p[0] == '-';
    uint64_t v;
    int rc = slice_u64(slice_from_index(s, negative), 0, INT64_MAX, &v);
    if (rc)
        return rc;
    int64_t value = negative ? -(int64_t)v : (int64_t)v;
    if (value < min || value > max)
        return ERR_LIMIT;
    *out = value;
    return OK;
}

bool slice_to_cstr(struct slice s, char *out, size_t size)
{
    if (s.n >= size || slice_chr(s, '\0') >= 0)
        return false;
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

void ascii_lower(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + ('a' - 'A'));
}

uint64_t slice_hash(struct slice s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    return h;
}
