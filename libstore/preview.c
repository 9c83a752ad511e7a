/* The first words of a message, for lists (RFC 8970): text of the first text part, decoded, white
 * space and markup folded, quoted lines passed over while there is anything else. */
#include "libmail/charset.h"
#include "libmail/encoding.h"
#include "libmail/mime.h"
#include "libstore/private.h"

enum { SOURCE_MAX = 4000, TEXT_MAX = 4 * SOURCE_MAX };

static const struct mime_part *first_text(const struct mime_part *p, bool html)
{
    for (; p; p = p->next) {
        if (p->kind == MIME_LEAF && slice_iis(p->type, "text") &&
            slice_iis(p->subtype, html ? "html" : "plain") &&
            !slice_iis(p->disposition, "attachment"))
            return p;
        const struct mime_part *below = first_text(p->first, html);
        if (below)
            return below;
    }
    return NULL;
}

/* Takes one character reference behind the '&'; unknown ones stay as they are. */
static uint32_t take_reference(struct slice *s)
{
    static const struct {
        const char *name;
        uint32_t code;
    } known[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''},
        {"nbsp;", ' '}, {"#39;", '\''}, {"#160;", ' '}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_starts(*s, known[i].name)) {
            *s = slice_from_index(*s, strlen(known[i].name));
            return known[i].code;
        }
    return '&';
}

/* Passes over a tag whose '<' was taken; of style, script and head the content, too. */
static void skip_tag(struct slice *s)
{
    static const char *const silent[] = {"style", "script", "head", "title"};
    struct slice tag = *s;
    ptrdiff_t end = slice_chr(*s, '>');
    *s = slice_from_index(*s, end < 0 ? s->n : (size_t)end + 1);
    for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
        size_t n = strlen(silent[i]);
        if (tag.n <= n || !slice_iis(slice_first(tag, n), silent[i]) ||
            (tag.p[n] != '>' && tag.p[n] != ' '))
            continue;
        for (ptrdiff_t lt; (lt = slice_chr(*s, '<')) >= 0;) {
            *s = slice_from_index(*s, (size_t)lt + 1);
            if (s->n > n + 1 && s->p[0] == '/' &&
                slice_iis(slice_first(slice_from_index(*s, 1), n), silent[i]))
                break;
        }
        end = slice_chr(*s, '>');
        *s = slice_from_index(*s, end < 0 ? s->n : (size_t)end + 1);
        return;
    }
}

/* How many characters at the front are plain ones of a word. */
static size_t word_length(struct slice s, bool html)
{
    size_t n = 0;
    while (n < s.n && s.p[n] > ' ' && s.p[n] < 0x7f && !(html && (s.p[n] == '<' || s.p[n] == '&')))
        n++;
    return n;
}

static void put_words(struct slice text, bool html, struct buf *out)
{
    size_t chars = 0;
    bool gap = false, line_start = true;
    while (text.n && chars < STORE_PREVIEW) {
        size_t word = line_start && !html && text.p[0] == '>' ? 0 : word_length(text, html);
        if (word) {
            if (gap && chars && chars++ < STORE_PREVIEW - 1)
                buf_putc(out, ' ');
            gap = line_start = false;
            buf_put(out, slice_first(text, MIN(word, STORE_PREVIEW - chars)));
            chars += word;
            text = slice_from_index(text, word);
            continue;
        }
        uint32_t c = utf8_take(&text);
        if (line_start && !html && c == '>') {
            ptrdiff_t lf = slice_chr(text, '\n');
            text = slice_from_index(text, lf < 0 ? text.n : (size_t)lf + 1);
            continue;
        }
        line_start = c == '\n';
        if (html && c == '<') {
            skip_tag(&text);
            gap = true;
            continue;
        }
        if (html && c == '&')
            c = take_reference(&text);
        if (c <= ' ' || c == 0x7f || c == 0xa0 || (c >= 0x80 && c < 0xa0) || c == 0xfeff ||
            (c >= 0x200b && c <= 0x200f)) {
            gap = true;
            continue;
        }
        if (gap && chars && chars++ < STORE_PREVIEW - 1)
            buf_putc(out, ' ');
        gap = false;
        if (chars++ < STORE_PREVIEW)
            utf8_put(out, c);
    }
}

void preview_put(
    struct slice content, const struct mime_part *root, struct arena *arena, struct buf *out)
{
    struct buf plain, text;
    bool html = false;
    const struct mime_part *p = first_text(root, false);
    if (!p && (p = first_text(root, true)))
        html = true;
    if (!p)
        return;
    buf_init(&plain, TEXT_MAX);
    buf_init(&text, TEXT_MAX);
    struct slice body = slice_first(mime_body(content, p), SOURCE_MAX);
    enum encoding encoding = encoding_of(p->encoding);
    if (encoding != ENCODING_IDENTITY) {
        encoding_decode(encoding, body, &plain);
        body = buf_slice(&plain);
    }
    const struct charset *set = charset_find(mime_param(p->params, "charset", arena));
    if (!charset_is_utf8(set)) {
        charset_to_utf8(set, body, &text);
        body = buf_slice(&text);
    }
    put_words(body, html, out);
    buf_clear(&plain);
    buf_clear(&text);
}
