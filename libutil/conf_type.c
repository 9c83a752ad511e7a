#include "libutil/conf_internal.h"

#include "libutil/table.h"

struct unit {
    const char *name;
    int64_t factor;
};

/* From the largest, as printed; the last is the one a bare number has. */
static const struct unit size_units[] = {
    {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}, {NULL, 0}};
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};

const char *conf_type_name(enum conf_type type)
{
    static const char *const names[] = {"word", "list", "yes or no", "number", "size", "duration",
        "choice", "path", "table", "block"};
    return names[type];
}

static void print_units(const struct unit *units, int64_t v, struct buf *out)
{
    const struct unit *u = units;
    while (u[1].name && (v == 0 || v % u->factor))
        u++;
    buf_printf(out, "%lld%s", (long long)(v / u->factor), v || units == size_units ? u->name : "s");
}

static int parse_units(const struct unit *units, struct slice s, int64_t *out)
{
    size_t digits = 0;
    uint64_t v;
    while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
        digits++;
    struct slice unit = slice_from_index(s, digits);
    for (const struct unit *u = units; u->name; u++) {
        if (!slice_is(unit, u->name))
            continue;
        int rc = slice_u64(slice_first(s, digits), 0, INT64_MAX, &v);
        if (rc == OK && __builtin_mul_overflow((int64_t)v, u->factor, out))
            rc = ERR_LIMIT;
        return rc;
    }
    return ERR_SYNTAX;
}

static void print_number(const struct conf_key *key, int64_t v, struct buf *out)
{
    if (key->type == CONF_BOOL)
        buf_puts(out, v ? "yes" : "no");
    else if (key->type == CONF_SIZE)
        print_units(size_units, v, out);
    else if (key->type == CONF_DURATION)
        print_units(duration_units, v, out);
    else
        buf_printf(out, "%lld", (long long)v);
}

void conf_value_allowed(const struct conf_key *key, struct buf *out)
{
    switch (key->type) {
    case CONF_INT:
    case CONF_SIZE:
    case CONF_DURATION:
        buf_puts(out, key->type == CONF_INT    ? "a number"
                      : key->type == CONF_SIZE ? "a size such as 512, 10K, 25M or 2G"
                                               : "a duration such as 500ms, 30s, 5m, 4h or 5d");
        buf_puts(out, ", from ");
        print_number(key, key->min, out);
        buf_puts(out, " to ");
        print_number(key, key->max, out);
        break;
    case CONF_CHOICE:
        buf_puts(out, "one of ");
        for (struct slice rest = slice_of(key->choices); rest.p;) {
            struct slice choice = slice_cut(&rest, '|');
            buf_printf(out, "%.*s%s", SLICE_FMT(choice), rest.p ? ", " : "");
        }
        break;
    case CONF_BOOL:
        buf_puts(out, "yes or no");
        break;
    case CONF_LIST:
        buf_puts(out, "one or more words");
        break;
    case CONF_PATH:
        buf_puts(out, "a path");
        break;
    case CONF_TABLE:
        buf_puts(out, "a table as TYPE:ARGUMENT");
        break;
    default:
        buf_puts(out, "one word");
    }
}

static int refuse(const struct conf_key *key, struct slice word, struct error *err)
{
    struct buf allowed;
    buf_init(&allowed, 400);
    conf_value_allowed(key, &allowed);
    error_set(err, ERR_SYNTAX, "'%.*s' is not allowed: must be %.*s",
        SLICE_FMT(slice_first(word, 80)), SLICE_FMT(buf_slice(&allowed)));
    buf_clear(&allowed);
    return ERR_SYNTAX;
}

static bool is_choice(const struct conf_key *key, struct slice word)
{
    for (struct slice rest = slice_of(key->choices); rest.p;)
        if (slice_eq(slice_cut(&rest, '|'), word))
            return true;
    return false;
}

/* "./x" and "." in a directory are the directory's x and the directory. */
static struct slice complete_path(struct arena *a, struct slice directory, struct slice path)
{
    if (path.n && path.p[0] == '/')
        return path;
    while (slice_starts(path, "./"))
        path = slice_from_index(path, 2);
    if (slice_is(path, ".") || path.n == 0)
        return directory;
    if (slice_is(directory, "/"))
        directory.n = 0;
    return arena_printf(a, "%.*s/%.*s", SLICE_FMT(directory), SLICE_FMT(path));
}

