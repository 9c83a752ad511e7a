#include "libmail/report_texts.h"

#include <string.h>

#include "libmail/charset.h"

static const char *const kinds[] = {"failure", "delay", "success"};
static const char *const parts[] = {[REPORT_TEXT_SUBJECT] = "subject", [REPORT_TEXT_TEXT] = "text"};

static const char *const english[ARRAY_LEN(kinds)][ARRAY_LEN(parts)] = {
    {"Mail could not be delivered",
        "This is the mail system at {hostname}.\n\n"
        "Your message could not be delivered to the recipients below. It will not be tried\n"
        "again. What went wrong is said under each address."},
    {"Mail is delayed",
        "This is the mail system at {hostname}.\n\n"
        "Your message has not been delivered to the recipients below yet. You need not do\n"
        "anything: delivery will be tried again.\n\n"
        "It will be given up after: {until}"},
    {"Mail was delivered",
        "This is the mail system at {hostname}.\n\n"
        "You asked to be told: your message was delivered to the recipients below, passed on\n"
        "to a server that gives no such reports, or given to the members of a list."}};

struct slice report_text_default(unsigned kind, enum report_text part)
{
    return slice_of(english[kind][part]);
}

/* A language tag is letters, digits and hyphens. */
static bool is_language(struct slice s)
{
    bool good = s.n > 0 && s.n <= REPORT_LANGUAGE_MAX;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (i > 0 && (c == '-' || (c >= '0' && c <= '9'))));
    }
    return good;
}

bool report_text_key(unsigned kind, enum report_text part, struct slice language, struct buf *out)
{
    if (language.n > 0 && !is_language(language))
        return false;
    buf_printf(
        out, "%s-%s%s%.*s", kinds[kind], parts[part], language.n ? "." : "", SLICE_FMT(language));
    return true;
}

/* What the key is of; -1: of nothing that we know. */
static int part_of(struct slice key)
{
    struct slice language = key, name = slice_cut(&language, '.');
    char known[32];
    if (language.p && !is_language(language))
        return -1;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
            snprintf(known, sizeof(known), "%s-%s", kinds[k], parts[p]);
            if (slice_is(name, known))
                return (int)p;
        }
    return -1;
}

/* "{name}" at the front of s; its length, or 0. */
static size_t placeholder(struct slice s)
{
    static const char *const known[] = {
        "{hostname}", "{queue-id}", "{sender}", "{count}", "{arrived}", "{until}"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_starts(s, known[i]))
            return strlen(known[i]);
    return 0;
}

static int check_braces(struct slice value, struct error *err)
{
    for (size_t i = 0; i < value.n; i++) {
        struct slice rest = slice_from_index(value, i);
        size_t n = placeholder(rest);
        if (rest.p[0] == '}' || (rest.p[0] == '{' && n == 0))
            return error_set(err, ERR_SYNTAX,
                "'%.*s' is no placeholder: must be {hostname}, {queue-id}, {sender}, {count}, "
                "{arrived} or {until}",
                SLICE_FMT(slice_first(rest, 20)));
        i += n > 0 ? n - 1 : 0;
    }
    return OK;
}

static int check_characters(struct slice value, struct error *err)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        bool last = i + 1 == value.n;
        if (c == '\\' && (last || (value.p[i + 1] != 'n' && value.p[i + 1] != '\\')))
            return error_set(err, ERR_SYNTAX, "a backslash must be \\\\ or begin \\n");
        i += c == '\\';
        if (c < ' ' && c != '\t')
            return error_set(err, ERR_SYNTAX, "control characters are not allowed");
    }
    return utf8_valid(value) ? OK : error_set(err, ERR_SYNTAX, "must be UTF-8");
}

int report_text_check(struct slice key, struct slice value, struct error *err)
{
    int part = part_of(key);
    if (part < 0)
        return error_set(err, ERR_SYNTAX,
            "must be failure-, delay- or success- and subject or text, as in failure-text, or "
            "failure-text.de for a language");
    bool subject = part == REPORT_TEXT_SUBJECT;
    size_t most = subject ? (size_t)REPORT_SUBJECT_MAX : (size_t)REPORT_TEXT_MAX;
    if (value.n == 0 || value.n > most)
        return error_set(err, ERR_LIMIT, "must have 1 to %zu bytes", most);
    if (subject && slice_find(value, SLICE_LIT("\\n")) >= 0)
        return error_set(err, ERR_SYNTAX, "a subject is one line");
    int rc = check_characters(value, err);
    return rc == OK ? check_braces(value, err) : rc;
}

void report_text_expand(struct slice value, struct buf *out)
{
    while (value.n > 0) {
        bool escape = value.p[0] == '\\' && value.n > 1;
        char c = escape ? value.p[1] : value.p[0];
        bool ends = escape && c == 'n';
        buf_putc(out, ends ? '\n' : c);
        value = slice_from_index(value, escape ? 2 : 1);
        while (ends && value.n > 0 && (value.p[0] == ' ' || value.p[0] == '\t'))
            value = slice_from_index(value, 1);
    }
}

bool report_text_language(struct slice *list, struct slice *language)
{
    while (list->n > 0) {
        struct slice item = slice_cut(list, ',');
        *language = slice_trim(slice_cut(&item, ';'));
        if (is_language(*language))
            return true;
    }
    return false;
}
