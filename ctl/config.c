/* config: what the configuration says, and whether it can be used. */
#include "ctl/config_world.h"
#include "ctl/ctl.h"
#include "ctl/json.h"
#include "libutil/conf_internal.h"

enum { TEXT_MAX = 16 * 1024 * 1024 };

static int print(struct buf *text, int status)
{
    struct slice s = buf_slice(text);
    fwrite(s.p, 1, s.n, stdout);
    buf_clear(text);
    return status;
}

/* --- check -------------------------------------------------------------------------------------
 */
static void print_check_json(const struct buf *errors)
{
    struct buf out;
    struct json j = {.out = &out};
    buf_init(&out, TEXT_MAX);
    json_begin(&j, NULL, '{');
    json_bool(&j, "ok", buf_len(errors) == 0);
    json_begin(&j, "errors", '[');
    for (struct slice rest = buf_slice(errors); rest.n;)
        json_str(&j, NULL, slice_cut(&rest, '\n'));
    json_end(&j, ']');
    json_end(&j, '}');
    buf_putc(&out, '\n');
    print(&out, CTL_OK);
}

static int check(struct ctl *c, int argc, char **argv)
{
    const char *path = argc == 1 ? argv[0] : c->conf_path;
    struct error err = {0};
    struct buf errors;
    if (argc > 1)
        return ctl_usage(c);
    buf_init(&errors, 65536);
    struct conf *conf = conf_load(path, &errors, &err);
    if (conf)
        config_check_world(conf, &errors);
    int status = buf_len(&errors) ? CTL_NO : CTL_OK;
    if (c->json)
        print_check_json(&errors);
    else if (status)
        fprintf(stderr, "%.*s", SLICE_FMT(buf_slice(&errors)));
    else
        printf("%s: no mistakes\n", path);
    buf_clear(&errors);
    conf_free(conf);
    return status;
}

/* --- show --------------------------------------------------------------------------------------
 */
static void json_value(struct json *j, const char *name, const struct conf_entry *e)
{
    switch (e->key->type) {
    case CONF_BOOL:
        json_bool(j, name, e->number);
        break;
    case CONF_INT:
    case CONF_SIZE:
    case CONF_DURATION:
        json_int(j, name, e->number);
        break;
    default:
        json_str(j, name, e->nwords ? e->words[0] : SLICE_LIT(""));
    }
}

static void json_list(struct json *j, const struct conf_block *b, const char *name)
{
    json_begin(j, name, '[');
    for (size_t i = 0; i < conf_list_len(b, name); i++)
        json_str(j, NULL, conf_list_at(b, name, i));
    json_end(j, ']');
}

static void json_block(struct json *j, const struct conf *conf, const struct conf_block *b);

static void json_blocks(
    struct json *j, const struct conf *conf, const struct conf_block *b, const struct conf_key *k)
{
    if (!k->repeat) {
        json_begin(j, k->name, '{');
        json_block(j, conf, conf_one(conf, k->name));
        json_end(j, '}');
        return;
    }
    json_begin(j, k->name, '[');
    for (const struct conf_block *in = NULL; (in = conf_next(b, k->name, in));) {
        json_begin(j, NULL, '{');
        json_begin(j, "names", '[');
        for (size_t i = 0; i < conf_args(in); i++)
            json_str(j, NULL, conf_arg(in, i));
        json_end(j, ']');
        json_block(j, conf, in);
        json_end(j, '}');
    }
    json_end(j, ']');
}

/* Sizes are bytes, durations milliseconds. */
static void json_block(struct json *j, const struct conf *conf, const struct conf_block *b)
{
    for (const struct conf_key *k = b->schema->keys; k->name; k++) {
        const struct conf_entry *e = conf_entry_find(b, k->name);
        if (k->type == CONF_BLOCK)
            json_blocks(j, conf, b, k);
        else if (e && k->type == CONF_LIST)
            json_list(j, b, k->name);
        else if (e)
            json_value(j, k->name, e);
    }
}

static int show(struct ctl *c, int argc, char **argv)
{
    const struct conf *conf = ctl_conf(c);
    struct buf out;
    (void)argv;
    if (argc)
        return ctl_usage(c);
    if (!conf)
        return CTL_NO;
    buf_init(&out, TEXT_MAX);
    if (c->json) {
        struct json j = {.out = &out};
        json_begin(&j, NULL, '{');
        json_block(&j, conf, conf_root(conf));
        json_end(&j, '}');
        buf_putc(&out, '\n');
    } else {
        conf_write(conf, -1, &out);
    }
    return print(&out, CTL_OK);
}

/* --- the rest ----------------------------------------------------------------------------------
 */
static int show_default(struct ctl *c, int argc, char **argv)
{
    struct buf out;
    (void)argv;
    if (argc)
        return ctl_usage(c);
    buf_init(&out, TEXT_MAX);
    conf_write_default(&out);
    return print(&out, CTL_OK);
}

static int explain(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct buf out;
    if (argc != 1)
        return ctl_usage(c);
    buf_init(&out, TEXT_MAX);
    if (conf_explain(argv[0], &out, &err))
        return ctl_report(&err);
    return print(&out, CTL_OK);
}

static int diff(struct ctl *c, int argc, char **argv)
{
    struct error err = {0};
    struct buf out, errors;
    if (argc != 1)
        return ctl_usage(c);
    const struct conf *ours = ctl_conf(c);
    if (!ours)
        return CTL_USAGE;
    buf_init(&errors, 65536);
    struct conf *other = conf_load(argv[0], &errors, &err);
    if (!other)
        fprintf(stderr, "%.*s", SLICE_FMT(buf_slice(&errors)));
    buf_clear(&errors);
    if (!other)
        return CTL_USAGE;
    buf_init(&out, TEXT_MAX);
    size_t differ = conf_diff(ours, other, &out);
    conf_free(other);
    return print(&out, differ ? CTL_NO : CTL_OK);
}

const struct ctl_verb config_verbs[] = {
    {"config", "check", "[FILE]",
        "names every mistake with file, line, key and what is allowed, and what is missing", check},
    {"config", "show", "", "the values in force, paths absolute, in a form that can be read back",
        show},
    {"config", "default", "", "every key with its default and meaning, as a commented file",
        show_default},
    {"config", "explain", "KEY", "type, range, default and meaning of a key, as listen.timeout",
        explain},
    {"config", "diff", "FILE", "what FILE would change: - ours, + its; status 1 if anything", diff},
    {NULL}};
