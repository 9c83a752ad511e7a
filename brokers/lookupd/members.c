#include "brokers/lookupd/members.h"

static bool is_gap(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',';
}

/* Quotes around the whole member are dropped; those of "local part"@domain stay. */
static struct slice unquote(struct slice s)
{
    if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"')
        return s;
    return slice_first(slice_from_index(s, 1), s.n - 2);
}

static enum member_kind kind_of(struct slice *text)
{
    static const struct {
        const char *prefix;
        enum member_kind kind;
        bool keep;
    } kinds[] = {{":include:", MEMBER_INCLUDE, false}, {"|", MEMBER_COMMAND, false},
        {"/", MEMBER_FILE, true}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_istarts(*text, kinds[i].prefix)) {
            if (!kinds[i].keep)
                *text = slice_trim(slice_from_index(*text, strlen(kinds[i].prefix)));
            return kinds[i].kind;
        }
    return MEMBER_ADDRESS;
}

enum member_kind member_next(struct slice *rest, struct slice *text)
{
    size_t n = 0;
    bool quoted = false;
    while (rest->n && is_gap(rest->p[0]))
        *rest = slice_from_index(*rest, 1);
    if (rest->n == 0)
        return MEMBER_END;
    for (; n < rest->n && (quoted || !is_gap(rest->p[n])); n++) {
        if (rest->p[n] == '"')
            quoted = !quoted;
        else if (quoted && rest->p[n] == '\\' && n + 1 < rest->n)
            n++;
    }
    *text = unquote(slice_first(*rest, n));
    *rest = slice_from_index(*rest, n);
    return kind_of(text);
}
