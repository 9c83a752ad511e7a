/*
 * Memory for one transaction: an SMTP transaction, an IMAP command, an IPC request. Nothing is
 * freed singly; arena_reset frees all and runs the cleanup hooks, last registered first.
 *
 * An arena has a cap. Exceeding it returns NULL, and the caller answers with a 4xx: a hostile
 * client must not be able to end the process.
 */
#pragma once

#include "libutil/slice.h"

struct arena_block;
struct arena_hook;

struct arena {
    struct arena_block *blocks;
    struct arena_hook *hooks;
    size_t used;
    size_t cap;
};

void arena_init(struct arena *a, size_t cap);
/* Runs the hooks and frees everything; the arena is empty and usable. */
void arena_reset(struct arena *a);
/* n zeroed bytes aligned for any type, or NULL past the cap. */
void *arena_alloc(struct arena *a, size_t n) MUST_USE;
/* A zeroed array; the product is checked. */
void *arena_array(struct arena *a, size_t n, size_t size) MUST_USE;
/* A copy of s with a NUL after it; on failure a slice with p == NULL. */
struct slice arena_dup(struct arena *a, struct slice s);
char *arena_cstr(struct arena *a, struct slice s);
struct slice arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Calls fn(arg) at reset. Returns 0 or ERR_LIMIT, and then fn was not registered. */
int arena_on_reset(struct arena *a, void (*fn)(void *arg), void *arg);

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
