#include "libmail/mime.h"

#include "libmail/encoding.h"
#include "libutil/error.h"

/*
 * The parser walks over the lines once. `open` are the boundaries of the multiparts around the
 * current place, innermost last; scan_body stops at a line that is one of them, and every level
 * above the matched one then ends there.
 */
struct parser {
    struct slice message;
    struct arena *arena;
    size_t pos;        /* the next line */
    uint64_t newlines; /* line ends before pos */
    uint64_t bare;     /* of them, those without CR */
    struct slice open[MIME_MAX_DEPTH];
    size_t nopen;
    uint64_t lengths; /* set of lengths modulo 64 of open boundaries, to pass lines quickly */
    size_t parts;
    bool full; /* the arena is */

    /* The delimiter the last scan_body stopped at. */
    bool hit, closing;
    size_t hit_level;
};

/* A place, with what was counted up to it. */
struct mark {
    size_t at;
    uint64_t newlines, bare;
};

static struct mark here(const struct parser *p)
{
    return (struct mark){p->pos, p->newlines, p->bare};
}

static uint64_t crlf_size(struct mark from, struct mark to)
{
    return to.at - from.at + (to.bare - from.bare);
}

/* Takes the line at pos; its text is without the line end. */
static struct slice take_line(struct parser *p)
{
    struct slice rest = slice_from_index(p->message, p->pos);
    ptrdiff_t n = slice_chr(rest, '\n');
    if (n < 0) {
        p->pos = p->message.n;
        return rest;
    }
    p->pos += (size_t)n + 1;
    p->newlines++;
    if (n > 0 && rest.p[n - 1] == '\r')
        return slice_first(rest, (size_t)n - 1);
    p->bare++;
    return slice_first(rest, (size_t)n);
}

/* Whether this line delimits an open multipart (RFC 2046 §5.1.1). */
static bool is_delimiter(struct parser *p, struct slice line)
{
    if (p->nopen == 0 || line.n < 3 || line.p[0] != '-' || line.p[1] != '-')
        return false;
    line = slice_from_index(line, 2);
    while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
        line.n--;
    bool ends = slice_ends(line, "--");
    if (!(p->lengths >> line.n % 64 & 1) && !(ends && p->lengths >> (line.n - 2) % 64 & 1))
        return false;
    for (size_t level = p->nopen; level-- > 0;) {
        struct slice b = p->open[level];
        bool closing = ends && slice_eq(slice_first(line, line.n - 2), b);
        if (closing || slice_eq(line, b)) {
            p->hit = true;
            p->closing = closing && !slice_eq(line, b);
            p->hit_level = level;
            return true;
        }
    }
    return false;
}

/* The mark before the line end that precedes m: it belongs to the delimiter. */
static struct mark before_line_end(const struct parser *p, struct mark m, size_t not_before)
{
    if (m.at <= not_before || p->message.p[m.at - 1] != '\n')
        return m;
    m.at--;
    m.newlines--;
    if (m.at > not_before && p->message.p[m.at - 1] == '\r')
        m.at--;
    else
        m.bare--;
    return m;
}

/* Passes everything that is left. */
static void pass_rest(struct parser *p)
{
    struct slice all = p->message;
    const char *lf = NULL;
    for (size_t at = p->pos; at < all.n && (lf = memchr(all.p + at, '\n', all.n - at));) {
        p->newlines++;
        p->bare += lf == all.p + p->pos || lf[-1] != '\r';
        at = (size_t)(lf - all.p) + 1;
    }
    p->pos = all.n;
}

/* Passes lines up to a delimiter or the end; returns where the text before it ends, which is not
 * before `begin`. */
static struct mark scan_body(struct parser *p, size_t begin)
{
    p->hit = false;
    if (p->nopen == 0)
        pass_rest(p);
    while (p->pos < p->message.n) {
        struct mark m = here(p);
        if (is_delimiter(p, take_line(p)))
            return before_line_end(p, m, begin);
    }
    return here(p);
}

static void push(struct parser *p, struct slice boundary)
{
    p->open[p->nopen++] = boundary;
    p->lengths |= 1ULL << boundary.n % 64;
}

static void pop(struct parser *p)
{
    p->nopen--;
    p->lengths = 0;
    for (size_t i = 0; i < p->nopen; i++)
        p->lengths |= 1ULL << p->open[i].n % 64;
}

