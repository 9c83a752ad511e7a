#include "libmail/charset.h"

#include "libmail/charset_tables.h"

/* What text is read by: a table of the upper half, or one of the two sets that need none. */
struct charset {
    const char *name;
    const char *table; /* NULL: ISO-8859-1 */
    bool utf8;
};

#define SAME(name)        \
    {                     \
        name, name, false \
    }

static const struct charset charsets[] = {
    {"UTF-8", NULL, true},
    {"UTF8", NULL, true},
    {"US-ASCII", NULL, true}, /* 8-bit text labelled so is mostly UTF-8 */
    {"ASCII", NULL, true},
    {"ANSI_X3.4-1968", NULL, true},
    {"ISO-8859-1", NULL, false},
    {"ISO8859-1", NULL, false},
    {"ISO_8859-1", NULL, false},
    {"LATIN1", NULL, false},
    SAME("ISO-8859-2"),
    {"LATIN2", "ISO-8859-2", false},
    {"ISO8859-2", "ISO-8859-2", false},
    SAME("ISO-8859-3"),
    SAME("ISO-8859-4"),
    SAME("ISO-8859-5"),
    SAME("ISO-8859-6"),
    SAME("ISO-8859-7"),
    SAME("ISO-8859-8"),
    {"ISO-8859-8-I", "ISO-8859-8", false},
    SAME("ISO-8859-9"),
    {"LATIN5", "ISO-8859-9", false},
    SAME("ISO-8859-10"),
    SAME("ISO-8859-11"),
    {"TIS-620", "windows-874", false},
    SAME("ISO-8859-13"),
    SAME("ISO-8859-14"),
    SAME("ISO-8859-15"),
    {"ISO8859-15", "ISO-8859-15", false},
    {"LATIN9", "ISO-8859-15", false},
    SAME("ISO-8859-16"),
    SAME("windows-1250"),
    {"CP1250", "windows-1250", false},
    SAME("windows-1251"),
    {"CP1251", "windows-1251", false},
    SAME("windows-1252"),
    {"CP1252", "windows-1252", false},
    SAME("windows-1253"),
    SAME("windows-1254"),
    SAME("windows-1255"),
    SAME("windows-1256"),
    SAME("windows-1257"),
    SAME("windows-1258"),
    SAME("windows-874"),
    SAME("KOI8-R"),
    SAME("KOI8-U"),
    SAME("IBM866"),
    {"CP866", "IBM866", false},
};

const struct charset *charset_find(struct slice name)
{
    /* RFC 2231 §5: a language may follow in an encoded word. */
    name = slice_trim(slice_cut(&name, '*'));
    if (name.n == 0)
        name = SLICE_LIT("US-ASCII");
    for (size_t i = 0; i < ARRAY_LEN(charsets); i++)
        if (slice_iis(name, charsets[i].name))
            return &charsets[i];
    return NULL;
}

