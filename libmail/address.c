#include "libmail/address.h"

#include <arpa/inet.h>

#include "libmail/charset.h"

/* Writes into a->text; `full` sticks once something did not fit. */
struct writer {
    struct address *a;
    bool full;
};

static void emit(struct writer *w, char c)
{
    if (w->a->len >= ADDRESS_MAX)
        w->full = true;
    else
        w->a->text[w->a->len++] = c;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_atext(char c)
{
    return is_alnum(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Copies a sequence of non-ASCII bytes at s[*i] when allowed; false otherwise. */
static bool take_utf8(struct writer *w, struct slice s, size_t *i, unsigned flags)
{
    size_t n = (flags & ADDRESS_UTF8) ? utf8_length(slice_from_index(s, *i)) : 0;
    for (size_t k = 0; k < n; k++)
        emit(w, s.p[(*i)++]);
    w->a->utf8 |= n > 0;
    return n > 0;
}

/* Dot-string at the front; returns its length, 0 when there is none. */
static size_t take_dot_string(struct writer *w, struct slice s, unsigned flags)
{
    size_t i = 0;
    bool atom = false;
    while (i < s.n) {
        char c = s.p[i];
        if (is_atext(c)) {
            emit(w, c);
            i++;
            atom = true;
        } else if (c == '.' && atom && i + 1 < s.n && s.p[i + 1] != '@') {
            emit(w, c);
            i++;
            atom = false;
        } else if ((unsigned char)c >= 0x80 && take_utf8(w, s, &i, flags)) {
            atom = true;
        } else {
            break;
        }
    }
    return atom ? i : 0;
}

/* Resolves the quoted string at the front into plain (ADDRESS_MAX bytes); returns its length in
 * s, or 0. */
static size_t take_quoted(struct slice s, unsigned flags, char *plain, size_t *plain_n)
{
    size_t i = 1;
    *plain_n = 0;
    while (i < s.n && s.p[i] != '"') {
        size_t n = 1;
        if (s.p[i] == '\\' && ++i == s.n)
            return 0;
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x80)
            n = (flags & ADDRESS_UTF8) ? utf8_length(slice_from_index(s, i)) : 0;
        else if (c < 32 || c == 127)
            n = 0;
        if (n == 0 || *plain_n + n > ADDRESS_MAX)
            return 0;
        memcpy(plain + *plain_n, s.p + i, n);
        *plain_n += n;
        i += n;
    }
    return i < s.n ? i + 1 : 0;
}

/* Writes a plain local part with the least quoting that is correct. */
static void emit_local(struct writer *w, struct slice plain)
{
    struct address probe = {0};
    struct writer dry = {&probe, false};
    if (plain.n && take_dot_string(&dry, plain, ADDRESS_UTF8) == plain.n) {
        take_dot_string(w, plain, ADDRESS_UTF8);
        return;
    }
    emit(w, '"');
    for (size_t i = 0; i < plain.n; i++) {
        if (plain.p[i] == '"' || plain.p[i] == '\\')
            emit(w, '\\');
        w->a->utf8 |= (unsigned char)plain.p[i] >= 0x80;
        emit(w, plain.p[i]);
    }
    emit(w, '"');
}

bool address_is_literal(struct slice s)
{
    char text[64];
    unsigned char ip[16];
    if (s.n < 2 || s.p[0] != '[' || s.p[s.n - 1] != ']')
        return false;
    struct slice inner = slice_first(slice_from_index(s, 1), s.n - 2);
    bool six = slice_istarts(inner, "IPv6:");
    return slice_to_cstr(slice_from_index(inner, six ? 5 : 0), text, sizeof(text)) &&
           inet_pton(six ? AF_INET6 : AF_INET, text, ip) == 1;
}

bool address_is_hostname(struct slice s, bool utf8)
{
    size_t label = 0;
    if (s.n == 0 || s.n > 253)
        return false;
    for (size_t i = 0; i < s.n;) {
        char c = s.p[i];
        size_t n = 1;
        if (c == '.') {
            if (label == 0 || s.p[i - 1] == '-' || i + 1 == s.n)
                return false;
            label = 0;
            i++;
            continue;
        }
        if ((unsigned char)c >= 0x80)
            n = utf8 ? utf8_length(slice_from_index(s, i)) : 0;
        else if (!is_alnum(c) && c != '_' && !(c == '-' && label > 0))
            n = 0;
        label += n;
        if (n == 0 || label > 63)
            return false;
        i += n;
    }
    return s.p[s.n - 1] != '-';
}

static int parse_domain(struct writer *w, struct slice s, unsigned flags)
{
    if (s.n && s.p[0] == '[') {
        if (!address_is_literal(s))
            return ERR_SYNTAX;
        w->a->literal = true;
    } else {
        if (s.n > 1 && s.p[s.n - 1] == '.')
            s.n--;
        if (s.n > ADDRESS_DOMAIN_MAX)
            return ERR_LIMIT;
        if (!address_is_hostname(s, flags & ADDRESS_UTF8))
            return ERR_SYNTAX;
    }
    for (size_t i = 0; i < s.n; i++) {
        w->a->utf8 |= (unsigned char)s.p[i] >= 0x80;
        emit(w, w->a->literal ? s.p[i] : lower(s.p[i]));
    }
    return OK;
}

int address_parse(struct address *out, struct slice s, unsigned flags)
{
    char plain[ADDRESS_MAX];
    size_t plain_n, used;
    *out = (struct address){0};
    struct writer w = {out, false};
    if (s.n == 0)
        return flags & ADDRESS_NULL ? OK : ERR_SYNTAX;
    if (s.p[0] == '"') {
        used = take_quoted(s, flags, plain, &plain_n);
        if (used)
            emit_local(&w, slice_from(plain, plain_n));
    } else {
        used = take_dot_string(&w, s, flags);
    }
    if (used == 0)
        return ERR_SYNTAX;
    out->local = out->len;
    if ((flags & ADDRESS_SHORT_LOCAL) && out->local > ADDRESS_LOCAL_MAX)
        return ERR_LIMIT;
    if (used == s.n)
        return !(flags & ADDRESS_NO_DOMAIN) ? ERR_SYNTAX : w.full ? ERR_LIMIT : OK;
    if (s.p[used] != '@')
        return ERR_SYNTAX;
    emit(&w, '@');
    int rc = parse_domain(&w, slice_from_index(s, used + 1), flags);
    return rc ? rc : w.full ? ERR_LIMIT : OK;
}

/* Index of the '>' that ends a path, minding quoted strings; s.n when there is none. */
static size_t path_end(struct slice s)
{
    bool quoted = false;
    for (size_t i = 0; i < s.n; i++) {
        if (quoted && s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            quoted = !quoted;
        else if (!quoted && s.p[i] == '>')
            return i;
    }
    return s.n;
}

/* Drops "@host,@host:" (RFC 5321 appendix C: accepted and ignored). */
static int skip_route(struct slice *s)
{
    while (s->n && s->p[0] == '@') {
        size_t n = 1;
        while (n < s->n && s->p[n] != ',' && s->p[n] != ':')
            n++;
        struct slice host = slice_first(slice_from_index(*s, 1), n - 1);
        if (n == s->n || !(address_is_hostname(host, true) || address_is_literal(host)))
            return ERR_SYNTAX;
        bool last = s->p[n] == ':';
        *s = slice_from_index(*s, n + 1);
        if (last)
            return s->n ? OK : ERR_SYNTAX;
        if (s->n == 0 || s->p[0] != '@')
            return ERR_SYNTAX;
    }
    return OK;
}

int address_parse_path(struct address *out, struct slice *rest, unsigned flags)
{
    *out = (struct address){0};
    if (rest->n == 0 || rest->p[0] != '<')
        return ERR_SYNTAX;
    struct slice s = slice_from_index(*rest, 1);
    size_t end = path_end(s);
    if (end == s.n)
        return ERR_SYNTAX;
    *rest = slice_from_index(s, end + 1);
    s = slice_first(s, end);
    int rc = skip_route(&s);
    return rc ? rc : address_parse(out, s, flags);
}

struct slice address_text(const struct address *a)
{
    return slice_from(a->text, a->len);
}

struct slice address_local(const struct address *a)
{
    return slice_from(a->text, a->local);
}

struct slice address_domain(const struct address *a)
{
    return slice_from_index(address_text(a), a->local + (a->local < a->len));
}

bool address_equal(const struct address *a, const struct address *b)
{
    return slice_eq(address_text(a), address_text(b));
}

struct slice address_local_plain(const struct address *a, char *out)
{
    struct slice local = address_local(a);
    size_t n = 0;
    if (local.n == 0 || local.p[0] != '"' || take_quoted(local, ADDRESS_UTF8, out, &n) != local.n) {
        n = local.n;
        memcpy(out, a->text, n);
    }
    out[n] = '\0';
    return slice_from(out, n);
}

int address_make(struct address *out, struct slice local, struct slice domain)
{
    *out = (struct address){0};
    struct writer w = {out, false};
    for (size_t i = 0; i < local.n; i++)
        if ((unsigned char)local.p[i] < 32 || local.p[i] == 127)
            return ERR_SYNTAX;
    emit_local(&w, local);
    out->local = out->len;
    if (domain.n == 0)
        return w.full ? ERR_LIMIT : OK;
    emit(&w, '@');
    int rc = parse_domain(&w, domain, ADDRESS_UTF8);
    return rc ? rc : w.full ? ERR_LIMIT : OK;
}

void address_split_detail(struct slice local, char sep, struct slice *user, struct slice *detail)
{
    ptrdiff_t at = slice_chr(slice_from_index(local, 1), sep);
    *user = at < 0 ? local : slice_first(local, (size_t)at + 1);
    *detail = at < 0 ? (struct slice){NULL, 0} : slice_from_index(local, (size_t)at + 2);
}

bool address_cut(struct slice text, struct slice *local, struct slice *domain)
{
    ptrdiff_t at = slice_rchr(text, '@');
    if (at < 0)
        return false;
    *local = slice_first(text, (size_t)at);
    *domain = slice_from_index(text, (size_t)at + 1);
    return true;
}
