#include "libmail/smtp_reply.h"

void smtp_reply_init(struct smtp_reply *r)
{
    *r = (struct smtp_reply){0};
    buf_init(&r->text, SMTP_REPLY_TEXT_MAX);
}

void smtp_reply_reset(struct smtp_reply *r)
{
    struct buf text = r->text;
    buf_reset(&text);
    *r = (struct smtp_reply){.text = text};
}

void smtp_reply_clear(struct smtp_reply *r)
{
    buf_clear(&r->text);
    smtp_reply_reset(r);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Cuts an enhanced status code (x.y.z, class 2, 4 or 5) and the space after it off the front of
 * *text into dsn (16 bytes); false and dsn empty when there is none. */
static bool cut_dsn(struct slice *text, char dsn[16])
{
    struct slice s = *text;
    size_t i = 2, dots = 1, digits = 0;
    dsn[0] = '\0';
    if (s.n < 5 || !strchr("245", s.p[0]) || s.p[1] != '.')
        return false;
    for (; i < s.n && (is_digit(s.p[i]) || s.p[i] == '.'); i++) {
        bool dot = s.p[i] == '.';
        if ((dot && (digits == 0 || ++dots > 2)) || (!dot && ++digits > 3))
            return false;
        if (dot)
            digits = 0;
    }
    if (dots != 2 || digits == 0 || (i < s.n && s.p[i] != ' '))
        return false;
    if (!slice_to_cstr(slice_first(s, i), dsn, 16))
        return false;
    *text = slice_from_index(s, i + 1);
    return true;
}

/* One line without its end. 1: it was the last of the reply. */
static int take_line(struct smtp_reply *r, struct slice line)
{
    char dsn[16];
    if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || !is_digit(line.p[1]) ||
        !is_digit(line.p[2]))
        return ERR_SYNTAX;
    if (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-')
        return ERR_SYNTAX;
    unsigned code = (unsigned)(line.p[0] - '0') * 100 + (unsigned)(line.p[1] - '0') * 10 +
                    (unsigned)(line.p[2] - '0');
    if (r->partial && code != r->code)
        return ERR_SYNTAX;
    if (++r->lines > SMTP_REPLY_LINES_MAX)
        return ERR_LIMIT;
    r->code = code;
    r->partial = line.n > 3 && line.p[3] == '-';
    struct slice text = slice_from_index(line, 4);
    if (cut_dsn(&text, dsn) && dsn[0] == line.p[0])
        memcpy(r->dsn, dsn, sizeof(dsn));
    else
        text = slice_from_index(line, 4);
    if ((r->lines > 1 && buf_putc(&r->text, '\n')) || buf_put(&r->text, text))
        return ERR_LIMIT;
    return r->partial ? 0 : 1;
}

int smtp_reply_read(struct smtp_reply *r, struct buf *in)
{
    for (;;) {
        struct slice all = buf_slice(in);
        ptrdiff_t lf = slice_chr(all, '\n');
        if (lf < 0)
            return all.n > SMTP_REPLY_LINE_MAX ? ERR_LIMIT : 0;
        if (lf > SMTP_REPLY_LINE_MAX)
            return ERR_LIMIT;
        struct slice line = slice_first(all, (size_t)lf);
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        int rc = take_line(r, line);
        buf_consume(in, (size_t)lf + 1);
        if (rc)
            return rc;
    }
}

struct slice smtp_reply_line(const struct smtp_reply *r, unsigned i)
{
    struct slice rest = buf_slice(&r->text);
    if (i >= r->lines)
        return (struct slice){NULL, 0};
    while (i--)
        (void)slice_cut(&rest, '\n');
    return slice_cut(&rest, '\n');
}

bool smtp_reply_offers(const struct smtp_reply *r, const char *keyword, struct slice *params)
{
    for (unsigned i = 1; i < r->lines; i++) {
        struct slice rest = smtp_reply_line(r, i);
        struct slice word = slice_cut(&rest, ' ');
        /* "AUTH=PLAIN" is an old way to say "AUTH PLAIN". */
        ptrdiff_t eq = slice_chr(word, '=');
        if (eq >= 0) {
            rest = slice_from_index(word, (size_t)eq + 1);
            word = slice_first(word, (size_t)eq);
        }
        if (!slice_iis(slice_trim(word), keyword))
            continue;
        if (params)
            *params = slice_trim(rest);
        return true;
    }
    return false;
}

void smtp_reply_print(const struct smtp_reply *r, struct buf *out)
{
    struct slice text = buf_slice(&r->text);
    (void)buf_printf(out, "%u%s%s", r->code, r->dsn[0] ? " " : "", r->dsn);
    if (text.n)
        (void)buf_putc(out, ' ');
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (buf_putc(out, c == '\n' ? ' ' : c < 32 || c == 127 ? '?' : (char)c))
            break;
    }
}
