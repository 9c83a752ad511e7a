#include "libmail/imapstruct.h"

#include "libmail/address_list.h"
#include "libutil/error.h"

enum { QUOTED_MAX = 1000 }; /* a longer string goes as a literal */

enum form { PLAIN, ESCAPED, LITERAL };

/* RFC 3501 §9: quoted strings hold 7-bit text without CR and LF. */
static enum form form_of(struct slice s)
{
    enum form form = s.n > QUOTED_MAX ? LITERAL : PLAIN;
    for (size_t i = 0; i < s.n && form != LITERAL; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == 0 || c == '\r' || c == '\n' || c >= 0x80)
            form = LITERAL;
        else if (c == '"' || c == '\\')
            form = ESCAPED;
    }
    return form;
}

static int put_literal(struct buf *out, struct slice s)
{
    size_t nuls = 0;
    for (size_t i = 0; i < s.n; i++)
        nuls += s.p[i] == 0;
    buf_printf(out, "{%zu}\r\n", s.n - nuls);
    if (nuls == 0)
        return buf_put(out, s);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i])
            buf_putc(out, s.p[i]);
    return out->failed ? ERR_LIMIT : OK;
}

int imap_put_string(struct buf *out, struct slice s)
{
    enum form form = form_of(s);
    if (form == LITERAL)
        return put_literal(out, s);
    buf_putc(out, '"');
    if (form == PLAIN)
        buf_put(out, s);
    for (size_t i = 0; form == ESCAPED && i < s.n; i++) {
        if (s.p[i] == '"' || s.p[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, s.p[i]);
    }
    return buf_putc(out, '"');
}

int imap_put_nstring(struct buf *out, struct slice s)
{
    return s.p ? imap_put_string(out, s) : buf_puts(out, "NIL");
}

/* A header value unfolded and cut to IMAP_STRING_MAX. */
static void put_text(struct buf *out, struct slice value)
{
    if (!value.p) {
        buf_puts(out, "NIL");
        return;
    }
    value = slice_trim(slice_first(value, IMAP_STRING_MAX));
    if (slice_chr(value, '\r') < 0 && slice_chr(value, '\n') < 0) {
        imap_put_string(out, value);
        return;
    }
    struct buf text;
    buf_init(&text, IMAP_STRING_MAX);
    header_unfold(value, &text);
    imap_put_string(out, buf_slice(&text));
    buf_clear(&text);
}

static void put_number(struct buf *out, uint64_t n)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_put(out, slice_from(digits + at, sizeof(digits) - at));
}

static void put_address(struct buf *out, const struct address_item *a)
{
    const struct slice nil = {NULL, 0};
    bool member = a->kind == ADDRESS_ITEM, start = a->kind == ADDRESS_GROUP_START;
    buf_putc(out, '(');
    put_text(out, member && a->name.n ? a->name : nil);
    buf_putc(out, ' ');
    imap_put_nstring(out, member && a->route.n ? slice_first(a->route, IMAP_STRING_MAX) : nil);
    buf_putc(out, ' ');
    if (member)
        put_text(out, a->local.p ? a->local : SLICE_LIT(""));
    else
        put_text(out, start ? (a->name.p ? a->name : SLICE_LIT("")) : nil);
    buf_putc(out, ' ');
    /* A NIL host would make it a group (RFC 3501 §7.4.2). */
    put_text(out, !member ? nil : a->domain.p ? a->domain : SLICE_LIT(""));
    buf_putc(out, ')');
}

/* The fields of an envelope, in its order. */
enum { DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID, FIELDS };
static const char *const field_names[FIELDS] = {"Date", "Subject", "From", "Sender", "Reply-To",
    "To", "Cc", "Bcc", "In-Reply-To", "Message-ID"};

struct fields {
    struct slice header;
    struct slice first[FIELDS]; /* body of the first one; p == NULL: there is none */
    bool repeated[FIELDS];
};

static void find_fields(struct slice header, struct fields *found)
{
    struct header_iter it;
    struct header_field f;
    *found = (struct fields){.header = header};
    header_iter_init(&it, header);
    while (mime_field_next(&it, &f))
        for (size_t i = 0; i < FIELDS; i++)
            if (slice_iis(f.name, field_names[i])) {
                found->repeated[i] = found->first[i].p != NULL;
                if (!found->repeated[i])
                    found->first[i] = f.body;
                break;
            }
}

/* The addresses in one field; *count goes on. */
static void put_list(struct slice body, struct arena *arena, unsigned *count, struct buf *out)
{
    struct address_iter addresses;
    struct address_item item;
    int rc;
    address_iter_init(&addresses, body, arena);
    while (*count < IMAP_ADDRESSES_MAX && (rc = address_iter_next(&addresses, &item)) != 0) {
        if (rc == ERR_LIMIT)
            break;
        if (rc < 0)
            continue;
        if ((*count)++ == 0)
            buf_putc(out, '(');
        put_address(out, &item);
    }
}

/* The addresses of every field of this kind; false when there is none, and nothing is put. */
static bool put_addresses(
    const struct fields *found, size_t which, struct arena *arena, struct buf *out)
{
    struct header_iter it;
    struct header_field f;
    unsigned count = 0;
    header_iter_init(&it, found->header);
    if (found->repeated[which]) {
        while (mime_field_next(&it, &f))
            if (slice_iis(f.name, field_names[which]))
                put_list(f.body, arena, &count, out);
    } else if (found->first[which].p) {
        put_list(found->first[which], arena, &count, out);
    }
    if (count)
        buf_putc(out, ')');
    return count > 0;
}

/* What was put there before, once more. */
static void put_again(struct buf *out, size_t from, size_t n)
{
    char *room = buf_reserve(out, n);
    if (!room)
        return;
    memcpy(room, buf_slice(out).p + from, n);
    buf_claim(out, n);
}

