#include "imapd/session/args.h"

#include "imapd/session/mutf7.h"
#include "libmail/date.h"
#include "libstore/store.h"
#include "libutil/error.h"

bool args_fail(struct args *a, const char *wrong)
{
    if (!a->wrong)
        a->wrong = wrong;
    return false;
}

bool args_next_is(const struct args *a, char c)
{
    return a->rest.n > 0 && a->rest.p[0] == c;
}

bool args_at_end(const struct args *a)
{
    return a->rest.n == 0;
}

bool take_char(struct args *a, char c)
{
    if (!args_next_is(a, c))
        return args_fail(a, "Unexpected character in arguments");
    a->rest = slice_from_index(a->rest, 1);
    return true;
}

bool take_space(struct args *a)
{
    if (!args_next_is(a, ' '))
        return args_fail(a, args_at_end(a) ? "Missing argument" : "Space expected");
    a->rest = slice_from_index(a->rest, 1);
    return true;
}

bool take_end(struct args *a)
{
    return args_at_end(a) || args_fail(a, "Too many arguments");
}

bool is_atom_char(char c)
{
    unsigned char u = (unsigned char)c;
    return u > ' ' && u < 0x7f && !strchr("(){%*\"\\]", c);
}

/* A run of atom characters and those in `also`; in names of mailboxes 8-bit ones, too: what some
 * clients send. */
static bool take_run(struct args *a, const char *also, bool eight_bit, struct slice *out)
{
    size_t n = 0;
    while (n < a->rest.n &&
           (is_atom_char(a->rest.p[n]) || (a->rest.p[n] != 0 && strchr(also, a->rest.p[n])) ||
               (eight_bit && (unsigned char)a->rest.p[n] >= 0x80)))
        n++;
    *out = slice_first(a->rest, n);
    a->rest = slice_from_index(a->rest, n);
    return n > 0 || args_fail(a, "Missing or malformed argument");
}

bool take_atom(struct args *a, struct slice *out)
{
    return take_run(a, "", false, out);
}

static bool take_quoted(struct args *a, struct slice *out)
{
    struct slice s = a->rest;
    size_t end = 1, escapes = 0;
    while (end < s.n && s.p[end] != '"') {
        if (s.p[end] == '\\') {
            escapes++;
            end++;
            if (end >= s.n || (s.p[end] != '"' && s.p[end] != '\\'))
                return args_fail(a, "Malformed escape in quoted string");
        }
        end++;
    }
    if (end >= s.n)
        return args_fail(a, "Unterminated quoted string");
    *out = (struct slice){s.p + 1, end - 1};
    if (escapes) {
        char *copy = arena_alloc(a->arena, end);
        if (!copy)
            return args_fail(a, "Command too large");
        size_t n = 0;
        for (size_t i = 1; i < end; i++) {
            i += s.p[i] == '\\';
            copy[n++] = s.p[i];
        }
        *out = (struct slice){copy, n};
    }
    a->rest = slice_from_index(s, end + 1);
    return true;
}

static bool take_literal(struct args *a, struct slice *out)
{
    struct slice rest = a->rest;
    struct slice head = slice_cut(&rest, '\n');
    uint64_t n;
    if (!rest.p || !slice_starts(head, "{") || !slice_ends(head, "}\r"))
        return args_fail(a, "Malformed literal");
    head = slice_from_index(slice_first(head, head.n - 2), 1);
    if (slice_ends(head, "+"))
        head.n--;
    if (slice_u64(head, 0, rest.n, &n))
        return args_fail(a, "Malformed literal");
    *out = slice_first(rest, (size_t)n);
    a->rest = slice_from_index(rest, (size_t)n);
    if (n && memchr(out->p, 0, (size_t)n))
        return args_fail(a, "NUL in literal");
    return true;
}

bool take_string(struct args *a, struct slice *out)
{
    if (args_next_is(a, '"'))
        return take_quoted(a, out);
    if (args_next_is(a, '{'))
        return take_literal(a, out);
    return args_fail(a, "String expected");
}

