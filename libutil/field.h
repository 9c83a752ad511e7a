/*
 * Typed fields, declared once. A field table drives the IPC codec, packed records inside IPC
 * messages and on disk, log lines, printers and fuzz seeds, so that none of them is written
 * twice.
 *
 * A list of fields is a macro that applies F to each of them:
 *
 *     #define GREETING_FIELDS(F, S) \
 *         F(S, STR, name, 255)      \
 *         F(S, U32, count, 0)
 *
 * S is the struct's name, and the last column the maximum length of a byte string (ignored for
 * numbers). In the struct, STR, BYTES and SECRET members are slices.
 */
#pragma once

#include "libutil/buf.h"

enum field_kind {
    FIELD_U32,
    FIELD_U64,
    FIELD_I64,
    FIELD_BOOL,
    FIELD_STR,   /* bytes without NUL */
    FIELD_BYTES, /* any bytes */
    FIELD_SECRET /* any bytes; printed masked, wiped with the message */
};

struct field {
    const char *name;
    size_t offset;
    enum field_kind kind;
    uint32_t max;
};

/* A struct described by its fields. */
struct record {
    const char *name;
    const struct field *fields;
    size_t nfields;
    size_t size;
};

#define FIELD_CTYPE_U32 uint32_t
#define FIELD_CTYPE_U64 uint64_t
#define FIELD_CTYPE_I64 int64_t
#define FIELD_CTYPE_BOOL bool
#define FIELD_CTYPE_STR struct slice
#define FIELD_CTYPE_BYTES struct slice
#define FIELD_CTYPE_SECRET struct slice

#define FIELD_MEMBER(S, kind, name, max) FIELD_CTYPE_##kind name;
#define FIELD_ROW(S, kind, name, max) {#name, offsetof(struct S, name), FIELD_##kind, (max)},
#define FIELD_END             \
    {                         \
        NULL, 0, FIELD_U32, 0 \
    }

/* struct S and its descriptor S_record, for elements packed into a BYTES field or a file. */
#define RECORD_DECLARE(S, FIELDS) \
    struct S {                    \
        FIELDS(FIELD_MEMBER, S)   \
    };                            \
    extern const struct record S##_record;
#define RECORD_DEFINE(S, FIELDS)                                                      \
    static const struct field S##_record_fields[] = {FIELDS(FIELD_ROW, S) FIELD_END}; \
    const struct record S##_record = {                                                \
        #S, S##_record_fields, ARRAY_LEN(S##_record_fields) - 1, sizeof(struct S)};

/* Bytes that record_put adds at most. */
size_t record_space(const struct record *rec, const void *value);
/* Appends the encoding of *value. ERR_LIMIT when a string is over its maximum, holds a NUL
 * where it may not, or the buffer is full. */
int record_put(struct buf *b, const struct record *rec, const void *value) MUST_USE;
/* Decodes one record into *value; slices point into the reader's bytes. Anything malformed
 * sets r->bad and returns ERR_SYNTAX. Trailing bytes stay in r->rest for the next record. */
int record_get(struct reader *r, const struct record *rec, void *value) MUST_USE;
/* Appends " name=value" for each field, in logfmt; secrets print as ***; empty strings, zero
 * numbers are printed too when `all`, else left out. */
void record_print(struct buf *b, const struct record *rec, const void *value, bool all);
/* Appends s as a logfmt value: bare when safe, else quoted with \" \\ \n \xNN escapes. */
void field_print_str(struct buf *b, struct slice s);
/* A hash over names, kinds and limits, for comparing two builds. */
uint64_t record_hash(const struct record *rec, uint64_t seed);
