#include "ctl/letter.h"

#include <errno.h>
#include <unistd.h>

#include "libmail/address_list.h"
#include "libmail/header.h"

enum { CHUNK = 65536 };

void letter_init(struct letter *l, int fd, bool dot_ends)
{
    *l = (struct letter){.fd = fd, .dot_ends = dot_ends};
    buf_init(&l->header, LETTER_HEADER_MAX);
    buf_init(&l->text, LETTER_HEADER_MAX + 4 * CHUNK);
}

void letter_clear(struct letter *l)
{
    buf_clear(&l->header);
    buf_clear(&l->text);
}

static void end_line(struct letter *l)
{
    if (l->dot)
        l->ended = true;
    else
        (void)buf_puts(&l->text, "\r\n");
    l->line = 0;
    l->dot = false;
}

static void put(struct letter *l, char c)
{
    bool first = l->line == 0; /* and not of what was cut off a line */
    if (l->dot)                /* it was the first of more */
        (void)buf_putc(&l->text, '.');
    if (l->line == LETTER_LINE_MAX)
        end_line(l);
    l->dot = l->dot_ends && first && c == '.';
    l->line++;
    if (!l->dot)
        (void)buf_putc(&l->text, c);
}

/* CR LF, LF and CR all end a line. NUL is dropped: no mail system takes it. */
static void convert(struct letter *l, char c)
{
    if (l->cr && c != '\n')
        end_line(l);
    l->cr = false;
    if (l->ended || c == '\0')
        return;
    if (c == '\r')
        l->cr = true;
    else if (c == '\n')
        end_line(l);
    else
        put(l, c);
}

static void end_input(struct letter *l)
{
    if (l->cr || l->line)
        end_line(l);
    l->cr = false;
    l->ended = true;
}

bool letter_read(struct letter *l, int *rc, struct error *err)
{
    char chunk[CHUNK];
    ssize_t n;
    *rc = OK;
    if (l->ended)
        return false;
    do
        n = read(l->fd, chunk, sizeof(chunk));
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        *rc = error_sys(err, "reading the letter");
        return false;
    }
    for (ssize_t i = 0; i < n && !l->ended; i++)
        convert(l, chunk[i]);
    if (n == 0)
        end_input(l);
    if (l->text.failed)
        *rc = error_set(err, ERR_LIMIT, "the letter's header is too long");
    return *rc == OK;
}

/* True when the header is complete in text: an empty line, or a line that is no field. */
static bool header_complete(struct letter *l)
{
    struct slice text = buf_slice(&l->text);
    struct header_iter it;
    struct header_field f;
    text = slice_first(text, (size_t)(slice_rchr(text, '\n') + 1)); /* whole lines only */
    header_iter_init(&it, text);
    while (header_iter_next(&it, &f))
        ;
    return it.rest.n > 0 || slice_ends(text, "\r\n\r\n") || slice_is(text, "\r\n");
}

/* mbox files begin with a "From " line, which is no field. */
static void drop_mbox_line(struct letter *l)
{
    struct slice text = buf_slice(&l->text);
    ptrdiff_t end = slice_find(text, SLICE_LIT("\r\n"));
    if (end >= 0 && (slice_starts(text, "From ") || slice_starts(text, ">From ")))
        buf_consume(&l->text, (size_t)end + 2);
}

int letter_read_header(struct letter *l, struct error *err)
{
    int rc;
    while (letter_read(l, &rc, err)) {
        drop_mbox_line(l);
        if (buf_len(&l->text) > LETTER_HEADER_MAX)
            return error_set(err, ERR_LIMIT, "the letter's header is too long");
        if (header_complete(l))
            break;
    }
    if (rc)
        return rc;
    drop_mbox_line(l);
    struct slice fields = header_part(buf_slice(&l->text));
    size_t used = fields.n;
    if (slice_ends(fields, "\r\n\r\n") || slice_is(fields, "\r\n"))
        fields.n -= 2;
    if (buf_put(&l->header, fields))
        return error_set(err, ERR_LIMIT, "the letter's header is too long");
    buf_consume(&l->text, used);
    return OK;
}

static bool is_one_of(struct slice name, const char *const *names)
{
    for (; *names; names++)
        if (slice_iis(name, *names))
            return true;
    return false;
}

static int each_address(
    struct slice body, int (*fn)(struct slice local, struct slice domain, void *arg), void *arg)
{
    struct arena arena;
    struct address_iter it;
    struct address_item item;
    int rc, result = OK;
    arena_init(&arena, 8 * 1024 * 1024);
    address_iter_init(&it, body, &arena);
    while (result == OK && (rc = address_iter_next(&it, &item)) != 0) {
        if (rc == 1 && item.kind == ADDRESS_ITEM)
            result = fn(item.local, item.domain, arg);
        else if (rc < 0)
            result = rc;
    }
    arena_reset(&arena);
    return result;
}

static int drop_fields(struct letter *l, const char *const *names)
{
    struct header_iter it;
    struct header_field f;
    struct buf kept;
    buf_init(&kept, LETTER_HEADER_MAX);
    header_iter_init(&it, buf_slice(&l->header));
    while (header_iter_next(&it, &f))
        if (!is_one_of(f.name, names))
            (void)buf_put(&kept, f.raw);
    buf_clear(&l->header);
    l->header = kept;
    return OK;
}

int letter_recipients(struct letter *l,
    int (*fn)(struct slice local, struct slice domain, void *arg), void *arg, struct error *err)
{
    static const char *const plain[] = {"To", "Cc", "Bcc", NULL};
    static const char *const resent[] = {"Resent-To", "Resent-Cc", "Resent-Bcc", NULL};
    static const char *const blind[] = {"Bcc", "Resent-Bcc", NULL};
    const char *const *names = plain;
    struct header_iter it;
    struct header_field f;
    header_iter_init(&it, buf_slice(&l->header));
    while (header_iter_next(&it, &f))
        if (is_one_of(f.name, resent))
            names = resent;
    header_iter_init(&it, buf_slice(&l->header));
    while (header_iter_next(&it, &f)) {
        int rc = is_one_of(f.name, names) ? each_address(f.body, fn, arg) : OK;
        if (rc)
            return error_set(err, rc, "malformed addresses in %.*s: %.*s", SLICE_FMT(f.name),
                SLICE_FMT(slice_first(slice_trim(f.body), 200)));
    }
    return drop_fields(l, blind);
}

int letter_add_field(struct letter *l, const char *name, struct slice value)
{
    struct buf b;
    buf_init(&b, LETTER_HEADER_MAX);
    (void)buf_printf(&b, "%s: %.*s\r\n", name, SLICE_FMT(value));
    (void)buf_put(&b, buf_slice(&l->header));
    bool failed = b.failed;
    buf_clear(&l->header);
    l->header = b;
    return failed ? ERR_LIMIT : OK;
}
