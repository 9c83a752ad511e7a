#include "ctl/json.h"

static void put_string(struct buf *b, struct slice s);

static void prefix(struct json *j, const char *key)
{
    if (j->comma)
        buf_putc(j->out, ',');
    j->comma = true;
    if (!key)
        return;
    put_string(j->out, slice_of(key));
    buf_putc(j->out, ':');
}

void json_begin(struct json *j, const char *key, char bracket)
{
    prefix(j, key);
    buf_putc(j->out, bracket);
    j->comma = false;
}

void json_end(struct json *j, char bracket)
{
    buf_putc(j->out, bracket);
    j->comma = true;
}

/* Length of the well-formed UTF-8 sequence (RFC 3629 §4) at the start of s; 0: none. */
static size_t utf8_length(struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xc2 ? 0
               : p[0] < 0xe0 ? 2
               : p[0] < 0xf0 ? 3
               : p[0] < 0xf5 ? 4
                             : 0;
    if (n > s.n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return n > 2 && (overlong || outside) ? 0 : n;
}

static void put_string(struct buf *b, struct slice s)
{
    buf_putc(b, '"');
    while (s.n) {
        size_t n = utf8_length(s);
        unsigned char c = (unsigned char)s.p[0];
        if (n == 0)
            buf_puts(b, "\\ufffd");
        else if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < ' ')
            buf_printf(b, "\\u%04x", c);
        else
            buf_put(b, slice_first(s, n));
        s = slice_from_index(s, n ? n : 1);
    }
    buf_putc(b, '"');
}

void json_str(struct json *j, const char *key, struct slice value)
{
    prefix(j, key);
    put_string(j->out, value);
}

void json_int(struct json *j, const char *key, int64_t value)
{
    prefix(j, key);
    buf_printf(j->out, "%lld", (long long)value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    prefix(j, key);
    buf_puts(j->out, value ? "true" : "false");
}
