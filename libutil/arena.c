#include "libutil/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libutil/error.h"

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    max_align_t data[];
};

struct arena_hook {
    struct arena_hook *next;
    void (*fn)(void *);
    void *arg;
};

/* Small enough for what malloc keeps at hand. */
enum { BLOCK_SIZE = 1024 - sizeof(struct arena_block) };

void arena_init(struct arena *a, size_t cap)
{
    *a = (struct arena){.cap = cap};
}

void arena_reset(struct arena *a)
{
    for (struct arena_hook *h = a->hooks; h; h = h->next)
        h->fn(h->arg);
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
    arena_init(a, a->cap);
}

void *arena_alloc(struct arena *a, size_t n)
{
    const size_t align = sizeof(max_align_t);
    if (n > a->cap || n > SIZE_MAX - align)
        return NULL;
    n = (n + align - 1) / align * align;
    if (n == 0)
        n = align;
    struct arena_block *b = a->blocks;
    if (!b || b->size - b->used < n) {
        size_t size = MAX(n, (size_t)BLOCK_SIZE);
        if (a->used + size > a->cap + BLOCK_SIZE)
            return NULL;
        b = xcalloc(1, sizeof(*b) + size);
        b->size = size;
        b->next = a->blocks;
        a->blocks = b;
        a->used += size;
    }
    void *p = (char *)b->data + b->used;
    b->used += n;
    return p;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    return arena_alloc(a, total);
}

char *arena_cstr(struct arena *a, struct slice s)
{
    if (s.n == SIZE_MAX)
        return NULL;
    char *p = arena_alloc(a, s.n + 1);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    return p;
}

struct slice arena_dup(struct arena *a, struct slice s)
{
    char *p = arena_cstr(a, s);
    return (struct slice){p, p ? s.n : 0};
}

struct slice arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (!p)
        return (struct slice){NULL, 0};
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return (struct slice){p, (size_t)n};
}

int arena_on_reset(struct arena *a, void (*fn)(void *arg), void *arg)
{
    struct arena_hook *h = ARENA_NEW(a, struct arena_hook);
    if (!h)
        return ERR_LIMIT;
    *h = (struct arena_hook){a->hooks, fn, arg};
    a->hooks = h;
    return OK;
}