bool take_astring(struct args *a, struct slice *out)
{
    if (args_next_is(a, '"') || args_next_is(a, '{'))
        return take_string(a, out);
    return take_run(a, "]", false, out);
}

bool take_nstring(struct args *a, struct slice *out)
{
    if (args_next_is(a, '"') || args_next_is(a, '{'))
        return take_string(a, out);
    if (!take_atom(a, out))
        return false;
    if (!slice_iis(*out, "NIL"))
        return args_fail(a, "String or NIL expected");
    *out = (struct slice){NULL, 0};
    return true;
}

bool take_mailbox(struct args *a, struct slice *out)
{
    struct slice wire;
    if (!(args_next_is(a, '"') || args_next_is(a, '{') ? take_string(a, &wire)
                                                       : take_run(a, "]", true, &wire)))
        return false;
    if (slice_iis(wire, "INBOX")) {
        *out = SLICE_LIT("INBOX");
        return true;
    }
    struct buf name;
    buf_init(&name, 4 * STORE_NAME_MAX);
    int rc = wire_take_mailbox(wire, a->utf8, &name);
    *out = arena_dup(a->arena, buf_slice(&name));
    buf_clear(&name);
    return rc == OK && out->p ? true : args_fail(a, "Malformed mailbox name");
}

bool take_pattern(struct args *a, struct slice *out)
{
    if (args_next_is(a, '"') || args_next_is(a, '{'))
        return take_string(a, out);
    return take_run(a, "%*]", true, out);
}

bool take_number(struct args *a, uint64_t max, uint64_t *out)
{
    size_t n = 0;
    while (n < a->rest.n && a->rest.p[n] >= '0' && a->rest.p[n] <= '9')
        n++;
    if (slice_u64(slice_first(a->rest, n), 0, max, out))
        return args_fail(a, "Number expected");
    a->rest = slice_from_index(a->rest, n);
    return true;
}

static int month_of(struct slice s)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (slice_ieq(s, slice_from(names + 3 * i, 3)))
            return i + 1;
    return 0;
}

/* "d-Mon-yyyy" or "dd-Mon-yyyy" or " d-Mon-yyyy" as seconds. */
static bool parse_date(struct slice s, int64_t *when)
{
    struct slice rest = s;
    struct slice day = slice_trim(slice_cut(&rest, '-'));
    struct slice month = slice_cut(&rest, '-');
    uint64_t d, y;
    time_t t;
    if (!rest.p || rest.n != 4 || day.n > 2 || slice_u64(day, 1, 31, &d) ||
        slice_u64(rest, 1, 9999, &y) || month_of(month) == 0 ||
        date_from_civil((int)y, month_of(month), (int)d, 0, 0, 0, &t))
        return false;
    *when = t;
    return true;
}

bool take_date(struct args *a, int64_t *day)
{
    struct slice s;
    int64_t when;
    if (!(args_next_is(a, '"') ? take_quoted(a, &s) : take_atom(a, &s)))
        return false;
    if (!parse_date(s, &when))
        return args_fail(a, "Malformed date");
    *day = when >= 0 ? when / 86400 : -((-when + 86399) / 86400);
    return true;
}

/* "+hhmm" in seconds. */
static bool parse_zone(struct slice s, int64_t *zone)
{
    uint64_t h, m;
    if (s.n != 5 || (s.p[0] != '+' && s.p[0] != '-') ||
        slice_u64((struct slice){s.p + 1, 2}, 0, 23, &h) ||
        slice_u64((struct slice){s.p + 3, 2}, 0, 59, &m))
        return false;
    *zone = (int64_t)(h * 3600 + m * 60) * (s.p[0] == '-' ? -1 : 1);
    return true;
}

