/* The text form of tables, and the drivers that keep it in memory: text and inline. */
#include "libutil/table_internal.h"

void table_text_init(struct table_text *t)
{
    *t = (struct table_text){0};
    map_init(&t->index);
}

void table_text_clear(struct table_text *t)
{
    /* A users table holds password hashes. */
    for (size_t i = 0; i < t->n; i++)
        explicit_bzero((char *)(uintptr_t)t->pairs[i].value.p, t->pairs[i].value.n);
    for (size_t i = 0; i < t->nchunks; i++)
        free(t->chunks[i]);
    free(t->chunks);
    free(t->pairs);
    map_clear(&t->index);
    table_text_init(t);
}

/* The value may span lines: line ends within it become blanks. */
static void copy_value(char *out, struct slice value)
{
    for (size_t i = 0; i < value.n; i++)
        out[i] = value.p[i] == '\n' || value.p[i] == '\r' ? ' ' : value.p[i];
}

int table_text_add(struct table_text *t, struct slice key, struct slice value, struct error *err)
{
    char lower[TABLE_KEY_MAX];
    if (key.n == 0 || key.n > TABLE_KEY_MAX)
        return error_set(err, ERR_LIMIT, "a key must have 1 to %d bytes", TABLE_KEY_MAX);
    if (value.n > TABLE_VALUE_MAX)
        return error_set(err, ERR_LIMIT, "a value may have at most %d bytes", TABLE_VALUE_MAX);
    if (slice_chr(key, '\0') >= 0 || slice_chr(value, '\0') >= 0)
        return error_set(err, ERR_SYNTAX, "a NUL byte");
    memcpy(lower, key.p, key.n);
    ascii_lower(lower, key.n);
    key.p = lower;
    if (map_get(&t->index, key))
        return error_set(err, ERR_EXISTS, "%.*s is given twice", SLICE_FMT(slice_first(key, 100)));
    char *chunk = xcalloc(1, key.n + value.n + 1);
    memcpy(chunk, key.p, key.n);
    copy_value(chunk + key.n, value);
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->pairs = xrealloc(t->pairs, t->cap, sizeof(*t->pairs));
        t->chunks = xrealloc(t->chunks, t->cap, sizeof(*t->chunks));
    }
    t->chunks[t->nchunks++] = chunk;
    t->pairs[t->n++] = (struct table_pair){{chunk, key.n}, {chunk + key.n, value.n}};
    map_set(&t->index, key, (void *)(uintptr_t)t->n);
    return OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

struct slice table_next_entry(struct slice *rest, unsigned *line, unsigned *starts)
{
    struct slice entry = {NULL, 0};
    while (rest->n) {
        struct slice peek = *rest, text = slice_cut(&peek, '\n'), trimmed = slice_trim(text);
        bool comment = trimmed.n == 0 || trimmed.p[0] == '#';
        bool goes_on = entry.p && !comment && is_blank(text.p[0]);
        if (entry.p && !goes_on && !comment)
            break;
        if (entry.p && comment)
            break;
        *rest = peek;
        ++*line;
        if (comment)
            continue;
        if (!entry.p) {
            entry = text;
            *starts = *line;
        } else {
            entry.n = (size_t)(text.p + text.n - entry.p);
        }
    }
    return entry;
}

int table_split_entry(struct slice entry, struct slice *key, struct slice *value)
{
    if (slice_starts(entry, "\"")) {
        struct slice rest = slice_from_index(entry, 1);
        *key = slice_cut(&rest, '"');
        *value = rest;
        if (!rest.p)
            return ERR_SYNTAX;
    } else {
        size_t n = 0;
        while (n < entry.n && !is_blank(entry.p[n]) && entry.p[n] != ':' && entry.p[n] != '\n')
            n++;
        *key = slice_first(entry, n);
        *value = slice_from_index(entry, n);
    }
    *value = slice_trim(*value);
    if (slice_starts(*value, ":"))
        *value = slice_trim(slice_from_index(*value, 1));
    return key->n && value->n ? OK : ERR_SYNTAX;
}

