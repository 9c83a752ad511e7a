#include "libmail/charset.h"
#include "libmail/mime.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The index after a comment that begins at i; the end of the text when it is never closed. */
static size_t skip_comment(struct slice s, size_t i)
{
    unsigned depth = 0;
    for (; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '(')
            depth++;
        else if (s.p[i] == ')' && --depth == 0)
            return i + 1;
    }
    return s.n;
}

static size_t skip_blank(struct slice s, size_t i)
{
    while (i < s.n && (is_blank(s.p[i]) || s.p[i] == '('))
        i = s.p[i] == '(' ? skip_comment(s, i) : i + 1;
    return i;
}

/* Up to the next ';' outside comments. */
static size_t skip_to_semicolon(struct slice s, size_t i)
{
    while (i < s.n && s.p[i] != ';')
        i = s.p[i] == '(' ? skip_comment(s, i) : i + 1;
    return i;
}

/* A quoted string that begins at *i, without quotes, escapes and line ends. */
static struct slice take_quoted(struct slice s, size_t *i, struct arena *arena)
{
    size_t end = *i + 1;
    while (end < s.n && s.p[end] != '"')
        end += s.p[end] == '\\' ? 2 : 1;
    end = MIN(end, s.n);
    char *copy = arena_alloc(arena, end - *i);
    size_t n = 0;
    for (size_t k = *i + 1; copy && k < end; k++) {
        if (s.p[k] == '\\' && k + 1 < end)
            k++;
        else if (s.p[k] == '\r' || s.p[k] == '\n')
            continue;
        copy[n++] = s.p[k];
    }
    *i = MIN(end + 1, s.n);
    return (struct slice){copy, n};
}

static struct slice take_token(struct slice s, size_t *i, const char *ends)
{
    size_t from = *i;
    while (*i < s.n && !is_blank(s.p[*i]) && (s.p[*i] == 0 || !strchr(ends, s.p[*i])))
        (*i)++;
    return slice_first(slice_from_index(s, from), *i - from);
}

static struct slice word_before(struct slice s, size_t end, struct arena *arena)
{
    struct slice word = slice_first(s, end);
    if (slice_chr(word, '(') < 0)
        return slice_trim(word);
    char *copy = arena_alloc(arena, end);
    size_t n = 0;
    for (size_t i = 0; copy && i < end;) {
        if (s.p[i] == '(')
            i = skip_comment(s, i);
        else
            copy[n++] = s.p[i++];
    }
    return slice_trim((struct slice){copy, n});
}

struct mime_param *mime_params_parse(struct slice s, struct slice *word, struct arena *arena)
{
    struct mime_param *first = NULL, **slot = &first;
    size_t i = skip_to_semicolon(s, 0);
    *word = word_before(s, i, arena);
    for (unsigned count = 0; i < s.n && count < MIME_MAX_PARAMS;) {
        i = skip_blank(s, i);
        if (i < s.n && s.p[i] == ';') {
            i++;
            continue;
        }
        struct slice name = take_token(s, &i, "=;(");
        i = skip_blank(s, i);
        if (name.n == 0 || i >= s.n || s.p[i] != '=') {
            i = skip_to_semicolon(s, MIN(i + (name.n == 0), s.n));
            continue;
        }
        i = skip_blank(s, i + 1);
        struct slice value =
            i < s.n && s.p[i] == '"' ? take_quoted(s, &i, arena) : take_token(s, &i, ";(");
        i = skip_to_semicolon(s, i);
        struct mime_param *param = ARENA_NEW(arena, struct mime_param);
        if (!param || !value.p)
            break;
        param->name = name;
        param->value = value;
        *slot = param;
        slot = &param->next;
        count++;
    }
    return first;
}

/* What RFC 2231 §3 and §4 put behind the bare name. */
struct piece {
    bool numbered, extended;
    uint64_t number;
};

static bool piece_of(struct slice name, const char *bare, struct piece *piece)
{
    *piece = (struct piece){.numbered = false};
    struct slice rest = name;
    if (!slice_iis(slice_cut(&rest, '*'), bare) || !rest.p)
        return false;
    if (slice_ends(rest, "*") || rest.n == 0) {
        piece->extended = true;
        rest = slice_first(rest, rest.n ? rest.n - 1 : 0);
    }
    if (rest.n == 0)
        return true;
    piece->numbered = true;
    return slice_u64(rest, 0, MIME_MAX_PARAMS, &piece->number) == 0;
}

static void put_percent_decoded(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        int high = s.p[i] == '%' && i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;
        buf_putc(out, low >= 0 ? (char)(high * 16 + low) : s.p[i]);
        i += low >= 0 ? 2 : 0;
    }
}

/* Appends piece number n (or the only, unnumbered one); false when it is not there. */
static bool put_piece(const struct mime_param *params, const char *name, bool numbered, uint64_t n,
    struct slice *charset, struct buf *raw)
{
    for (const struct mime_param *p = params; p; p = p->next) {
        struct piece piece;
        if (!piece_of(p->name, name, &piece) || piece.numbered != numbered || piece.number != n)
            continue;
        struct slice value = p->value;
        if (piece.extended && n == 0) {
            struct slice rest = value;
            struct slice set = slice_cut(&rest, '\'');
            slice_cut(&rest, '\''); /* the language */
            if (rest.p) {
                *charset = set;
                value = rest;
            }
        }
        if (piece.extended)
            put_percent_decoded(value, raw);
        else
            buf_put(raw, value);
        return true;
    }
    return false;
}

struct slice mime_param(const struct mime_param *params, const char *name, struct arena *arena)
{
    struct slice charset = SLICE_LIT("UTF-8"), found = {NULL, 0};
    struct buf raw, text;
    buf_init(&raw, 65536);
    buf_init(&text, 262144);
    bool extended = put_piece(params, name, false, 0, &charset, &raw);
    if (!extended && put_piece(params, name, true, 0, &charset, &raw)) {
        extended = true;
        for (uint64_t n = 1; put_piece(params, name, true, n, &charset, &raw); n++)
            ;
    }
    if (extended) {
        charset_to_utf8(charset_find(charset), buf_slice(&raw), &text);
        found = arena_dup(arena, buf_slice(&text));
    }
    for (const struct mime_param *p = params; p && !extended && !found.p; p = p->next)
        if (slice_iis(p->name, name))
            found = p->value;
    buf_clear(&raw);
    buf_clear(&text);
    return found;
}
