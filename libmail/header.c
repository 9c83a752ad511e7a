#include "libmail/header.h"

#include "libutil/error.h"

void header_iter_init(struct header_iter *it, struct slice message)
{
    it->rest = message;
}

/* Length of the first line with its end. */
static size_t line_length(struct slice s)
{
    ptrdiff_t lf = slice_chr(s, '\n');
    return lf < 0 ? s.n : (size_t)lf + 1;
}

static struct slice without_end(struct slice s)
{
    if (s.n && s.p[s.n - 1] == '\n')
        s.n--;
    if (s.n && s.p[s.n - 1] == '\r')
        s.n--;
    return s;
}

/* Length of "Name" when the line begins with "Name:", blanks before the colon allowed (RFC 5322
 * §4.5); 0 when it is no field. *colon is the colon's index. */
static size_t name_length(struct slice line, size_t *colon)
{
    size_t n = 0;
    while (n < line.n && line.p[n] > 32 && line.p[n] < 127 && line.p[n] != ':')
        n++;
    *colon = n;
    while (*colon < line.n && (line.p[*colon] == ' ' || line.p[*colon] == '\t'))
        ++*colon;
    return *colon < line.n && line.p[*colon] == ':' ? n : 0;
}

bool header_iter_next(struct header_iter *it, struct header_field *f)
{
    struct slice rest = it->rest;
    size_t n = line_length(rest), colon;
    struct slice line = without_end(slice_first(rest, n));
    if (line.n == 0) {
        it->rest = slice_from_index(rest, n);
        return false;
    }
    size_t name = name_length(line, &colon);
    if (name == 0)
        return false;
    while (n < rest.n && (rest.p[n] == ' ' || rest.p[n] == '\t'))
        n += line_length(slice_from_index(rest, n));
    f->raw = slice_first(rest, n);
    f->name = slice_first(rest, name);
    f->body = without_end(slice_from_index(f->raw, colon + 1));
    it->rest = slice_from_index(rest, n);
    return true;
}

bool header_find(struct slice message, const char *name, struct header_field *f)
{
    struct header_iter it;
    header_iter_init(&it, message);
    while (header_iter_next(&it, f))
        if (slice_iis(f->name, name))
            return true;
    return false;
}

struct slice header_body(struct slice message)
{
    struct header_iter it;
    struct header_field f;
    header_iter_init(&it, message);
    while (header_iter_next(&it, &f))
        ;
    return it.rest;
}

struct slice header_part(struct slice message)
{
    return slice_first(message, message.n - header_body(message).n);
}

int header_unfold(struct slice body, struct buf *out)
{
    body = slice_trim(body);
    for (size_t i = 0; i < body.n; i++)
        if (body.p[i] != '\r' && body.p[i] != '\n' && buf_putc(out, body.p[i]))
            return ERR_LIMIT;
    return 0;
}
