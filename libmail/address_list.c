#include "libmail/address_list.h"

#include "libutil/buf.h"

/* Longest element that is looked at closely; a longer one is skipped. */
enum { ELEMENT_MAX = 8192 };

void address_iter_init(struct address_iter *it, struct slice body, struct arena *arena)
{
    *it = (struct address_iter){.rest = body, .arena = arena};
}

/* What is being read: the parts of one element. */
struct element {
    struct buf phrase;  /* words before <, separated by one space */
    struct buf comment; /* the last comment */
    struct buf spec;    /* local part (plain), where there is no < the same as phrase */
    struct buf domain;
    struct buf route;
    bool angle, at, has_route;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Where the element that starts at s ends: index of ',', ';' or ':' (outside of quotes, comments,
 * <> and []), or s.n. A colon inside <> belongs to a route. */
static size_t element_end(struct slice s)
{
    int comment = 0;
    bool quoted = false, angle = false, literal = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '\\' && (quoted || comment || literal))
            i++;
        else if (quoted)
            quoted = c != '"';
        else if (c == '(')
            comment++;
        else if (comment)
            comment -= c == ')';
        else if (c == '"')
            quoted = true;
        else if (c == '[')
            literal = true;
        else if (c == ']')
            literal = false;
        else if (c == '<')
            angle = true;
        else if (c == '>')
            angle = false;
        else if (!literal && !angle && (c == ',' || c == ';' || c == ':'))
            return i;
    }
    return s.n;
}

/* Copies a comment without its outer parentheses; returns its length in s. */
static size_t take_comment(struct slice s, struct buf *out)
{
    int depth = 0;
    size_t i = 0;
    buf_reset(out);
    for (; i < s.n; i++) {
        char c = s.p[i];
        if (c == '(' && depth++ == 0)
            continue;
        if (c == ')' && --depth == 0)
            return i + 1;
        if (c == '\\' && i + 1 < s.n)
            c = s.p[++i];
        if (c != '\r' && c != '\n')
            (void)buf_putc(out, c);
    }
    return i;
}

static size_t take_quoted(struct slice s, struct buf *out)
{
    size_t i = 1;
    for (; i < s.n && s.p[i] != '"'; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        if (s.p[i] != '\r' && s.p[i] != '\n')
            (void)buf_putc(out, s.p[i]);
    }
    return MIN(i + 1, s.n);
}

/* A run of octets without meaning to the grammar. */
static size_t take_word(struct slice s, struct buf *out)
{
    size_t i = 0;
    while (i < s.n && !is_space(s.p[i]) && !strchr("()<>\"@,;:", s.p[i] ? s.p[i] : ' '))
        i++;
    if (i == 0)
        return 1; /* an octet that has no place here */
    (void)buf_put(out, slice_first(s, i));
    return i;
}

static size_t take_literal(struct slice s, struct buf *out)
{
    ptrdiff_t close = slice_chr(s, ']');
    size_t n = close < 0 ? s.n : (size_t)close + 1;
    (void)buf_put(out, slice_first(s, n));
    return n;
}

/* "@a,@b:" behind '<'; its length, 0 when there is none. */
static size_t take_route(struct slice s, struct buf *out)
{
    if (s.n == 0 || s.p[0] != '@')
        return 0;
    ptrdiff_t colon = slice_chr(s, ':');
    ptrdiff_t angle = slice_chr(s, '>');
    if (colon < 0 || (angle >= 0 && angle < colon))
        return 0;
    for (ptrdiff_t i = 0; i < colon; i++)
        if (!is_space(s.p[i]))
            (void)buf_putc(out, s.p[i]);
    return (size_t)colon + 1;
}

/* Handles one token at the front of s and returns its length. */
static size_t take_token(struct element *e, struct slice s, bool *space)
{
    char c = s.p[0];
    struct buf *to = e->at ? &e->domain : &e->spec;
    if (is_space(c)) {
        *space = true;
        return 1;
    }
    if (c == '(')
        return take_comment(s, &e->comment);
    if (c == '<' && !e->angle) {
        (void)buf_put(&e->phrase, buf_slice(&e->spec));
        if (e->at) /* user@host as the display name of another address */
            (void)buf_printf(&e->phrase, "@%.*s", SLICE_FMT(buf_slice(&e->domain)));
        buf_reset(&e->spec);
        buf_reset(&e->domain);
        e->angle = true;
        e->at = *space = false;
        size_t n = take_route(slice_from_index(s, 1), &e->route);
        e->has_route = n > 0;
        return n + 1;
    }
    if (c == '@' && !e->at) {
        e->at = true;
        *space = false;
        return 1;
    }
    /* Space joins the words of a phrase and means nothing inside an address. */
    if (*space && !e->angle && !e->at && buf_len(&e->spec))
        (void)buf_putc(&e->spec, ' ');
    *space = false;
    if (c == '"')
        return take_quoted(s, to);
    if (c == '[' && e->at)
        return take_literal(s, to);
    return take_word(s, to);
}