static int check_path(
    struct arena *a, struct slice directory, struct slice *word, struct error *err)
{
    if (word->n == 0)
        return error_set(err, ERR_SYNTAX, "an empty path");
    *word = complete_path(a, directory, *word);
    if (word->n >= 4096 || !word->p)
        return error_set(err, ERR_LIMIT, "the path is longer than 4095 bytes");
    return OK;
}

static int check_table(
    struct arena *a, struct slice directory, struct slice *word, struct error *err)
{
    struct slice argument = *word;
    int rc = table_check_spec(*word, err);
    if (rc)
        return rc;
    struct slice type = slice_cut(&argument, ':');
    if (!table_has_path(type))
        return OK;
    rc = check_path(a, directory, &argument, err);
    *word = arena_printf(a, "%.*s:%.*s", SLICE_FMT(type), SLICE_FMT(argument));
    return rc;
}

static int check_number(struct conf_entry *e, struct slice word, struct error *err)
{
    const struct conf_key *key = e->key;
    int rc;
    if (key->type == CONF_BOOL) {
        e->number = slice_is(word, "yes");
        rc = e->number || slice_is(word, "no") ? OK : ERR_SYNTAX;
    } else {
        rc = key->type == CONF_INT    ? slice_i64(word, INT64_MIN, INT64_MAX, &e->number)
             : key->type == CONF_SIZE ? parse_units(size_units, word, &e->number)
                                      : parse_units(duration_units, word, &e->number);
        if (rc == OK && (e->number < key->min || e->number > key->max))
            rc = ERR_LIMIT;
    }
    return rc ? refuse(key, word, err) : OK;
}

int conf_value_check(
    struct arena *a, struct slice directory, struct conf_entry *e, struct error *err)
{
    const struct conf_key *key = e->key;
    int rc = OK;
    if (e->nwords == 0 || (e->nwords > 1 && key->type != CONF_LIST)) {
        struct buf allowed;
        buf_init(&allowed, 400);
        conf_value_allowed(key, &allowed);
        rc = error_set(err, ERR_SYNTAX, "%s: must be %.*s",
            e->nwords ? "too many words" : "its value is missing", SLICE_FMT(buf_slice(&allowed)));
        buf_clear(&allowed);
        return rc;
    }
    for (size_t i = 0; i < e->nwords && key->check && rc == OK; i++)
        rc = key->check(e->words[i], err);
    if (rc)
        return rc;
    switch (key->type) {
    case CONF_BOOL:
    case CONF_INT:
    case CONF_SIZE:
    case CONF_DURATION:
        return check_number(e, e->words[0], err);
    case CONF_CHOICE:
        return is_choice(key, e->words[0]) ? OK : refuse(key, e->words[0], err);
    case CONF_PATH:
        return check_path(a, directory, &e->words[0], err);
    case CONF_TABLE:
        return check_table(a, directory, &e->words[0], err);
    case CONF_LIST:
        if (key->path_word && e->nwords >= key->path_word)
            return check_path(a, directory, &e->words[key->path_word - 1], err);
        return OK;
    default:
        return OK;
    }
}

void conf_word_print(struct slice word, struct buf *out)
{
    bool bare = word.n > 0 && word.p[0] != '"' && word.p[0] != '#' && word.p[0] != '{';
    unsigned depth = 0;
    for (size_t i = 0; i < word.n; i++) {
        char c = word.p[i];
        if (c == '{')
            depth++;
        if (c == '}' && depth-- == 0)
            bare = false;
        if (strchr(" \t\r\n;\\", c))
            bare = false;
    }
    if (bare && depth == 0) {
        buf_put(out, word);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < word.n; i++) {
        char c = word.p[i];
        if (c == '"' || c == '\\')
            buf_putc(out, '\\');
        if (c == '\n')
            buf_puts(out, "\\n");
        else
            buf_putc(out, c);
    }
    buf_putc(out, '"');
}

void conf_value_print(const struct conf_entry *e, struct buf *out)
{
    enum conf_type t = e->key->type;
    if (t == CONF_BOOL || t == CONF_INT || t == CONF_SIZE || t == CONF_DURATION) {
        print_number(e->key, e->number, out);
        return;
    }
    for (size_t i = 0; i < e->nwords; i++) {
        if (i)
            buf_putc(out, ' ');
        conf_word_print(e->words[i], out);
    }
    if (e->nwords == 0)
        buf_puts(out, "\"\"");
}