bool take_date_time(struct args *a, int64_t *when)
{
    struct slice s;
    uint64_t h, m, sec;
    int64_t zone;
    if (!args_next_is(a, '"') || !take_quoted(a, &s))
        return args_fail(a, "Date and time expected");
    struct slice clock = slice_from_index(s, 12), date = slice_first(s, 11);
    if (s.n != 26 || s.p[11] != ' ' || clock.p[2] != ':' || clock.p[5] != ':' ||
        clock.p[8] != ' ' || !parse_date(date, when) ||
        slice_u64((struct slice){clock.p, 2}, 0, 23, &h) ||
        slice_u64((struct slice){clock.p + 3, 2}, 0, 59, &m) ||
        slice_u64((struct slice){clock.p + 6, 2}, 0, 60, &sec) ||
        !parse_zone(slice_from_index(clock, 9), &zone))
        return args_fail(a, "Malformed date and time");
    *when += (int64_t)(h * 3600 + m * 60 + sec) - zone;
    return true;
}

static bool take_seq_number(struct args *a, uint32_t *out)
{
    uint64_t v;
    if (args_next_is(a, '*')) {
        *out = 0;
        return take_char(a, '*');
    }
    if (!take_number(a, UINT32_MAX, &v) || v == 0)
        return args_fail(a, "Malformed sequence set");
    *out = (uint32_t)v;
    return true;
}

bool take_seq_set(struct args *a, struct seq_set *set)
{
    size_t end = 0, commas = 0;
    for (; end < a->rest.n && a->rest.p[end] != ' ' && a->rest.p[end] != ')'; end++)
        commas += a->rest.p[end] == ',';
    *set = (struct seq_set){arena_array(a->arena, commas + 1, sizeof(struct seq_range)), 0};
    if (!set->ranges)
        return args_fail(a, "Command too large");
    for (;;) {
        struct seq_range *r = &set->ranges[set->n++];
        if (!take_seq_number(a, &r->from))
            return args_fail(a, "Malformed sequence set");
        r->to = r->from;
        if (args_next_is(a, ':') && (!take_char(a, ':') || !take_seq_number(a, &r->to)))
            return args_fail(a, "Malformed sequence set");
        if (!args_next_is(a, ','))
            return true;
        if (!take_char(a, ','))
            return false;
    }
}

bool is_keyword(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_atom_char(s.p[i]))
            return false;
    return s.n > 0 && s.n <= ARGS_KEYWORD_LENGTH;
}

static bool take_flag(struct args *a, struct flag_list *list)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } known[] = {{"Seen", STORE_SEEN}, {"Answered", STORE_ANSWERED}, {"Flagged", STORE_FLAGGED},
        {"Deleted", STORE_DELETED}, {"Draft", STORE_DRAFT}};
    struct slice name;
    if (args_next_is(a, '\\')) {
        if (!take_char(a, '\\') || !take_atom(a, &name))
            return false;
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            if (slice_iis(name, known[i].name)) {
                list->flags |= known[i].flag;
                return true;
            }
        return args_fail(a, "Flag that cannot be set");
    }
    if (!take_atom(a, &name))
        return false;
    if (!is_keyword(name) || list->nkeywords == ARGS_KEYWORDS_MAX)
        return args_fail(a, "Too many or too long keywords");
    list->keywords[list->nkeywords++] = name;
    return true;
}

bool take_flags(struct args *a, bool bare, struct flag_list *list)
{
    *list = (struct flag_list){
        .keywords = arena_array(a->arena, ARGS_KEYWORDS_MAX, sizeof(struct slice))};
    if (!list->keywords)
        return args_fail(a, "Command too large");
    bool parens = args_next_is(a, '(');
    if (!parens && !bare)
        return args_fail(a, "Flag list expected");
    if (parens && take_char(a, '(') && args_next_is(a, ')'))
        return take_char(a, ')');
    for (;;) {
        if (!take_flag(a, list))
            return false;
        if (!args_next_is(a, ' '))
            break;
        take_space(a);
    }
    return !parens || take_char(a, ')');
}
