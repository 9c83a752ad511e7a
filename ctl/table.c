/* table: lookup tables, built and asked. */
#include "libutil/table.h"

#include "ctl/alias.h"
#include "ctl/ctl.h"
#include "ctl/json.h"

static const char *const keys[] = {"users", "aliases", "virtual-aliases", "transport", "hold"};

static bool is_key(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strcmp(keys[i], word) == 0)
            return true;
    return false;
}

/* TYPE:PATH as it stands, or the table that a key of the configuration names. */
static int find_spec(struct ctl *c, const char *word, struct slice *spec, struct error *err)
{
    *spec = slice_of(word);
    if (!is_key(word))
        return OK;
    const struct conf *conf = ctl_conf(c);
    if (!conf)
        return error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    *spec = conf_string(conf_root(conf), word);
    return spec->p ? OK : error_set(err, ERR_NOT_FOUND, "the configuration sets no %s", word);
}

static int build_one(struct slice spec, const char *key)
{
    struct error err = {0};
    int rc = strcmp(key, "aliases") == 0
                 ? table_build_aliases(spec, alias_warn_repeated, NULL, &err)
                 : table_build(spec, &err);
    return rc ? ctl_report(&err) : CTL_OK;
}

static struct table *open_one(struct slice spec, const char *key, struct error *err)
{
    return strcmp(key, "aliases") == 0 ? table_open_aliases(spec, err) : table_open(spec, err);
}

static bool is_built(struct slice spec)
{
    return slice_starts(spec, "hash:") || slice_starts(spec, "btree:") ||
           slice_starts(spec, "lmdb:");
}

/* Without an argument, every table of the configuration that is built. */
static int build_all(struct ctl *c)
{
    const struct conf *conf = ctl_conf(c);
    int status = conf ? CTL_OK : CTL_NO;
    for (size_t i = 0; conf && i < ARRAY_LEN(keys); i++) {
        struct slice spec = conf_string(conf_root(conf), keys[i]);
        int one = is_built(spec) ? build_one(spec, keys[i]) : CTL_OK;
        status = MAX(status, one);
    }
    return status;
}

static int build(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct slice spec;
    if (argc == 0)
        return build_all(c);
    if (argc != 1)
        return ctl_usage(c);
    return find_spec(c, argv[0], &spec, &err) ? ctl_report(&err) : build_one(spec, argv[0]);
}

static void print_value(struct ctl *c, const char *key, struct slice value)
{
    struct buf out;
    struct json j = {.out = &out};
    if (!c->json) {
        printf("%.*s\n", SLICE_FMT(value));
        return;
    }
    buf_init(&out, 6 * TABLE_VALUE_MAX);
    json_begin(&j, NULL, '{');
    json_str(&j, "key", slice_of(key));
    json_str(&j, "value", value);
    json_end(&j, '}');
    printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    buf_clear(&out);
}

static int get(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct slice spec;
    struct buf out;
    if (argc != 2)
        return ctl_usage(c);
    int rc = find_spec(c, argv[0], &spec, &err);
    struct table *t = rc ? NULL : open_one(spec, argv[0], &err);
    if (!t)
        return ctl_report(&err);
    buf_init(&out, TABLE_VALUE_MAX);
    rc = table_get(t, slice_of(argv[1]), &out, &err);
    if (rc == OK)
        print_value(c, argv[1], buf_slice(&out));
    buf_clear(&out);
    table_close(t);
    return rc == OK ? CTL_OK : rc == ERR_NOT_FOUND ? CTL_NO : ctl_report(&err);
}

static int count(struct slice key, struct slice value, void *arg)
{
    (void)key;
    (void)value;
    ++*(int64_t *)arg;
    return 0;
}

static void list_one(struct ctl *c, struct json *j, const char *key, struct slice spec)
{
    struct error err = {0};
    int64_t n = 0;
    struct table *t = open_one(spec, key, &err);
    if (t && table_each(t, count, &n, &err))
        n = 0;
    table_close(t);
    if (!c->json) {
        printf("%-16s %.*s  ", key, SLICE_FMT(spec));
        if (err.code)
            printf("%s\n", err.text);
        else
            printf("%lld entries\n", (long long)n);
        return;
    }
    json_begin(j, NULL, '{');
    json_str(j, "key", slice_of(key));
    json_str(j, "table", spec);
    json_int(j, "entries", n);
    json_str(j, "error", slice_of(err.text));
    json_end(j, '}');
}

static int list(struct ctl *c, int argc, char **argv)
{
    struct buf out;
    struct json j = {.out = &out};
    (void)argv;
    if (argc)
        return ctl_usage(c);
    const struct conf *conf = ctl_conf(c);
    if (!conf)
        return CTL_NO;
    buf_init(&out, 65536);
    if (c->json) {
        json_begin(&j, NULL, '{');
        json_begin(&j, "tables", '[');
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct slice spec = conf_string(conf_root(conf), keys[i]);
        if (spec.p)
            list_one(c, &j, keys[i], spec);
    }
    if (c->json) {
        json_end(&j, ']');
        json_end(&j, '}');
        printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    }
    buf_clear(&out);
    return CTL_OK;
}

const struct ctl_verb table_verbs[] = {
    {"table", "build", "[TABLE]",
        "builds TYPE:PATH, or the table of a key such as aliases, or all of the configuration",
        build},
    {"table", "get", "TABLE KEY", "what a table says about a key; status 1 when nothing", get},
    {"table", "list", "", "the tables of the configuration and how many entries they have", list},
    {NULL}};
