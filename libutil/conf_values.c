#include "libutil/conf_internal.h"

const struct conf_key *conf_key_find(const struct conf_schema *schema, struct slice name)
{
    for (const struct conf_key *k = schema->keys; k->name; k++)
        if (slice_is(name, k->name))
            return k;
    return NULL;
}

/* Edits (insert, delete, replace, swap neighbours) between two short words. */
static unsigned edit_distance(struct slice a, struct slice b)
{
    enum { MAX_WORD = 40 };
    unsigned d[MAX_WORD + 1][MAX_WORD + 1];
    if (a.n > MAX_WORD || b.n > MAX_WORD)
        return UINT32_MAX;
    for (unsigned i = 0; i <= a.n; i++) {
        for (unsigned j = 0; j <= b.n; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            unsigned cost = a.p[i - 1] != b.p[j - 1];
            d[i][j] = MIN(MIN(d[i - 1][j] + 1, d[i][j - 1] + 1), d[i - 1][j - 1] + cost);
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
                d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[a.n][b.n];
}

const struct conf_key *conf_key_nearest(const struct conf_schema *schema, struct slice name)
{
    const struct conf_key *best = NULL;
    unsigned least = (unsigned)MIN(name.n / 2, (size_t)3) + 1;
    for (const struct conf_key *k = schema->keys; k->name; k++) {
        unsigned d = edit_distance(name, slice_of(k->name));
        if (d < least) {
            least = d;
            best = k;
        }
    }
    return best;
}

const struct conf_entry *conf_entry_find(const struct conf_block *b, const char *key)
{
    for (const struct conf_entry *e = b->entries; e; e = e->next)
        if (strcmp(e->key->name, key) == 0)
            return e;
    return NULL;
}

/* The words of a default; the registry is ours, so that a bad one is a programmer error. */
static void read_default(struct conf *c, struct conf_entry *e)
{
    struct conf_lexer lx = {.text = slice_of(e->key->def), .line = 1, .arena = &c->arena};
    e->words = arena_array(&c->arena, 8, sizeof(*e->words));
    assert(e->words);
    while (e->nwords < 8 && conf_lex(&lx, false) == CONF_WORD)
        e->words[e->nwords++] = lx.word;
    if (e->nwords == 0)
        e->words[e->nwords++] = SLICE_LIT("");
}

void conf_fill_defaults(struct conf *c, struct conf_block *b)
{
    for (const struct conf_key *k = b->schema->keys; k->name; k++) {
        if (!k->def || conf_entry_find(b, k->name))
            continue;
        struct conf_entry *e = ARENA_NEW(&c->arena, struct conf_entry);
        assert(e);
        *e = (struct conf_entry){.key = k, .is_default = true, .file = "default"};
        read_default(c, e);
        struct error err = {0};
        bool empty = e->words[0].n == 0 && k->type == CONF_STRING;
        int rc = empty ? OK : conf_value_check(&c->arena, c->directory, e, &err);
        assert(rc == OK);
        (void)rc;
        conf_add_entry(b, e);
    }
}

/* --- reading ---------------------------------------------------------------------------------- */
const struct conf_block *conf_root(const struct conf *c)
{
    return c->root;
}

const struct conf_block *conf_next(
    const struct conf_block *parent, const char *kind, const struct conf_block *prev)
{
    const struct conf_block *b = prev ? prev->next : parent->children;
    while (b && strcmp(b->key->name, kind) != 0)
        b = b->next;
    return b;
}

const struct conf_block *conf_default_block(const struct conf *c, const char *kind)
{
    const struct conf_block *b = c->defaults;
    while (b && strcmp(b->key->name, kind) != 0)
        b = b->next;
    assert(b);
    return b;
}

const struct conf_block *conf_one(const struct conf *c, const char *kind)
{
    const struct conf_block *b = conf_next(c->root, kind, NULL);
    return b ? b : conf_default_block(c, kind);
}

size_t conf_args(const struct conf_block *b)
{
    return b->nargs;
}

struct slice conf_arg(const struct conf_block *b, size_t i)
{
    assert(i < b->nargs);
    return b->args[i];
}

struct slice conf_where(const struct conf_block *b)
{
    return b->where;
}

#define TYPE_BIT(type) (1u << (type))

/* The entry of a key that must exist in the schema with one of these types; NULL: no value. */
static const struct conf_entry *want(const struct conf_block *b, const char *name, unsigned types)
{
    const struct conf_key *k = conf_key_find(b->schema, slice_of(name));
    assert(k && (TYPE_BIT(k->type) & types));
    (void)k;
    (void)types;
    return conf_entry_find(b, name);
}

bool conf_isset(const struct conf_block *b, const char *key)
{
    const struct conf_entry *e = want(b, key, ~0u);
    return e && !e->is_default;
}

struct slice conf_string(const struct conf_block *b, const char *key)
{
    const struct conf_entry *e = want(b, key,
        TYPE_BIT(CONF_STRING) | TYPE_BIT(CONF_PATH) | TYPE_BIT(CONF_TABLE) | TYPE_BIT(CONF_CHOICE));
    return e ? e->words[0] : (struct slice){NULL, 0};
}

bool conf_bool(const struct conf_block *b, const char *key)
{
    const struct conf_entry *e = want(b, key, TYPE_BIT(CONF_BOOL));
    return e && e->number;
}

int64_t conf_int(const struct conf_block *b, const char *key)
{
    const struct conf_entry *e =
        want(b, key, TYPE_BIT(CONF_INT) | TYPE_BIT(CONF_SIZE) | TYPE_BIT(CONF_DURATION));
    return e ? e->number : 0;
}

size_t conf_list_len(const struct conf_block *b, const char *key)
{
    size_t n = 0;
    for (const struct conf_entry *e = want(b, key, TYPE_BIT(CONF_LIST)); e; e = e->next)
        if (strcmp(e->key->name, key) == 0)
            n += e->nwords;
    return n;
}

struct slice conf_list_at(const struct conf_block *b, const char *key, size_t i)
{
    for (const struct conf_entry *e = want(b, key, TYPE_BIT(CONF_LIST)); e; e = e->next) {
        if (strcmp(e->key->name, key) != 0)
            continue;
        if (i < e->nwords)
            return e->words[i];
        i -= e->nwords;
    }
    assert(!"index beyond the list");
    return (struct slice){NULL, 0};
}
