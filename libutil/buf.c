#include "libutil/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/error.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_over(struct buf *b, char *memory, size_t n)
{
    *b = (struct buf){.data = memory, .cap = n, .max = n};
}

void buf_clear(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_wipe(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
    buf_clear(b);
}

void buf_reset(struct buf *b)
{
    b->off = b->len = 0;
    b->failed = false;
}

struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->data ? b->data + b->off : "", b->len - b->off};
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= buf_len(b));
    b->off += n;
    if (b->off == b->len)
        b->off = b->len = 0;
}

void buf_truncate(struct buf *b, size_t n)
{
    assert(n <= buf_len(b));
    b->len = b->off + n;
}

/* Moves the content to the front; used before growing. */
static void compact(struct buf *b)
{
    if (b->off == 0)
        return;
    assert(b->data);
    memmove(b->data, b->data + b->off, b->len - b->off);
    b->len -= b->off;
    b->off = 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed || n > b->max || buf_len(b) > b->max - n) {
        b->failed = true;
        return NULL;
    }
    if (b->cap - b->len >= n && b->data)
        return b->data + b->len;
    compact(b);
    size_t need = b->len + n;
    if (need > b->cap || !b->data) {
        size_t cap = b->cap ? b->cap : MAX(need, (size_t)128); /* who asks first may know it all */
        while (cap < need)
            cap *= 2;
        b->cap = MIN(cap, MAX(b->max, need));
        b->data = xrealloc(b->data, b->cap, 1);
    }
    return b->data + b->len;
}

void buf_claim(struct buf *b, size_t n)
{
    assert(n <= b->cap - b->len);
    b->len += n;
}

int buf_put(struct buf *b, struct slice s)
{
    char *room = buf_reserve(b, s.n);
    if (!room)
        return ERR_LIMIT;
    if (s.n)
        memcpy(room, s.p, s.n);
    b->len += s.n;
    return OK;
}

int buf_puts(struct buf *b, const char *s)
{
    return buf_put(b, slice_of(s));
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    char small[512] __attribute__((uninitialized));
    /* In its place where there is room for it and the NUL. */
    size_t free_now = b->failed ? 0 : MIN(b->cap - b->len, b->max - buf_len(b));
    bool in_place = free_now >= sizeof(small);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(
        in_place ? b->data + b->len : small, in_place ? free_now : sizeof(small), fmt, ap);
    int rc = ERR_LIMIT;
    if (n >= 0 && in_place && (size_t)n < free_now) {
        b->len += (size_t)n;
        rc = OK;
    } else if (n >= 0 && !in_place && (size_t)n < sizeof(small)) {
        rc = buf_put(b, (struct slice){small, (size_t)n});
    } else if (n >= 0) {
        char *room = buf_reserve(b, (size_t)n + 1);
        if (room) {
            vsnprintf(room, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
            rc = OK;
        }
    }
    va_end(again);
    return rc;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return rc;
}

static inline int put_le(struct buf *b, uint64_t v, size_t bytes)
{
    char le[8];
    for (size_t i = 0; i < bytes; i++)
        le[i] = (char)(v >> (8 * i) & 0xff);
    return buf_put(b, (struct slice){le, bytes});
}

int buf_u8(struct buf *b, uint8_t v)
{
    return put_le(b, v, 1);
}

int buf_u16(struct buf *b, uint16_t v)
{
    return put_le(b, v, 2);
}

int buf_u32(struct buf *b, uint32_t v)
{
    return put_le(b, v, 4);
}

int buf_u64(struct buf *b, uint64_t v)
{
    return put_le(b, v, 8);
}

int buf_lv(struct buf *b, struct slice s)
{
    if (s.n > UINT32_MAX) {
        b->failed = true;
        return ERR_LIMIT;
    }
    int rc = buf_u32(b, (uint32_t)s.n);
    return rc ? rc : buf_put(b, s);
}

struct reader reader_of(struct slice s)
{
    return (struct reader){s, false};
}

struct slice get_bytes(struct reader *r, size_t n)
{
    if (r->bad || n > r->rest.n) {
        r->bad = true;
        return (struct slice){"", 0};
    }
    struct slice got = slice_first(r->rest, n);
    r->rest = slice_from_index(r->rest, n);
    return got;
}

static inline uint64_t get_le(struct reader *r, size_t bytes)
{
    struct slice s = get_bytes(r, bytes);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v |= (uint64_t)(unsigned char)s.p[i] << (8 * i);
    return v;
}

uint8_t get_u8(struct reader *r)
{
    return (uint8_t)get_le(r, 1);
}

uint16_t get_u16(struct reader *r)
{
    return (uint16_t)get_le(r, 2);
}

uint32_t get_u32(struct reader *r)
{
    return (uint32_t)get_le(r, 4);
}

uint64_t get_u64(struct reader *r)
{
    return get_le(r, 8);
}

struct slice get_lv(struct reader *r, size_t max)
{
    uint32_t n = get_u32(r);
    if (n > max)
        r->bad = true;
    return get_bytes(r, n);
}

bool reader_done(const struct reader *r)
{
    return !r->bad && r->rest.n == 0;
}
