#include "libmail/orcpt.h"

#include "libmail/charset.h"
#include "libutil/error.h"

enum { CODE_POINT_MAX = 0x10ffff };

static bool is_sound(uint32_t c)
{
    return c >= 32 && c != 127 && c <= CODE_POINT_MAX && (c < 0xd800 || c > 0xdfff);
}

/* What stands for another character at the front of s: "\x{HEX}" or "+HH"; its length, or 0. */
static size_t take_embedded(struct slice s, uint32_t *c)
{
    bool braces = slice_starts(s, "\\x{");
    size_t n = braces ? 3 : 1, most = braces ? 9 : 3, begin = n;
    *c = 0;
    for (; n < s.n && n < most && hex_digit(s.p[n]) >= 0; n++)
        *c = *c * 16 + (uint32_t)hex_digit(s.p[n]);
    if (!is_sound(*c))
        return 0;
    if (braces)
        return n > begin && n < s.n && s.p[n] == '}' ? n + 1 : 0;
    return s.p[0] == '+' && n == most ? n : 0;
}

int orcpt_utf8_decode(struct slice in, struct buf *out)
{
    if (!utf8_valid(in))
        return ERR_SYNTAX;
    while (in.n) {
        unsigned char first = (unsigned char)in.p[0];
        uint32_t c;
        if (first == '\\' || first == '+') {
            size_t n = take_embedded(in, &c);
            if (n == 0)
                return ERR_SYNTAX;
            utf8_put(out, c);
            in = slice_from_index(in, n);
        } else if (first <= ' ' || first == '=' || first == 127) {
            return ERR_SYNTAX;
        } else {
            buf_putc(out, in.p[0]);
            in = slice_from_index(in, 1);
        }
    }
    return out->failed ? ERR_LIMIT : OK;
}

int orcpt_utf8_encode(struct slice in, bool raw, struct buf *out)
{
    while (in.n) {
        uint32_t c = utf8_take(&in);
        if (c <= ' ' || c == '+' || c == '=' || c == '\\' || c == 127 || (c > 127 && !raw))
            buf_printf(out, "\\x{%02X}", c);
        else
            utf8_put(out, c);
    }
    return out->failed ? ERR_LIMIT : OK;
}
