#include "ctl/logline.h"

#include "ctl/json.h"

enum { VALUE_MAX = 16384 };

bool logline_parse(struct slice line, struct logline *out)
{
    struct slice rest = line;
    out->time = slice_cut(&rest, ' ');
    struct slice who = slice_cut(&rest, ' ');
    out->program = slice_cut(&who, '[');
    if (!slice_ends(who, "]"))
        return false;
    out->pid = slice_first(who, who.n - 1);
    out->fields = rest;
    return out->time.n >= 20;
}

/* One escape after its backslash; returns how many bytes it took. */
static size_t unescape(struct slice s, struct buf *value)
{
    char c = s.n ? s.p[0] : '\\';
    int high = s.n >= 3 ? hex_digit_lower(s.p[1]) : -1,
        low = s.n >= 3 ? hex_digit_lower(s.p[2]) : -1;
    if (c == 'x' && high >= 0 && low >= 0) {
        buf_putc(value, (char)(high << 4 | low));
        return 3;
    }
    buf_putc(value, c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c);
    return s.n ? 1 : 0;
}

static void take_quoted(struct slice *rest, struct buf *value)
{
    struct slice s = slice_from_index(*rest, 1);
    while (s.n && s.p[0] != '"') {
        size_t n = 1;
        if (s.p[0] == '\\')
            n += unescape(slice_from_index(s, 1), value);
        else
            buf_putc(value, s.p[0]);
        s = slice_from_index(s, n);
    }
    *rest = slice_from_index(s, 1);
}

bool logline_next(struct slice *rest, struct slice *key, struct buf *value)
{
    while (rest->n && rest->p[0] == ' ')
        *rest = slice_from_index(*rest, 1);
    ptrdiff_t eq = slice_chr(*rest, '=');
    if (eq < 0)
        return false;
    *key = slice_first(*rest, (size_t)eq);
    *rest = slice_from_index(*rest, (size_t)eq + 1);
    buf_reset(value);
    if (rest->n && rest->p[0] == '"')
        take_quoted(rest, value);
    else
        buf_put(value, slice_cut(rest, ' '));
    return true;
}

bool logline_get(const struct logline *line, const char *name, struct buf *value)
{
    struct slice rest = line->fields, key;
    while (logline_next(&rest, &key, value))
        if (slice_is(key, name))
            return true;
    buf_reset(value);
    return false;
}

bool logline_has(const struct logline *line, const char *name, const char *wanted)
{
    struct buf value;
    buf_init(&value, VALUE_MAX);
    bool has = logline_get(line, name, &value) && slice_is(buf_slice(&value), wanted);
    buf_clear(&value);
    return has;
}

/* Ids may consist of digits only and are names all the same. */
static bool is_number(struct slice key, struct slice value)
{
    int64_t n;
    if (slice_is(key, "sid") || slice_is(key, "qid") || slice_is(key, "dsn"))
        return false;
    return value.n < 18 && !(value.n > 1 && value.p[0] == '0') &&
           slice_i64(value, INT64_MIN, INT64_MAX, &n) == 0;
}

void logline_json(const struct logline *line, struct buf *out)
{
    struct json j = {out, false};
    struct slice rest = line->fields, key;
    struct buf value;
    int64_t n = 0;
    buf_init(&value, VALUE_MAX);
    json_begin(&j, NULL, '{');
    json_str(&j, "time", line->time);
    json_str(&j, "daemon", line->program);
    if (slice_i64(line->pid, 0, INT32_MAX, &n) == 0)
        json_int(&j, "pid", n);
    while (logline_next(&rest, &key, &value)) {
        char name[64];
        if (!slice_to_cstr(key, name, sizeof(name)))
            continue;
        if (is_number(key, buf_slice(&value)) &&
            slice_i64(buf_slice(&value), INT64_MIN, INT64_MAX, &n) == 0)
            json_int(&j, name, n);
        else
            json_str(&j, name, buf_slice(&value));
    }
    json_end(&j, '}');
    buf_clear(&value);
}
