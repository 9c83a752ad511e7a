#include "delivery/bounce/words.h"

#include "libmail/base64.h"
#include "libmail/charset.h"
#include "libmail/date.h"

enum { WORD_BYTES = 39, WORD_CUT = 900, QP_LINE = 75 };

static void put_clean(struct buf *b, struct slice s, bool utf8)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool good = c >= 128 ? utf8 : c >= ' ' && c != 127;
        buf_putc(b, good ? (char)c : '?');
    }
}

void words_put(struct buf *b, struct slice s)
{
    put_clean(b, s, utf8_valid(s));
}

void words_put_ascii(struct buf *b, struct slice s)
{
    put_clean(b, s, false);
}

void words_put_folded(
    struct buf *b, struct slice s, size_t column, size_t width, const char *indent)
{
    bool utf8 = utf8_valid(s);
    while (s.n > 0) {
        struct slice word = slice_cut(&s, ' ');
        if (word.n == 0)
            continue;
        if (column > strlen(indent) && column + 1 + word.n > width) {
            buf_printf(b, "\r\n%s", indent);
            column = strlen(indent);
        } else {
            buf_putc(b, ' ');
        }
        put_clean(b, slice_first(word, WORD_CUT), utf8);
        column += 1 + word.n;
    }
}

void words_put_encoded(struct buf *b, struct slice s)
{
    const char *separator = "";
    if (slice_is_ascii(s)) {
        words_put_ascii(b, s);
        return;
    }
    while (s.n) {
        struct slice rest = s;
        size_t n = 0;
        while (rest.n && n < WORD_BYTES) { /* a word holds whole characters */
            (void)utf8_take(&rest);
            n = s.n - rest.n;
        }
        buf_printf(b, "%s=?utf-8?B?", separator);
        base64_encode(slice_first(s, n), b);
        buf_puts(b, "?=");
        separator = "\r\n ";
        s = rest;
    }
}

void words_put_date(struct buf *b, const char *name, int64_t ms)
{
    char date[DATE_TEXT];
    date_print((time_t)(ms / 1000), date);
    buf_printf(b, "%s: %s\r\n", name, date);
}

static void put_qp_line(struct buf *b, struct slice line)
{
    size_t column = 0;
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];
        bool plain = (c > ' ' && c < 127 && c != '=') || (c == ' ' && i + 1 < line.n);
        if (column + (plain ? 1 : 3) > QP_LINE) {
            buf_puts(b, "=\r\n");
            column = 0;
        }
        if (plain)
            buf_putc(b, (char)c);
        else
            buf_printf(b, "=%02X", c);
        column += plain ? 1 : 3;
    }
    buf_puts(b, "\r\n");
}

void words_put_quoted_printable(struct buf *b, struct slice s)
{
    while (s.n) {
        struct slice line = slice_cut(&s, '\n');
        if (slice_ends(line, "\r"))
            line.n--;
        put_qp_line(b, line);
    }
}
