/*
 * The one growable buffer, with a hard maximum, and the one bounds-checked reader.
 *
 * A put that would pass the maximum changes nothing, sets `failed` and returns ERR_LIMIT; the
 * flag sticks until buf_reset, so a sequence of puts may be checked once at its end.
 * Fixed-width integers are little endian.
 */
#pragma once

#include "libutil/slice.h"

struct buf {
    char *data;
    size_t off; /* consumed from the front */
    size_t len; /* bytes in data, including the consumed ones */
    size_t cap;
    size_t max;
    bool failed;
};

/* An empty buffer holding at most max bytes; nothing is allocated yet. */
void buf_init(struct buf *b, size_t max);
/* On n bytes of the caller's, which is also its maximum: nothing is allocated, and it is not to be
 * cleared. */
void buf_over(struct buf *b, char *memory, size_t n);
/* Frees the memory; the buffer may be used again with the same maximum. */
void buf_clear(struct buf *b);
/* As buf_clear, after wiping the memory. */
void buf_wipe(struct buf *b);
/* Empties without freeing and forgets `failed`. */
void buf_reset(struct buf *b);

/* The unconsumed bytes; valid until the next put. */
struct slice buf_slice(const struct buf *b);
static inline size_t buf_len(const struct buf *b)
{
    return b->len - b->off;
}
/* Drops n bytes from the front; n may not exceed buf_len. */
void buf_consume(struct buf *b, size_t n);
/* Shortens to n unconsumed bytes. */
void buf_truncate(struct buf *b, size_t n);

/* Room for n more bytes, to be filled and then claimed with buf_claim; NULL past the maximum. */
char *buf_reserve(struct buf *b, size_t n);
void buf_claim(struct buf *b, size_t n);

int buf_put(struct buf *b, struct slice s);
int buf_puts(struct buf *b, const char *s);
static inline int buf_putc(struct buf *b, char c)
{
    if (b->failed || b->len == b->cap || buf_len(b) >= b->max)
        return buf_put(b, (struct slice){&c, 1});
    b->data[b->len++] = c;
    return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
int buf_u8(struct buf *b, uint8_t v);
int buf_u16(struct buf *b, uint16_t v);
int buf_u32(struct buf *b, uint32_t v);
int buf_u64(struct buf *b, uint64_t v);
/* u32 length, then the bytes. */
int buf_lv(struct buf *b, struct slice s);

/* Reads from a slice; anything short sets `bad`, and all later gets return zero. */
struct reader {
    struct slice rest;
    bool bad;
};

struct reader reader_of(struct slice s);
uint8_t get_u8(struct reader *r);
uint16_t get_u16(struct reader *r);
uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
struct slice get_bytes(struct reader *r, size_t n);
/* A u32 length no greater than max, then the bytes. */
struct slice get_lv(struct reader *r, size_t max);
/* True when everything was read and nothing was bad. */
bool reader_done(const struct reader *r);