static void element_init(struct element *e)
{
    *e = (struct element){0};
    buf_init(&e->phrase, ELEMENT_MAX);
    buf_init(&e->comment, ELEMENT_MAX);
    buf_init(&e->spec, ELEMENT_MAX);
    buf_init(&e->domain, ELEMENT_MAX);
    buf_init(&e->route, ELEMENT_MAX);
}

static void element_clear(struct element *e)
{
    buf_clear(&e->phrase);
    buf_clear(&e->comment);
    buf_clear(&e->spec);
    buf_clear(&e->domain);
    buf_clear(&e->route);
}

static void element_read(struct element *e, struct slice s)
{
    bool space = false;
    for (size_t i = 0; i < s.n;) {
        struct slice rest = slice_from_index(s, i);
        if (e->angle && rest.p[0] == '>') {
            /* Only comments count behind the bracket. */
            ptrdiff_t open = slice_chr(rest, '(');
            if (open >= 0)
                (void)take_comment(slice_from_index(rest, (size_t)open), &e->comment);
            return;
        }
        i += take_token(e, rest, &space);
    }
}

static int save(struct arena *arena, const struct buf *b, struct slice *out)
{
    *out = arena_dup(arena, buf_slice(b));
    return out->p ? OK : ERR_LIMIT;
}

/* The finished element as an item; 0 when it was empty. */
static int element_item(struct element *e, struct arena *arena, struct address_item *item)
{
    *item = (struct address_item){.kind = ADDRESS_ITEM};
    bool named = e->angle && buf_len(&e->phrase);
    struct buf *name = named ? &e->phrase : buf_len(&e->comment) ? &e->comment : NULL;
    if (!e->at && buf_len(&e->spec) == 0)
        return e->angle ? ERR_SYNTAX : 0;
    if (e->at && (buf_len(&e->spec) == 0 || buf_len(&e->domain) == 0))
        return ERR_SYNTAX;
    if (!e->angle && !e->at && slice_chr(buf_slice(&e->spec), ' ') >= 0)
        return ERR_SYNTAX; /* words without an address */
    if (save(arena, &e->spec, &item->local) || save(arena, &e->domain, &item->domain) ||
        (name && save(arena, name, &item->name)) ||
        (e->has_route && save(arena, &e->route, &item->route)))
        return ERR_LIMIT;
    return 1;
}

static int read_element(struct slice s, struct arena *arena, struct address_item *item)
{
    struct element e;
    if (s.n > ELEMENT_MAX)
        return ERR_SYNTAX;
    element_init(&e);
    element_read(&e, s);
    int rc = element_item(&e, arena, item);
    element_clear(&e);
    return rc;
}

/* The words before a group's colon. */
static int read_group(struct slice s, struct arena *arena, struct address_item *item)
{
    struct element e;
    if (s.n > ELEMENT_MAX)
        return ERR_SYNTAX;
    element_init(&e);
    element_read(&e, s);
    *item = (struct address_item){.kind = ADDRESS_GROUP_START};
    int rc = save(arena, &e.spec, &item->name);
    element_clear(&e);
    return rc ? rc : 1;
}

int address_iter_next(struct address_iter *it, struct address_item *item)
{
    while (it->rest.n) {
        size_t end = element_end(it->rest);
        struct slice s = slice_first(it->rest, end);
        char stop = end < it->rest.n ? it->rest.p[end] : ',';
        if (stop == ':' && !it->in_group) {
            it->rest = slice_from_index(it->rest, end + 1);
            it->in_group = true;
            return read_group(s, it->arena, item);
        }
        if (stop == ';' && it->in_group && slice_trim(s).n == 0) {
            it->rest = slice_from_index(it->rest, end + 1);
            it->in_group = false;
            *item = (struct address_item){.kind = ADDRESS_GROUP_END};
            return 1;
        }
        /* The ';' behind a member is read again as the end of its group. */
        it->rest = slice_from_index(it->rest, end + (stop != ';' || !it->in_group));
        int rc = read_element(s, it->arena, item);
        if (rc)
            return rc;
        if (stop == ';' && it->in_group) {
            it->rest = slice_from_index(it->rest, 1);
            it->in_group = false;
            *item = (struct address_item){.kind = ADDRESS_GROUP_END};
            return 1;
        }
    }
    if (!it->in_group)
        return 0;
    it->in_group = false;
    *item = (struct address_item){.kind = ADDRESS_GROUP_END};
    return 1;
}