int table_text_parse(struct table_text *t, const char *name, struct slice text, struct error *err)
{
    unsigned line = 0, starts = 0;
    struct error why;
    for (struct slice entry; (entry = table_next_entry(&text, &line, &starts)).p;) {
        struct slice key, value;
        if (is_blank(entry.p[0]))
            return error_set(err, ERR_SYNTAX, "%s:%u: begins with a blank, but continues no entry",
                name, starts);
        if (table_split_entry(slice_trim(entry), &key, &value))
            return error_set(
                err, ERR_SYNTAX, "%s:%u: must be: key value, or: key: value", name, starts);
        int rc = table_text_add(t, key, value, &why);
        if (rc == ERR_EXISTS && t->aliases) {
            if (t->repeated)
                t->repeated(name, starts, key, t->arg);
            rc = OK;
        }
        if (rc)
            return error_set(err, rc, "%s:%u: %s", name, starts, why.text);
    }
    return OK;
}

int table_text_get(const struct table_text *t, struct slice key, struct buf *out)
{
    uintptr_t found = (uintptr_t)map_get(&t->index, key);
    return found ? buf_put(out, t->pairs[found - 1].value) : ERR_NOT_FOUND;
}

int table_text_each(const struct table_text *t,
    int (*fn)(struct slice key, struct slice value, void *arg), void *arg)
{
    for (size_t i = 0; i < t->n; i++) {
        int rc = fn(t->pairs[i].key, t->pairs[i].value, arg);
        if (rc)
            return rc;
    }
    return OK;
}

/* --- drivers ---------------------------------------------------------------------------------- */
static void memory_close(struct table *t)
{
    if (t->state)
        table_text_clear(t->state);
    free(t->state);
    t->state = NULL;
}

static int memory_get(struct table *t, struct slice key, struct buf *out, struct error *err)
{
    int rc = table_text_get(t->state, key, out);
    return rc == ERR_LIMIT ? error_set(err, rc, "%s: the value is too large", t->spec) : rc;
}

static int memory_each(struct table *t, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *err)
{
    (void)err;
    return table_text_each(t->state, fn, arg);
}

static struct table_text *memory_new(struct table *t)
{
    t->state = NEW(struct table_text);
    table_text_init(t->state);
    ((struct table_text *)t->state)->aliases = t->aliases;
    return t->state;
}

static int text_open(struct table *t, struct error *err)
{
    struct buf text;
    buf_init(&text, TABLE_FILE_MAX);
    int rc = table_read_file(t->dir_fd, t->name, &text, err);
    if (rc == OK)
        rc = table_text_parse(memory_new(t), t->argument.p, buf_slice(&text), err);
    buf_wipe(&text);
    return rc;
}

static int inline_open(struct table *t, struct error *err)
{
    struct slice body, key, value;
    struct table_text *text = memory_new(t);
    int rc = table_inline_body(t->argument, &body);
    while (rc == OK && body.n) {
        rc = table_inline_next(&body, &key, &value);
        if (rc == OK)
            rc = table_text_add(text, key, value, err);
    }
    return rc;
}

static int static_open(struct table *t, struct error *err)
{
    (void)t;
    (void)err;
    return OK;
}

static void static_close(struct table *t)
{
    (void)t;
}

static int static_get(struct table *t, struct slice key, struct buf *out, struct error *err)
{
    (void)key;
    if (buf_put(out, t->argument))
        return error_set(err, ERR_LIMIT, "%s: the value is too large", t->spec);
    return OK;
}

static int static_each(struct table *t, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *err)
{
    (void)t;
    (void)fn;
    (void)arg;
    (void)err;
    return OK; /* every key has the value: there is no list of them */
}

const struct table_driver table_text_driver = {
    "text", "", text_open, memory_close, memory_get, memory_each, NULL};
const struct table_driver table_inline_driver = {
    "inline", NULL, inline_open, memory_close, memory_get, memory_each, NULL};
const struct table_driver table_static_driver = {
    "static", NULL, static_open, static_close, static_get, static_each, NULL};
