#include "libmail/text.h"

#include <inttypes.h>
#include <string.h>

static void put_encoded(struct buf *b, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == 0x7f || c == '%')
            buf_printf(b, "%%%02X", c);
        else
            buf_putc(b, (char)c);
    }
}

static void put_value(struct buf *b, const struct field *f, const void *at)
{
    switch (f->kind) {
    case FIELD_U32:
        buf_printf(b, "%" PRIu32, *(const uint32_t *)at);
        break;
    case FIELD_U64:
        buf_printf(b, "%" PRIu64, *(const uint64_t *)at);
        break;
    case FIELD_I64:
        buf_printf(b, "%" PRId64, *(const int64_t *)at);
        break;
    case FIELD_BOOL:
        buf_puts(b, *(const bool *)at ? "yes" : "no");
        break;
    case FIELD_STR:
    case FIELD_BYTES:
    case FIELD_SECRET:
        put_encoded(b, *(const struct slice *)at);
        break;
    }
}

int text_put(struct buf *b, const char *word, const struct record *rec, const void *value)
{
    buf_puts(b, word);
    for (size_t i = 0; i < rec->nfields; i++) {
        const struct field *f = &rec->fields[i];
        buf_printf(b, " %s=", f->name);
        put_value(b, f, (const char *)value + f->offset);
    }
    return buf_putc(b, '\n');
}

static int get_decoded(struct slice s, const struct field *f, struct slice *out, struct arena *a)
{
    char *to = arena_alloc(a, s.n + 1);
    if (!to)
        return ERR_LIMIT;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? hex_digit_upper(s.p[i + 1]) : -1;
            int low = i + 2 < s.n ? hex_digit_upper(s.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return ERR_SYNTAX;
            c = (char)(high << 4 | low);
            i += 2;
        }
        to[n++] = c;
    }
    if (n > f->max || (f->kind == FIELD_STR && memchr(to, 0, n)))
        return ERR_SYNTAX;
    *out = (struct slice){to, n};
    return OK;
}

static int get_value(struct slice s, const struct field *f, void *at, struct arena *a)
{
    uint64_t number;
    int rc = OK;
    switch (f->kind) {
    case FIELD_U32:
        rc = slice_u64(s, 0, UINT32_MAX, &number);
        if (rc == OK)
            *(uint32_t *)at = (uint32_t)number;
        return rc;
    case FIELD_U64:
        return slice_u64(s, 0, UINT64_MAX, (uint64_t *)at);
    case FIELD_I64:
        return slice_i64(s, INT64_MIN, INT64_MAX, (int64_t *)at);
    case FIELD_BOOL:
        *(bool *)at = slice_is(s, "yes");
        return slice_is(s, "yes") || slice_is(s, "no") ? OK : ERR_SYNTAX;
    case FIELD_STR:
    case FIELD_BYTES:
    case FIELD_SECRET:
        return get_decoded(s, f, at, a);
    }
    return ERR_SYNTAX;
}

static const struct field *find_field(const struct record *rec, struct slice name)
{
    for (size_t i = 0; i < rec->nfields; i++)
        if (slice_is(name, rec->fields[i].name))
            return &rec->fields[i];
    return NULL;
}

int text_get(struct slice fields, const struct record *rec, void *value, struct arena *a)
{
    memset(value, 0, rec->size);
    for (size_t i = 0; i < rec->nfields; i++)
        if (rec->fields[i].kind >= FIELD_STR)
            *(struct slice *)(void *)((char *)value + rec->fields[i].offset) = SLICE_LIT("");
    while (fields.n > 0) {
        struct slice word = slice_cut(&fields, ' ');
        if (word.n == 0)
            continue;
        struct slice name = slice_cut(&word, '=');
        const struct field *f = word.p ? find_field(rec, name) : NULL;
        int rc = f ? get_value(word, f, (char *)value + f->offset, a) : ERR_SYNTAX;
        if (rc != OK)
            return rc;
    }
    return OK;
}
