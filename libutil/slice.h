/*
 * A slice is a borrowed view of bytes: pointer and length, never NUL-terminated by hand. It
 * must not outlive what it points into. Input is read as slices; output is built in a buf.
 */
#pragma once

#include "libutil/base.h"

struct slice {
    const char *p;
    size_t n;
};

#define SLICE_LIT(lit) ((struct slice){(lit), sizeof(lit) - 1})
/* For printf("%.*s", SLICE_FMT(s)). Evaluates s twice. */
#define SLICE_FMT(s) (int)(s).n, (s).p

/* The slice of a C string (without its NUL); NULL gives the empty slice. */
static inline struct slice slice_of(const char *s)
{
    return (struct slice){s, s ? __builtin_strlen(s) : 0};
}

static inline struct slice slice_from(const void *p, size_t n)
{
    return (struct slice){(const char *)p, n};
}

bool slice_eq(struct slice a, struct slice b);
/* Compares ignoring ASCII case. */
bool slice_ieq(struct slice a, struct slice b);
bool slice_is(struct slice a, const char *s);
/* Most names that are compared differ in their first letter. */
static inline bool slice_iis(struct slice a, const char *s)
{
    return (a.n == 0 || ((a.p[0] ^ s[0]) & ~0x20) == 0) && slice_ieq(a, slice_of(s));
}
bool slice_starts(struct slice s, const char *prefix);
bool slice_istarts(struct slice s, const char *prefix);
bool slice_ends(struct slice s, const char *suffix);
/* Whether no byte is above 127. */
bool slice_is_ascii(struct slice s);
/* The value of a hexadecimal digit, of either case or of one alone; -1: it is none. */
int hex_digit(char c);
int hex_digit_lower(char c);
int hex_digit_upper(char c);
/* memcmp order, a shorter prefix first. */
int slice_cmp(struct slice a, struct slice b);

/* Index of the first c, or -1. */
ptrdiff_t slice_chr(struct slice s, char c);
ptrdiff_t slice_rchr(struct slice s, char c);
/* Index of the first occurrence of needle, or -1. */
ptrdiff_t slice_find(struct slice s, struct slice needle);

/* The part from byte `from` on / the first n bytes; out-of-range is clipped. */
static inline struct slice slice_from_index(struct slice s, size_t from)
{
    from = MIN(from, s.n);
    return (struct slice){from ? s.p + from : s.p, s.n - from};
}

static inline struct slice slice_first(struct slice s, size_t n)
{
    return (struct slice){s.p, MIN(n, s.n)};
}

/* Without leading and trailing space and tab (and CR, LF). */
struct slice slice_trim(struct slice s);
/* Cuts at the first sep: returns what is before it and leaves what is after it in *rest. With
 * no sep, returns all and leaves *rest empty with p == NULL. */
struct slice slice_cut(struct slice *rest, char sep);

/* Parses all of s as a decimal number in [min, max]. Returns 0 or ERR_SYNTAX / ERR_LIMIT.
 * This is the one number parser; leading zeros are accepted, signs only in slice_i64. */
int slice_u64(struct slice s, uint64_t min, uint64_t max, uint64_t *out) MUST_USE;
int slice_i64(struct slice s, int64_t min, int64_t max, int64_t *out) MUST_USE;

/* Copies into a fixed C string with NUL; false when it does not fit or holds a NUL. */
bool slice_to_cstr(struct slice s, char *out, size_t size) MUST_USE;
/* Makes ASCII letters lower case, in place. */
void ascii_lower(char *p, size_t n);
/* FNV-1a, for hash tables keyed by trusted or bounded data. */
uint64_t slice_hash(struct slice s);
