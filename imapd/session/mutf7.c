#include "imapd/session/mutf7.h"

#include "libmail/charset.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int value_of(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x7f;
}

/* Joins UTF-16 units to code points. */
struct utf16 {
    uint32_t high;
    struct buf *out;
};

static int put_unit(struct utf16 *u, uint32_t unit)
{
    bool low = unit >= 0xdc00 && unit < 0xe000;
    if ((u->high != 0) != low || unit < 0x20 || unit == 0x7f)
        return ERR_SYNTAX;
    if (unit >= 0xd800 && unit < 0xdc00) {
        u->high = unit;
        return OK;
    }
    utf8_put(u->out, low ? 0x10000 + ((u->high - 0xd800) << 10) + (unit - 0xdc00) : unit);
    u->high = 0;
    return OK;
}

/* What is between '&' and '-'. */
static int decode_shifted(struct slice s, struct buf *out)
{
    struct utf16 u = {0, out};
    uint32_t acc = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < s.n; i++) {
        int v = value_of(s.p[i]);
        if (v < 0)
            return ERR_SYNTAX;
        acc = (acc << 6 | (uint32_t)v) & 0x3fffff;
        bits += 6;
        if (bits >= 16) {
            bits -= 16;
            if (put_unit(&u, acc >> bits & 0xffff))
                return ERR_SYNTAX;
        }
    }
    return u.high || bits >= 6 || (acc & ((1U << bits) - 1)) ? ERR_SYNTAX : OK;
}

int mutf7_decode(struct slice name, struct buf *out)
{
    while (name.n) {
        if (!is_plain(name.p[0]))
            return ERR_SYNTAX;
        if (name.p[0] != '&') {
            buf_putc(out, name.p[0]);
            name = slice_from_index(name, 1);
            continue;
        }
        struct slice rest = slice_from_index(name, 1);
        struct slice shifted = slice_cut(&rest, '-');
        if (!rest.p)
            return ERR_SYNTAX;
        if (shifted.n == 0)
            buf_putc(out, '&');
        else if (decode_shifted(shifted, out))
            return ERR_SYNTAX;
        name = rest;
    }
    return out->failed ? ERR_LIMIT : OK;
}

struct encoder {
    uint32_t acc;
    unsigned bits;
    struct buf *out;
};

static void encode_unit(struct encoder *e, uint32_t unit)
{
    e->acc = e->acc << 16 | unit;
    e->bits += 16;
    while (e->bits >= 6) {
        e->bits -= 6;
        buf_putc(e->out, alphabet[e->acc >> e->bits & 0x3f]);
    }
    e->acc &= (1U << e->bits) - 1;
}

int mutf7_encode(struct slice name, struct buf *out)
{
    while (name.n) {
        if (is_plain(name.p[0])) {
            buf_putc(out, name.p[0]);
            if (name.p[0] == '&')
                buf_putc(out, '-');
            name = slice_from_index(name, 1);
            continue;
        }
        struct encoder e = {0, 0, out};
        buf_putc(out, '&');
        while (name.n && !is_plain(name.p[0])) {
            uint32_t point = utf8_take(&name);
            if (point >= 0x10000) {
                encode_unit(&e, 0xd800 + ((point - 0x10000) >> 10));
                encode_unit(&e, 0xdc00 + ((point - 0x10000) & 0x3ff));
            } else {
                encode_unit(&e, point);
            }
        }
        if (e.bits)
            buf_putc(out, alphabet[e.acc << (6 - e.bits) & 0x3f]);
        buf_putc(out, '-');
    }
    return out->failed ? ERR_LIMIT : OK;
}

bool wire_is_utf8(struct slice name, bool enabled)
{
    for (size_t i = 0; i < name.n && !enabled; i++)
        enabled = (unsigned char)name.p[i] >= 0x80;
    return enabled;
}

int wire_take_mailbox(struct slice name, bool enabled, struct buf *out)
{
    if (!wire_is_utf8(name, enabled))
        return mutf7_decode(name, out);
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7f)
            return ERR_SYNTAX;
    return utf8_valid(name) ? buf_put(out, name) : ERR_SYNTAX;
}

int wire_put_mailbox(struct buf *out, struct slice name, bool enabled)
{
    struct buf wire;
    if (!enabled) {
        buf_init(&wire, 8 * name.n + 8);
        mutf7_encode(name, &wire);
        imap_put_string(out, name.n ? buf_slice(&wire) : name);
        buf_clear(&wire);
        return out->failed ? ERR_LIMIT : OK;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, name.p[i]);
    }
    return buf_putc(out, '"');
}