bool mime_field_next(struct header_iter *it, struct header_field *f)
{
    while (!header_iter_next(it, f)) {
        if (it->rest.n == 0 || it->rest.p[0] == '\n' || slice_starts(it->rest, "\r\n"))
            return false;
        ptrdiff_t n = slice_chr(it->rest, '\n');
        it->rest = slice_from_index(it->rest, n < 0 ? it->rest.n : (size_t)n + 1);
    }
    return true;
}

bool mime_field_find(struct slice header, const char *name, struct header_field *f)
{
    struct header_iter it;
    header_iter_init(&it, header);
    while (mime_field_next(&it, f))
        if (slice_iis(f->name, name))
            return true;
    return false;
}

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?=", c))
            return false;
    }
    return s.n > 0;
}

static void set_type(struct parser *p, struct mime_part *part, struct slice value)
{
    struct slice word;
    struct mime_param *params = mime_params_parse(value, &word, p->arena);
    struct slice type = slice_trim(slice_cut(&word, '/'));
    struct slice subtype = slice_trim(word);
    if (!is_token(type) || !is_token(subtype))
        return; /* RFC 2045 §5.2: text/plain */
    part->type = type;
    part->subtype = subtype;
    part->params = params;
    part->typed = true;
}

static void set_disposition(struct parser *p, struct mime_part *part, struct slice value)
{
    struct slice word;
    struct mime_param *params = mime_params_parse(value, &word, p->arena);
    word = slice_trim(word);
    if (!is_token(word))
        return;
    part->disposition = word;
    part->disposition_params = params;
}

static void set_field(struct parser *p, struct mime_part *part, const struct header_field *f)
{
    const struct {
        const char *name;
        struct slice *to;
    } plain[] = {{"id", &part->id}, {"description", &part->description},
        {"transfer-encoding", &part->encoding}, {"md5", &part->md5}, {"language", &part->language},
        {"location", &part->location}};
    if (!slice_istarts(f->name, "content-"))
        return;
    struct slice name = slice_from_index(f->name, strlen("content-"));
    if (slice_iis(name, "type") && !part->typed)
        set_type(p, part, f->body);
    if (slice_iis(name, "disposition") && !part->disposition.p)
        set_disposition(p, part, f->body);
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (slice_iis(name, plain[i].name) && !plain[i].to->p)
            *plain[i].to = slice_trim(f->body);
}

/* The header up to its empty line; p->hit when a delimiter ended header and part before it. */
static struct mark parse_header(struct parser *p, struct mime_part *part)
{
    struct mark begin = here(p), end = begin;
    p->hit = false;
    for (bool empty_line = false; p->pos < p->message.n && !empty_line;) {
        struct slice line = take_line(p);
        if (is_delimiter(p, line))
            break;
        empty_line = line.n == 0;
        end = here(p);
    }
    part->header = begin.at;
    part->body = part->end = end.at;
    part->header_size = crlf_size(begin, end);

    struct header_iter it;
    struct header_field f;
    header_iter_init(&it, mime_header(p->message, part));
    while (mime_field_next(&it, &f))
        set_field(p, part, &f);
    return end;
}

static void set_end(struct mime_part *part, struct mark begin, struct mark end)
{
    part->end = end.at;
    part->body_size = crlf_size(begin, end);
    part->lines = end.newlines - begin.newlines;
}

static struct mark parse_part(
    struct parser *p, struct mime_part *parent, struct mime_part **slot, unsigned depth);

/* Children until a delimiter of a multipart further out, or the end. The part must have been
 * found to have a boundary. */
static struct mark parse_children(
    struct parser *p, struct mime_part *part, struct slice boundary, unsigned depth)
{
    size_t level = p->nopen;
    push(p, boundary);
    struct mark end = scan_body(p, p->pos);
    struct mime_part **slot = &part->first;
    while (
        p->hit && p->hit_level == level && !p->closing && p->parts < MIME_MAX_PARTS && !p->full) {
        end = parse_part(p, part, slot, depth + 1);
        if (*slot)
            slot = &(*slot)->next;
    }
    bool ours = p->hit && p->hit_level == level;
    pop(p);
    /* The epilogue, or what passed the limit. The line end of our last delimiter may be the one
     * that belongs to the next delimiter. */
    return ours ? scan_body(p, part->body) : end;
}

static bool is_multipart(const struct mime_part *part)
{
    return slice_iis(part->type, "multipart");
}

static bool is_message(const struct mime_part *part)
{
    return slice_iis(part->type, "message") && slice_iis(part->subtype, "rfc822");
}

