#include "libmail/encoding.h"

#include "libmail/charset.h"

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static void decode_base64(struct slice in, struct buf *out)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < in.n && in.p[i] != '='; i++) {
        int v = base64_value((unsigned char)in.p[i]);
        if (v < 0)
            continue;
        acc = (acc << 6 | (uint32_t)v) & 0xffffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buf_putc(out, (char)(acc >> bits));
        }
    }
}

/* The byte of an escape "=XX" at the front of s, or -1. */
static int hex_escape(struct slice s)
{
    if (s.n < 3)
        return -1;
    int high = hex_digit(s.p[1]), low = hex_digit(s.p[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The length of the space and line end that follow a soft line break's '=', or 0 (RFC 2045 §6.7
 * rule 5; transports may have added the space, rule 3). */
static size_t soft_break(struct slice s)
{
    size_t i = 0;
    while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\t'))
        i++;
    if (i < s.n && s.p[i] == '\r')
        i++;
    return i < s.n && s.p[i] == '\n' ? i + 1 : 0;
}

static void decode_quoted_printable(struct slice in, struct buf *out)
{
    while (in.n) {
        ptrdiff_t at = slice_chr(in, '=');
        buf_put(out, slice_first(in, at < 0 ? in.n : (size_t)at));
        if (at < 0)
            return;
        in = slice_from_index(in, (size_t)at);
        int c = hex_escape(in);
        size_t gap = c < 0 ? soft_break(slice_from_index(in, 1)) : 0;
        if (c >= 0)
            buf_putc(out, (char)c);
        else if (gap == 0 && in.n > 1)
            buf_putc(out, '=');
        in = slice_from_index(in, c >= 0 ? 3 : 1 + gap);
    }
}

enum encoding encoding_of(struct slice name)
{
    name = slice_trim(name);
    if (slice_iis(name, "base64"))
        return ENCODING_BASE64;
    if (slice_iis(name, "quoted-printable"))
        return ENCODING_QUOTED_PRINTABLE;
    return ENCODING_IDENTITY;
}

void encoding_decode(enum encoding e, struct slice body, struct buf *out)
{
    switch (e) {
    case ENCODING_BASE64:
        decode_base64(body, out);
        break;
    case ENCODING_QUOTED_PRINTABLE:
        decode_quoted_printable(body, out);
        break;
    case ENCODING_IDENTITY:
        buf_put(out, body);
        break;
    }
}

/* RFC 2047 §4.2: as quoted-printable, with '_' for a space. */
static void decode_q(struct slice in, struct buf *out)
{
    while (in.n) {
        int c = in.p[0] == '=' ? hex_escape(in) : -1;
        buf_putc(out, c >= 0 ? (char)c : in.p[0] == '_' ? ' ' : in.p[0]);
        in = slice_from_index(in, c >= 0 ? 3 : 1);
    }
}

struct word {
    struct slice charset, text;
    bool base64;
    size_t length;
};

/* An encoded word at the front of s (RFC 2047 §2). Its limit of 75 characters is often broken;
 * 2 000 keeps the work linear in practice. */
static bool word_take(struct slice s, struct word *w)
{
    if (!slice_starts(s, "=?"))
        return false;
    struct slice rest = slice_first(slice_from_index(s, 2), 2000);
    const char *begin = s.p;
    w->charset = slice_cut(&rest, '?');
    if (!rest.p || w->charset.n == 0 || w->charset.n > 40 || rest.n < 2 || rest.p[1] != '?')
        return false;
    char kind = (char)(rest.p[0] | 0x20);
    w->base64 = kind == 'b';
    if (kind != 'b' && kind != 'q')
        return false;
    rest = slice_from_index(rest, 2);
    w->text = slice_cut(&rest, '?');
    if (!rest.p || rest.n == 0 || rest.p[0] != '=' || slice_chr(w->text, '\n') >= 0)
        return false;
    w->length = (size_t)(rest.p + 1 - begin);
    return true;
}

/* The decoded bytes of adjacent words of one set, not yet converted: encoders split characters
 * between words although they must not. */
struct run {
    struct buf bytes;
    const struct charset *charset;
};

static void run_end(struct run *r, struct buf *out)
{
    charset_to_utf8(r->charset, buf_slice(&r->bytes), out);
    buf_reset(&r->bytes);
}

static void word_decode(const struct word *w, struct run *r, struct buf *out)
{
    const struct charset *cs = charset_find(w->charset);
    if (cs != r->charset)
        run_end(r, out);
    r->charset = cs;
    if (w->base64)
        decode_base64(w->text, &r->bytes);
    else
        decode_q(w->text, &r->bytes);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Text between words: line ends go, 8-bit text counts as UTF-8. */
static void put_plain(struct slice text, struct buf *out)
{
    const struct charset *utf8 = charset_find(SLICE_LIT("UTF-8"));
    while (text.n) {
        size_t n = 0;
        while (n < text.n && text.p[n] != '\r' && text.p[n] != '\n')
            n++;
        charset_to_utf8(utf8, slice_first(text, n), out);
        text = slice_from_index(text, n + 1);
    }
}

void rfc2047_decode(struct slice text, struct buf *out)
{
    struct run run = {.charset = NULL};
    buf_init(&run.bytes, text.n + 1);
    size_t plain = 0, i = 0;               /* text from plain to i is not yet written */
    bool after_word = false, blank = true; /* blank: only space since the last word */
    while (i < text.n && !out->failed) {
        struct word w;
        if (text.p[i] != '=' || !word_take(slice_from_index(text, i), &w)) {
            blank = blank && is_space(text.p[i]);
            i++;
            continue;
        }
        if (!after_word || !blank) {
            run_end(&run, out);
            put_plain(slice_first(slice_from_index(text, plain), i - plain), out);
        }
        word_decode(&w, &run, out);
        plain = i += w.length;
        after_word = blank = true;
    }
    run_end(&run, out);
    put_plain(slice_from_index(text, plain), out);
    buf_clear(&run.bytes);
}
