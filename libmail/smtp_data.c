#include "libmail/smtp_data.h"

#include "libutil/error.h"

void smtp_data_init(struct smtp_data *d, uint64_t max_size, size_t max_line)
{
    *d = (struct smtp_data){.state = DATA_BOL, .max_size = max_size, .max_line = max_line};
}

bool smtp_data_done(const struct smtp_data *d)
{
    return d->state == DATA_END;
}

static void fault(struct smtp_data *d, enum smtp_data_fault what)
{
    if (d->fault == SMTP_DATA_GOOD)
        d->fault = what;
}

/* Content goes to out as long as the message is good; its size is counted in any case. */
static void content(struct smtp_data *d, struct slice s, struct buf *out)
{
    d->size += s.n;
    if (d->size > d->max_size)
        fault(d, SMTP_DATA_TOO_BIG);
    if (d->fault == SMTP_DATA_GOOD)
        (void)buf_put(out, s);
}

static void line_content(struct smtp_data *d, struct slice s, struct buf *out)
{
    d->line += s.n;
    if (d->line > d->max_line)
        fault(d, SMTP_DATA_LONG_LINE);
    content(d, s, out);
}

/* Octets at a time; compilers have instructions for that. */
typedef unsigned char octets __attribute__((vector_size(16)));
typedef uint64_t halves __attribute__((vector_size(16)));

static bool any_set(octets mask)
{
    halves h = (halves)mask;
    return (h[0] | h[1]) != 0;
}

/* The run of octets at the front that need no thought: neither CR, LF nor NUL. */
static size_t plain_run(struct smtp_data *d, struct slice s)
{
    size_t i = 0;
    octets high = {0}, some;
    unsigned char last = 0;
    for (; i + sizeof(some) <= s.n; i += sizeof(some)) {
        memcpy(&some, s.p + i, sizeof(some));
        if (any_set((octets)(some == '\r') | (octets)(some == '\n') | (octets)(some == '\0')))
            break;
        high |= some;
    }
    for (; i < s.n && s.p[i] != '\r' && s.p[i] != '\n' && s.p[i] != '\0'; i++)
        last |= (unsigned char)s.p[i];
    d->eight_bit |= (last & 0x80) || any_set(high & 0x80);
    return i;
}

/* One octet that is not part of a plain run, or any octet in a state other than DATA_LINE. */
static void step(struct smtp_data *d, char c, struct buf *out)
{
    if (d->state == DATA_BOL && c == '.' && !d->chunks) {
        d->state = DATA_DOT;
        return;
    }
    if (d->state == DATA_DOT && c == '\r') {
        d->state = DATA_DOT_CR;
        return;
    }
    if (d->state == DATA_DOT_CR && c == '\n') {
        d->state = DATA_END;
        return;
    }
    if (d->state == DATA_CR && c == '\n') {
        content(d, SLICE_LIT("\r\n"), out);
        d->line = 0;
        d->state = DATA_BOL;
        return;
    }
    if (d->state == DATA_CR || d->state == DATA_DOT_CR) {
        fault(d, SMTP_DATA_BARE_CR);
        line_content(d, SLICE_LIT("\r"), out);
    }
    if (c == '\r') {
        d->state = DATA_CR;
        return;
    }
    if (c == '\n')
        fault(d, SMTP_DATA_BARE_LF);
    else if (c == '\0')
        fault(d, SMTP_DATA_NUL);
    d->eight_bit |= (unsigned char)c >= 0x80;
    line_content(d, slice_from(&c, 1), out);
    d->state = DATA_LINE;
}

/* Lines at the front that are complete and need no thought: they go on as they are. */
static size_t whole_lines(struct smtp_data *d, struct slice s)
{
    size_t done = 0;
    while (done < s.n && (d->state != DATA_BOL || d->chunks || s.p[done] != '.')) {
        size_t end = done + plain_run(d, slice_from_index(s, done));
        if (s.n - end < 2 || s.p[end] != '\r' || s.p[end + 1] != '\n' ||
            d->line + (end - done) > d->max_line)
            break;
        done = end + 2;
        d->line = 0;
        d->state = DATA_BOL;
    }
    return done;
}

size_t smtp_data_feed(struct smtp_data *d, struct slice in, struct buf *out)
{
    size_t i = 0;
    while (i < in.n && d->state != DATA_END) {
        if (d->state == DATA_BOL || d->state == DATA_LINE) {
            struct slice rest = slice_from_index(in, i);
            size_t lines = whole_lines(d, rest);
            if (lines) {
                content(d, slice_first(rest, lines), out);
                i += lines;
                continue;
            }
        }
        if (d->state == DATA_LINE) {
            struct slice rest = slice_from_index(in, i);
            size_t run = plain_run(d, rest);
            if (run) {
                line_content(d, slice_first(rest, run), out);
                i += run;
                continue;
            }
        }
        step(d, in.p[i++], out);
    }
    return i;
}

void smtp_data_end(struct smtp_data *d, struct buf *out)
{
    if (d->state == DATA_CR)
        fault(d, SMTP_DATA_BARE_CR);
    else if (d->state == DATA_LINE)
        content(d, SLICE_LIT("\r\n"), out);
    d->state = DATA_END;
}

void smtp_stuff_init(struct smtp_stuff *s)
{
    *s = (struct smtp_stuff){.at_bol = true};
}

int smtp_stuff_feed(struct smtp_stuff *s, struct slice in, struct buf *out)
{
    while (in.n) {
        if (s->at_bol && in.p[0] == '.' && buf_putc(out, '.'))
            return ERR_LIMIT;
        const char *lf = memchr(in.p, '\n', in.n);
        size_t n = lf ? (size_t)(lf - in.p) + 1 : in.n;
        if (buf_put(out, slice_first(in, n)))
            return ERR_LIMIT;
        /* Only CRLF begins a line: a dot behind a bare LF is text to a strict receiver. */
        s->at_bol = lf && (n >= 2 ? in.p[n - 2] == '\r' : s->last_cr);
        s->last_cr = in.p[n - 1] == '\r';
        in = slice_from_index(in, n);
    }
    return OK;
}

int smtp_stuff_end(struct smtp_stuff *s, struct buf *out)
{
    return buf_puts(out, s->at_bol ? ".\r\n" : "\r\n.\r\n");
}