int imap_put_envelope(struct slice header, struct arena *arena, struct buf *out)
{
    struct fields found;
    size_t from = 0, from_len = 0;
    find_fields(header, &found);
    for (size_t i = 0; i < FIELDS; i++) {
        buf_putc(out, i ? ' ' : '(');
        if (i < FROM || i > BCC) {
            put_text(out, found.first[i]);
            continue;
        }
        size_t at = buf_len(out);
        bool any = put_addresses(&found, i, arena, out);
        if (any && i == FROM) {
            from = at;
            from_len = buf_len(out) - at;
        } else if (!any && (i == SENDER || i == REPLY_TO) && from_len) {
            put_again(out, from, from_len); /* they default to From (RFC 3501 §7.4.2) */
        } else if (!any) {
            buf_puts(out, "NIL");
        }
    }
    buf_putc(out, ')');
    return out->failed ? ERR_LIMIT : OK;
}

static void put_params(struct buf *out, const struct mime_param *params)
{
    if (!params) {
        buf_puts(out, "NIL");
        return;
    }
    for (const struct mime_param *p = params; p; p = p->next) {
        buf_putc(out, p == params ? '(' : ' ');
        imap_put_string(out, slice_first(p->name, IMAP_STRING_MAX));
        buf_putc(out, ' ');
        imap_put_string(out, slice_first(p->value, IMAP_STRING_MAX));
    }
    buf_putc(out, ')');
}

/* "en, de" as ("en" "de"), RFC 3282. */
static void put_language(struct buf *out, struct slice value)
{
    struct slice rest = value;
    unsigned count = 0;
    while (rest.p && count < MIME_MAX_PARAMS) {
        struct slice tag = slice_trim(slice_cut(&rest, ','));
        if (tag.n == 0)
            continue;
        buf_putc(out, count++ ? ' ' : '(');
        put_text(out, tag);
    }
    buf_puts(out, count ? ")" : "NIL");
}

/* body-fld-dsp, body-fld-lang, body-fld-loc */
static void put_extension(struct buf *out, const struct mime_part *part)
{
    if (part->disposition.p) {
        buf_puts(out, " (");
        imap_put_string(out, part->disposition);
        buf_putc(out, ' ');
        put_params(out, part->disposition_params);
        buf_puts(out, ") ");
    } else {
        buf_puts(out, " NIL ");
    }
    put_language(out, part->language);
    buf_putc(out, ' ');
    put_text(out, part->location);
}

static void put_leaf(struct slice message, const struct mime_part *part, struct arena *arena,
    bool extended, struct buf *out)
{
    bool text = slice_iis(part->type, "text");
    imap_put_string(out, part->type);
    buf_putc(out, ' ');
    imap_put_string(out, part->subtype);
    buf_putc(out, ' ');
    if (text && !part->params && slice_iis(part->subtype, "plain"))
        buf_puts(out, "(\"CHARSET\" \"US-ASCII\")"); /* RFC 2045 §5.2 */
    else
        put_params(out, part->params);
    buf_putc(out, ' ');
    put_text(out, part->id);
    buf_putc(out, ' ');
    put_text(out, part->description);
    buf_putc(out, ' ');
    put_text(out, part->encoding.n ? part->encoding : SLICE_LIT("7BIT"));
    buf_putc(out, ' ');
    put_number(out, part->body_size);
    if (part->kind == MIME_MESSAGE) {
        buf_putc(out, ' ');
        if (imap_put_envelope(mime_header(message, part->first), arena, out))
            return;
        buf_putc(out, ' ');
        if (imap_put_body(message, part->first, arena, extended, out))
            return;
    }
    if (text || part->kind == MIME_MESSAGE) {
        buf_putc(out, ' ');
        put_number(out, part->lines);
    }
    if (extended) {
        buf_putc(out, ' ');
        put_text(out, part->md5);
        put_extension(out, part);
    }
}

static void put_multipart(struct slice message, const struct mime_part *part, struct arena *arena,
    bool extended, struct buf *out)
{
    for (const struct mime_part *child = part->first; child && !out->failed; child = child->next)
        if (imap_put_body(message, child, arena, extended, out))
            return;
    if (!part->first) {
        /* The grammar wants at least one part. */
        const struct mime_part none = {.type = SLICE_LIT("TEXT"), .subtype = SLICE_LIT("PLAIN")};
        if (imap_put_body(message, &none, arena, extended, out))
            return;
    }
    buf_putc(out, ' ');
    imap_put_string(out, part->subtype);
    if (extended) {
        buf_putc(out, ' ');
        put_params(out, part->params);
        put_extension(out, part);
    }
}

int imap_put_body(struct slice message, const struct mime_part *part, struct arena *arena,
    bool extended, struct buf *out)
{
    buf_putc(out, '(');
    if (part->kind == MIME_MULTIPART)
        put_multipart(message, part, arena, extended, out);
    else
        put_leaf(message, part, arena, extended, out);
    buf_putc(out, ')');
    return out->failed ? ERR_LIMIT : OK;
}

int imap_structure(struct slice message, struct arena *arena, struct buf *envelope,
    struct buf *body, struct buf *bodystructure)
{
    struct mime_part *root = mime_parse(message, arena);
    if (!root)
        return ERR_LIMIT;
    int rc = OK;
    if (envelope)
        rc = imap_put_envelope(mime_header(message, root), arena, envelope);
    if (body && rc == OK)
        rc = imap_put_body(message, root, arena, false, body);
    if (bodystructure && rc == OK)
        rc = imap_put_body(message, root, arena, true, bodystructure);
    return rc;
}
