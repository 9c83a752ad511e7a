/*
 * What every file may rely on: fixed-width types, a few macros, allocation that never
 * returns NULL, and the ban on functions that cannot be used safely.
 *
 * Allocation failure ends the process (not the system: master restarts it).
 */
#pragma once

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_USE __attribute__((warn_unused_result))

/* Zeroed memory for n objects of size bytes; the product is checked. Free with free(3). */
void *xcalloc(size_t n, size_t size) MUST_USE;
/* n bytes, not zeroed, at a multiple of align, a power of two. Free with free(3). */
void *xaligned(size_t align, size_t n) MUST_USE;
/* Grows p to n * size bytes; the product is checked; new bytes are not zeroed. */
void *xrealloc(void *p, size_t n, size_t size) MUST_USE;
/* A NUL-terminated copy of s; free with free(3). */
char *xstrdup(const char *s) MUST_USE;
/* A NUL-terminated copy of n bytes; free with free(3). */
char *xmemdup0(const void *p, size_t n) MUST_USE;

#define NEW(type) ((type *)xcalloc(1, sizeof(type)))

/* Closes *fd unless it is negative and sets it to -1. errno is kept. */
void fd_close(int *fd);

/* Since the machine was started, or some other moment before: for lengths of time. */
int64_t monotonic_us(void);
int64_t monotonic_ms(void);

/* After the headers that declare them. */
#undef alloca
#undef sprintf
#undef vsprintf
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol gets alloca strncpy
