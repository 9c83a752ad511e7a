#include "libutil/field.h"

#include "libutil/error.h"

static const void *member(const struct field *f, const void *value)
{
    return (const char *)value + f->offset;
}

static int put_field(struct buf *b, const struct field *f, const void *at)
{
    const struct slice *s = at;
    switch (f->kind) {
    case FIELD_U32:
        return buf_u32(b, *(const uint32_t *)at);
    case FIELD_U64:
        return buf_u64(b, *(const uint64_t *)at);
    case FIELD_I64:
        return buf_u64(b, (uint64_t) * (const int64_t *)at);
    case FIELD_BOOL:
        return buf_u8(b, *(const bool *)at);
    case FIELD_STR:
        if (slice_chr(*s, '\0') >= 0)
            return ERR_SYNTAX;
        break;
    case FIELD_BYTES:
    case FIELD_SECRET:
        break;
    }
    return s->n > f->max ? ERR_LIMIT : buf_lv(b, *s);
}

size_t record_space(const struct record *rec, const void *value)
{
    size_t n = 0;
    for (size_t i = 0; i < rec->nfields; i++) {
        const struct field *f = &rec->fields[i];
        bool number = f->kind == FIELD_U32 || f->kind == FIELD_U64 || f->kind == FIELD_I64 ||
                      f->kind == FIELD_BOOL;
        n += sizeof(uint64_t);
        n += number ? 0 : ((const struct slice *)member(f, value))->n;
    }
    return n;
}

int record_put(struct buf *b, const struct record *rec, const void *value)
{
    for (size_t i = 0; i < rec->nfields; i++) {
        int rc = put_field(b, &rec->fields[i], member(&rec->fields[i], value));
        if (rc)
            return rc;
    }
    return OK;
}

static void get_field(struct reader *r, const struct field *f, void *at)
{
    switch (f->kind) {
    case FIELD_U32:
        *(uint32_t *)at = get_u32(r);
        break;
    case FIELD_U64:
        *(uint64_t *)at = get_u64(r);
        break;
    case FIELD_I64:
        *(int64_t *)at = (int64_t)get_u64(r);
        break;
    case FIELD_BOOL: {
        uint8_t v = get_u8(r);
        r->bad |= v > 1; /* one encoding per value */
        *(bool *)at = v == 1;
        break;
    }
    case FIELD_STR:
        *(struct slice *)at = get_lv(r, f->max);
        r->bad |= slice_chr(*(struct slice *)at, '\0') >= 0;
        break;
    case FIELD_BYTES:
    case FIELD_SECRET:
        *(struct slice *)at = get_lv(r, f->max);
        break;
    }
}

int record_get(struct reader *r, const struct record *rec, void *value)
{
    memset(value, 0, rec->size);
    for (size_t i = 0; i < rec->nfields && !r->bad; i++)
        get_field(r, &rec->fields[i], (char *)value + rec->fields[i].offset);
    return r->bad ? ERR_SYNTAX : OK;
}

static bool is_bare(char c)
{
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

static void print_quoted(struct buf *b, struct slice s)
{
    buf_putc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_puts(b, "\\n");
        else if (c == '\r')
            buf_puts(b, "\\r");
        else if (c == '\t')
            buf_puts(b, "\\t");
        else if ((c >= 0 && c < ' ') || c == 0x7f)
            buf_printf(b, "\\x%02x", (unsigned char)c);
        else
            buf_putc(b, c);
    }
    buf_putc(b, '"');
}

void field_print_str(struct buf *b, struct slice s)
{
    bool bare = s.n > 0;
    for (size_t i = 0; i < s.n && bare; i++)
        bare = is_bare(s.p[i]);
    if (bare)
        buf_put(b, s);
    else
        print_quoted(b, s);
}

static void print_bytes(struct buf *b, struct slice s)
{
    enum { SHOWN = 48 };
    buf_putc(b, '"');
    for (size_t i = 0; i < s.n && i < SHOWN; i++)
        buf_printf(b, is_bare(s.p[i]) ? "%c" : "\\x%02x", (unsigned char)s.p[i]);
    buf_printf(b, s.n > SHOWN ? "...\"(%zu)" : "\"", s.n);
}

static bool is_empty(const struct field *f, const void *at)
{
    switch (f->kind) {
    case FIELD_U32:
        return *(const uint32_t *)at == 0;
    case FIELD_U64:
        return *(const uint64_t *)at == 0;
    case FIELD_I64:
        return *(const int64_t *)at == 0;
    case FIELD_BOOL:
        return !*(const bool *)at;
    default:
        return ((const struct slice *)at)->n == 0;
    }
}

static void print_number(struct buf *b, uint64_t v, bool negative)
{
    char text[24], *p = text + sizeof(text);
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    if (negative)
        *--p = '-';
    buf_put(b, slice_from(p, (size_t)(text + sizeof(text) - p)));
}

static void print_field(struct buf *b, const struct field *f, const void *at)
{
    int64_t i;
    buf_putc(b, ' ');
    buf_puts(b, f->name);
    buf_putc(b, '=');
    switch (f->kind) {
    case FIELD_U32:
        print_number(b, *(const uint32_t *)at, false);
        break;
    case FIELD_U64:
        print_number(b, *(const uint64_t *)at, false);
        break;
    case FIELD_I64:
        i = *(const int64_t *)at;
        print_number(b, i < 0 ? 0 - (uint64_t)i : (uint64_t)i, i < 0);
        break;
    case FIELD_BOOL:
        buf_puts(b, *(const bool *)at ? "yes" : "no");
        break;
    case FIELD_STR:
        field_print_str(b, *(const struct slice *)at);
        break;
    case FIELD_BYTES:
        print_bytes(b, *(const struct slice *)at);
        break;
    case FIELD_SECRET:
        buf_puts(b, "***");
        break;
    }
}

void record_print(struct buf *b, const struct record *rec, const void *value, bool all)
{
    for (size_t i = 0; i < rec->nfields; i++) {
        const struct field *f = &rec->fields[i];
        if (all || !is_empty(f, member(f, value)))
            print_field(b, f, member(f, value));
    }
}

uint64_t record_hash(const struct record *rec, uint64_t seed)
{
    uint64_t h = seed ^ slice_hash(slice_of(rec->name));
    for (size_t i = 0; i < rec->nfields; i++) {
        const struct field *f = &rec->fields[i];
        h = h * 1099511628211u ^ slice_hash(slice_of(f->name));
        h = h * 1099511628211u ^ ((uint64_t)f->kind << 32 | f->max);
    }
    return h;
}
