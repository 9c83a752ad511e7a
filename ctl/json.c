#include "ctl/json.h"

#include "libmail/charset.h"

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
