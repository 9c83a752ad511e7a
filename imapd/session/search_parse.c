#include "imapd/session/search.h"
#include "libmail/charset.h"
#include "libutil/error.h"

enum arg { ARG_NONE, ARG_TEXT, ARG_DATE, ARG_SIZE, ARG_KEYWORD, ARG_HEADER, ARG_FIELD };

/* ARG_FIELD: a HEADER search under the key's own name. */
static const struct {
    const char *name;
    enum search_op op;
    enum arg arg;
    uint32_t mask, value;
} keys[] = {
    {"ALL", SEARCH_AND, ARG_NONE, 0, 0},
    {"ANSWERED", SEARCH_FLAGS, ARG_NONE, STORE_ANSWERED, STORE_ANSWERED},
    {"DELETED", SEARCH_FLAGS, ARG_NONE, STORE_DELETED, STORE_DELETED},
    {"DRAFT", SEARCH_FLAGS, ARG_NONE, STORE_DRAFT, STORE_DRAFT},
    {"FLAGGED", SEARCH_FLAGS, ARG_NONE, STORE_FLAGGED, STORE_FLAGGED},
    {"SEEN", SEARCH_FLAGS, ARG_NONE, STORE_SEEN, STORE_SEEN},
    {"RECENT", SEARCH_FLAGS, ARG_NONE, STORE_RECENT, STORE_RECENT},
    {"NEW", SEARCH_FLAGS, ARG_NONE, STORE_RECENT | STORE_SEEN, STORE_RECENT},
    {"OLD", SEARCH_FLAGS, ARG_NONE, STORE_RECENT, 0},
    {"UNANSWERED", SEARCH_FLAGS, ARG_NONE, STORE_ANSWERED, 0},
    {"UNDELETED", SEARCH_FLAGS, ARG_NONE, STORE_DELETED, 0},
    {"UNDRAFT", SEARCH_FLAGS, ARG_NONE, STORE_DRAFT, 0},
    {"UNFLAGGED", SEARCH_FLAGS, ARG_NONE, STORE_FLAGGED, 0},
    {"UNSEEN", SEARCH_FLAGS, ARG_NONE, STORE_SEEN, 0},
    {"KEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0, 1},
    {"UNKEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0, 0},
    {"BEFORE", SEARCH_BEFORE, ARG_DATE, 0, 0},
    {"ON", SEARCH_ON, ARG_DATE, 0, 0},
    {"SINCE", SEARCH_SINCE, ARG_DATE, 0, 0},
    {"SAVEDBEFORE", SEARCH_SAVEDBEFORE, ARG_DATE, 0, 0},
    {"SAVEDON", SEARCH_SAVEDON, ARG_DATE, 0, 0},
    {"SAVEDSINCE", SEARCH_SAVEDSINCE, ARG_DATE, 0, 0},
    {"SAVEDATESUPPORTED", SEARCH_AND, ARG_NONE, 0, 0},
    {"EMAILID", SEARCH_EMAILID, ARG_KEYWORD, 0, 0},
    {"THREADID", SEARCH_THREADID, ARG_KEYWORD, 0, 0},
    {"SENTBEFORE", SEARCH_SENTBEFORE, ARG_DATE, 0, 0},
    {"SENTON", SEARCH_SENTON, ARG_DATE, 0, 0},
    {"SENTSINCE", SEARCH_SENTSINCE, ARG_DATE, 0, 0},
    {"LARGER", SEARCH_LARGER, ARG_SIZE, 0, 0},
    {"SMALLER", SEARCH_SMALLER, ARG_SIZE, 0, 0},
    {"BCC", SEARCH_HEADER, ARG_FIELD, 0, 0},
    {"CC", SEARCH_HEADER, ARG_FIELD, 0, 0},
    {"FROM", SEARCH_HEADER, ARG_FIELD, 0, 0},
    {"SUBJECT", SEARCH_HEADER, ARG_FIELD, 0, 0},
    {"TO", SEARCH_HEADER, ARG_FIELD, 0, 0},
    {"HEADER", SEARCH_HEADER, ARG_HEADER, 0, 0},
    {"BODY", SEARCH_BODY, ARG_TEXT, 0, 0},
    {"TEXT", SEARCH_TEXT, ARG_TEXT, 0, 0},
};

struct parser {
    struct args *args;
    struct search *search;
    unsigned depth;
};

static struct search_key *new_key(struct parser *p, enum search_op op)
{
    struct search_key *k = ARENA_NEW(p->args->arena, struct search_key);
    if (!k || ++p->search->keys > SEARCH_KEYS_MAX) {
        args_fail(p->args, "Too many search keys");
        return NULL;
    }
    k->op = op;
    return k;
}

static bool take_text(struct parser *p, struct slice *out)
{
    struct slice raw;
    struct buf folded;
    if (!take_space(p->args) || !take_astring(p->args, &raw))
        return false;
    buf_init(&folded, 4 * raw.n + 16);
    utf8_fold(raw, &folded);
    *out = arena_dup(p->args->arena, buf_slice(&folded));
    buf_clear(&folded);
    return out->p || args_fail(p->args, "Command too large");
}

static bool take_arg(struct parser *p, struct search_key *k, enum arg arg, const char *name)
{
    struct args *a = p->args;
    switch (arg) {
    case ARG_NONE:
        return true;
    case ARG_TEXT:
        return take_text(p, &k->text);
    case ARG_FIELD:
        k->name = slice_of(name);
        return take_text(p, &k->text);
    case ARG_HEADER:
        return take_space(a) && take_astring(a, &k->name) && take_text(p, &k->text);
    case ARG_KEYWORD:
        return take_space(a) && take_atom(a, &k->name);
    case ARG_DATE:
        return take_space(a) && take_date(a, &k->day);
    case ARG_SIZE:
        return take_space(a) && take_number(a, UINT32_MAX, &k->size);
    }
    return false;
}

static struct search_key *take_key(struct parser *p);

/* One or more keys, all of which must match, up to ')' or the end. */
static struct search_key *take_keys(struct parser *p)
{
    struct search_key *all = new_key(p, SEARCH_AND), *k;
    if (!all)
        return NULL;
    struct search_key **slot = &all->first;
    do {
        if ((all->first && !take_space(p->args)) || !(k = take_key(p)))
            return NULL;
        *slot = k;
        slot = &k->next;
        all->opens = all->opens || k->opens;
    } while (!args_at_end(p->args) && !args_next_is(p->args, ')'));
    return all;
}

/* OR and NOT: `n` keys follow, a space before each. */
static struct search_key *take_operands(struct parser *p, enum search_op op, unsigned n)
{
    struct search_key *k = new_key(p, op);
    struct search_key **slot = k ? &k->first : NULL;
    for (unsigned i = 0; k && i < n; i++) {
        if (!take_space(p->args) || !(*slot = take_key(p)))
            return NULL;
        k->opens = k->opens || (*slot)->opens;
        slot = &(*slot)->next;
    }
    return k;
}

static struct search_key *take_set(struct parser *p, enum search_op op)
{
    struct search_key *k = new_key(p, op);
    return k && take_seq_set(p->args, &k->set) ? k : NULL;
}

static struct search_key *take_word(struct parser *p)
{
    struct slice word;
    if (!take_atom(p->args, &word))
        return NULL;
    if (slice_iis(word, "OR"))
        return take_operands(p, SEARCH_OR, 2);
    if (slice_iis(word, "NOT"))
        return take_operands(p, SEARCH_NOT, 1);
    if (slice_iis(word, "UID"))
        return take_space(p->args) ? take_set(p, SEARCH_UID) : NULL;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (!slice_iis(word, keys[i].name))
            continue;
        struct search_key *k = new_key(p, keys[i].op);
        if (!k)
            return NULL;
        k->mask = keys[i].mask;
        k->value = keys[i].value;
        k->opens = k->op >= SEARCH_SENTBEFORE && k->op != SEARCH_LARGER && k->op != SEARCH_SMALLER;
        return take_arg(p, k, keys[i].arg, keys[i].name) ? k : NULL;
    }
    args_fail(p->args, "Unknown search key");
    return NULL;
}

static struct search_key *take_key(struct parser *p)
{
    struct args *a = p->args;
    struct search_key *k = NULL;
    if (++p->depth > SEARCH_DEPTH_MAX)
        args_fail(a, "Search keys nested too deeply");
    else if (args_next_is(a, '('))
        k = take_char(a, '(') && (k = take_keys(p)) && take_char(a, ')') ? k : NULL;
    else if (args_next_is(a, '*') || (a->rest.n && a->rest.p[0] >= '0' && a->rest.p[0] <= '9'))
        k = take_set(p, SEARCH_SEQUENCE);
    else
        k = take_word(p);
    p->depth--;
    return k;
}

bool take_search(struct args *a, struct search *search)
{
    struct parser p = {a, search, 0};
    *search = (struct search){.root = NULL};
    if (slice_istarts(a->rest, "CHARSET ")) {
        struct slice charset;
        if (a->utf8) /* RFC 9755 §3: strings are UTF-8, and a charset could contradict */
            return args_fail(a, "CHARSET is not for clients that enabled UTF8=ACCEPT");
        a->rest = slice_from_index(a->rest, strlen("CHARSET "));
        if (!take_astring(a, &charset) || !take_space(a))
            return false;
        if (!slice_iis(charset, "UTF-8") && !slice_iis(charset, "US-ASCII"))
            search->bad_charset = charset;
    }
    search->root = take_keys(&p);
    return search->root && take_end(a);
}