/* A leaf must not carry a type of which IMAP clients expect structure (RFC 3501 §7.4.2). */
static void make_opaque(struct mime_part *part)
{
    part->type = SLICE_LIT("APPLICATION");
    part->subtype = SLICE_LIT("OCTET-STREAM");
}

/* Whether the body has structure that we follow; *boundary is set for a multipart. */
static enum mime_kind kind_of(
    const struct parser *p, struct mime_part *part, unsigned depth, struct slice *boundary)
{
    bool multipart = is_multipart(part), message = is_message(part);
    if (!multipart && !message)
        return MIME_LEAF;
    *boundary = slice_trim(mime_param(part->params, "boundary", p->arena));
    if (multipart && boundary->n == 0) {
        part->type = SLICE_LIT("TEXT");
        part->subtype = SLICE_LIT("PLAIN");
        part->params = NULL;
        return MIME_LEAF;
    }
    /* RFC 2046 §5.2.1 forbids to encode a message; an encoded one cannot be looked into. */
    bool opaque = message && encoding_of(part->encoding) == ENCODING_BASE64;
    if (depth >= MIME_MAX_DEPTH || p->parts >= MIME_MAX_PARTS || opaque) {
        make_opaque(part);
        return MIME_LEAF;
    }
    return multipart ? MIME_MULTIPART : MIME_MESSAGE;
}

static struct mark parse_part(
    struct parser *p, struct mime_part *parent, struct mime_part **slot, unsigned depth)
{
    struct mime_part *part = ARENA_NEW(p->arena, struct mime_part);
    if (!part) {
        p->full = true;
        return here(p);
    }
    *slot = part;
    p->parts++;
    part->parent = parent;
    bool digest = parent && parent->kind == MIME_MULTIPART && slice_iis(parent->subtype, "digest");
    part->type = digest ? SLICE_LIT("MESSAGE") : SLICE_LIT("TEXT");
    part->subtype = digest ? SLICE_LIT("RFC822") : SLICE_LIT("PLAIN");

    struct mark begin = parse_header(p, part), end = begin;
    if (p->hit) { /* there is no body to follow */
        if (is_multipart(part) || is_message(part))
            make_opaque(part);
        return end;
    }
    struct slice boundary;
    part->kind = kind_of(p, part, depth, &boundary);
    if (part->kind == MIME_MULTIPART)
        end = parse_children(p, part, boundary, depth);
    else if (part->kind == MIME_MESSAGE)
        end = parse_part(p, part, &part->first, depth + 1);
    else
        end = scan_body(p, p->pos);
    set_end(part, begin, end);
    return end;
}

struct mime_part *mime_parse(struct slice message, struct arena *arena)
{
    struct parser p = {.message = message, .arena = arena};
    struct mime_part *root = NULL;
    parse_part(&p, NULL, &root, 0);
    return p.full ? NULL : root;
}

struct slice mime_header(struct slice message, const struct mime_part *part)
{
    return slice_first(slice_from_index(message, part->header), part->body - part->header);
}

struct slice mime_body(struct slice message, const struct mime_part *part)
{
    return slice_first(slice_from_index(message, part->body), part->end - part->body);
}

struct mime_part *mime_child(const struct mime_part *part, uint64_t n)
{
    struct mime_part *child = part->kind == MIME_MULTIPART && n > 0 ? part->first : NULL;
    while (child && --n > 0)
        child = child->next;
    return child;
}

size_t mime_bare_lf(struct slice text)
{
    for (size_t at = 0; at < text.n; at++) {
        const char *lf = memchr(text.p + at, '\n', text.n - at);
        if (!lf)
            break;
        at = (size_t)(lf - text.p);
        if (at == 0 || lf[-1] != '\r')
            return at;
    }
    return text.n;
}

uint64_t mime_crlf_size(struct slice text)
{
    uint64_t size = text.n;
    while (text.n) {
        size_t n = mime_bare_lf(text);
        size += n < text.n;
        text = slice_from_index(text, n + 1);
    }
    return size;
}

int mime_put_crlf(struct buf *out, struct slice text)
{
    while (text.n) {
        size_t n = mime_bare_lf(text);
        buf_put(out, slice_first(text, n));
        if (n < text.n)
            buf_puts(out, "\r\n");
        text = slice_from_index(text, n + 1);
    }
    return out->failed ? ERR_LIMIT : OK;
}