void utf8_put(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_putc(out, (char)c);
    } else if (c < 0x800) {
        buf_putc(out, (char)(0xc0 | c >> 6));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_putc(out, (char)(0xe0 | c >> 12));
        buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_putc(out, (char)(0xf0 | c >> 18));
        buf_putc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_putc(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* The code point at the front and its length; false when the bytes are no UTF-8 (RFC 3629 §4). */
static bool decode(struct slice s, uint32_t *c, size_t *len)
{
    unsigned char lead = (unsigned char)s.p[0];
    size_t n = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (n == 0 || lead > 0xf4 || s.n < n)
        return false;
    uint32_t v = n == 1 ? lead : lead & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        unsigned char b = (unsigned char)s.p[i];
        if ((b & 0xc0) != 0x80)
            return false;
        v = v << 6 | (b & 0x3f);
    }
    if ((n == 3 && v < 0x800) || (n == 4 && v < 0x10000) || v > 0x10ffff ||
        (v >= 0xd800 && v < 0xe000))
        return false;
    *c = v;
    *len = n;
    return true;
}

uint32_t utf8_take(struct slice *text)
{
    uint32_t c = (unsigned char)text->p[0];
    size_t len = 1;
    if (c < 0x80) {
        *text = slice_from_index(*text, 1);
        return c;
    }
    c = 0xfffd;
    if (!decode(*text, &c, &len))
        len = 1;
    *text = slice_from_index(*text, len);
    return c;
}

size_t utf8_length(struct slice text)
{
    uint32_t c;
    size_t n;
    return decode(text, &c, &n) ? n : 0;
}

bool utf8_valid(struct slice text)
{
    uint32_t c;
    for (size_t len = 0; text.n; text = slice_from_index(text, len))
        if (!decode(text, &c, &len))
            return false;
    return true;
}

static const uint16_t *upper_half(const struct charset *cs)
{
    for (size_t i = 0; cs && cs->table && i < charset_tables_count; i++)
        if (strcmp(cs->table, charset_tables[i].name) == 0)
            return charset_tables[i].upper;
    return NULL;
}

/* How many bytes at the front are ASCII. */
static size_t ascii_length(struct slice s)
{
    size_t n = 0;
    for (uint64_t word; n + sizeof(word) <= s.n; n += sizeof(word)) {
        memcpy(&word, s.p + n, sizeof(word));
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (n < s.n && (unsigned char)s.p[n] < 0x80)
        n++;
    return n;
}

bool charset_is_utf8(const struct charset *cs)
{
    return cs && cs->utf8;
}

void charset_to_utf8(const struct charset *cs, struct slice text, struct buf *out)
{
    bool utf8 = charset_is_utf8(cs);
    const uint16_t *upper = upper_half(cs);
    while (text.n && !out->failed) {
        size_t ascii = ascii_length(text);
        buf_put(out, slice_first(text, ascii));
        text = slice_from_index(text, ascii);
        if (text.n == 0)
            return;
        if (utf8) {
            utf8_put(out, utf8_take(&text));
            continue;
        }
        unsigned char b = (unsigned char)text.p[0];
        uint32_t c = upper ? upper[b - 0x80] : b;
        utf8_put(out, c ? c : 0xfffd);
        text = slice_from_index(text, 1);
    }
}

/* The lower case of a letter outside ASCII, by the regular blocks of Unicode. */
static uint32_t lower(uint32_t c)
{
    if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9 && c != 0x3a2) ||
        (c >= 0x410 && c <= 0x42f))
        return c + 32;
    if (c == 0x3c2)
        return 0x3c3; /* final sigma */
    if (c >= 0x400 && c <= 0x40f)
        return c + 80;
    if (c >= 0x531 && c <= 0x556)
        return c + 48;
    if (c == 0x178)
        return 0xff;
    if (c == 0x386)
        return 0x3ac;
    if (c >= 0x388 && c <= 0x38a)
        return c + 37;
    if (c == 0x38c)
        return 0x3cc;
    if (c == 0x38e || c == 0x38f)
        return c + 63;
    /* Pairs: upper at even places, then the two runs where it is at odd ones. */
    if ((c >= 0x100 && c <= 0x137 && c != 0x130 && c != 0x131) || (c >= 0x14a && c <= 0x177) ||
        (c >= 0x460 && c <= 0x481) || (c >= 0x48a && c <= 0x4bf) || (c >= 0x4d0 && c <= 0x52f) ||
        (c >= 0x1e00 && c <= 0x1e95) || (c >= 0x1ea0 && c <= 0x1eff))
        return c | 1;
    if (((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e)) && (c & 1))
        return c + 1;
    return c;
}

void utf8_fold(struct slice text, struct buf *out)
{
    while (text.n && !out->failed) {
        unsigned char b = (unsigned char)text.p[0];
        if (b >= 0x80) {
            utf8_put(out, lower(utf8_take(&text)));
            continue;
        }
        buf_putc(out, (char)(b >= 'A' && b <= 'Z' ? b + 32 : b));
        text = slice_from_index(text, 1);
    }
}
