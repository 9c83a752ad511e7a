/* alias: looks through aliases(5) for what would go wrong with mail. */
#include "ctl/alias.h"

#include <stdarg.h>
#include <sys/stat.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "libmail/address.h"
#include "libmail/aliases.h"
#include "libutil/accounts.h"
#include "libutil/file.h"
#include "libutil/map.h"

enum { DEPTH = 20, INCLUDES = 5 }; /* as lookupd */

struct entry {
    struct slice key, value;
    unsigned line;
    bool walked; /* what it leads to has been looked at for loops */
};

struct check {
    struct ctl *ctl;
    char path[4096];
    struct buf text;
    struct entry *entries;
    size_t n;
    struct map index; /* key -> number of the entry + 1 */
    struct accounts *accounts;
    bool runs; /* pipe command-user is set */
    struct json json;
    unsigned errors, warnings;
    const struct entry *chain[DEPTH];
};

void alias_warn_repeated(const char *name, unsigned line, struct slice key, void *arg)
{
    (void)arg;
    fprintf(stderr, "%s:%u: warning: %.*s is given twice: the first counts\n", name, line,
        SLICE_FMT(key));
}

/* --- what it says ---------------------------------------------------------------------------- */

static void say(struct check *c, bool error, const struct entry *e, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
static void say(struct check *c, bool error, const struct entry *e, const char *fmt, ...)
{
    char text[1000];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    c->errors += error;
    c->warnings += !error;
    if (!c->ctl->json) {
        printf("%s:%u: %s: %.*s%s%s\n", c->path, e->line, error ? "error" : "warning",
            SLICE_FMT(e->key), e->key.n ? ": " : "", text);
        return;
    }
    json_begin(&c->json, NULL, '{');
    json_str(&c->json, "file", slice_of(c->path));
    json_int(&c->json, "line", e->line);
    json_str(&c->json, "severity", error ? SLICE_LIT("error") : SLICE_LIT("warning"));
    json_str(&c->json, "name", e->key);
    json_str(&c->json, "text", slice_of(text));
    json_end(&c->json, '}');
}

/* --- members --------------------------------------------------------------------------------- */

/* A name in lower case without +detail, as a key. */
static struct entry *find(const struct check *c, struct slice name)
{
    char key[TABLE_KEY_MAX];
    struct slice user, detail;
    if (name.n == 0 || name.n > sizeof(key))
        return NULL;
    memcpy(key, name.p, name.n);
    ascii_lower(key, name.n);
    name.p = key;
    uintptr_t at = (uintptr_t)map_get(&c->index, name);
    address_split_detail(name, '+', &user, &detail);
    if (!at && detail.p)
        at = (uintptr_t)map_get(&c->index, user);
    return at ? &c->entries[at - 1] : NULL;
}

static bool is_account(const struct check *c, struct slice name)
{
    struct account account;
    struct error err;
    struct slice user, detail;
    address_split_detail(name, '+', &user, &detail);
    return accounts_find(c->accounts, name, &account, &err) == OK ||
           accounts_find(c->accounts, user, &account, &err) == OK;
}

static void check_address(struct check *c, const struct entry *e, const struct alias_member *m)
{
    struct address a;
    if (address_parse(&a, m->text, ADDRESS_UTF8 | ADDRESS_NO_DOMAIN)) {
        say(c, true, e, "%.*s is not an address", SLICE_FMT(slice_first(m->text, 200)));
        return;
    }
    bool bare = a.local == a.len, literal = m->kind == ALIAS_LITERAL;
    bool self = find(c, m->text) == e; /* keeps a copy */
    if (bare && ((!literal && !self && find(c, m->text)) || is_account(c, m->text)))
        return;
    if (bare)
        say(c, true, e, "%.*s is %s", SLICE_FMT(m->text),
            literal || self ? "no account" : "neither an alias nor an account");
}

static void check_members(
    struct check *c, const struct entry *e, struct slice members, unsigned includes);

static void check_include(
    struct check *c, const struct entry *e, struct slice path, unsigned includes)
{
    struct buf text;
    struct error err = {0};
    buf_init(&text, ALIAS_INCLUDE_MAX);
    if (includes == INCLUDES)
        say(c, true, e, "included files nest too deep");
    else if (alias_include(path, &text, &err))
        say(c, true, e, "%s", err.text);
    else
        check_members(c, e, buf_slice(&text), includes + 1);
    buf_clear(&text);
}

static void check_members(
    struct check *c, const struct entry *e, struct slice members, unsigned includes)
{
    struct alias_member m;
    while (alias_next(&members, ALIAS_BLANKS | (includes ? ALIAS_COMMENTS : 0), &m)) {
        if (m.kind == ALIAS_ADDRESS || m.kind == ALIAS_LITERAL)
            check_address(c, e, &m);
        else if (m.kind == ALIAS_INCLUDE)
            check_include(c, e, m.text, includes);
        else if (includes)
            say(c, true, e, "an included file may not name commands or files");
        else if (m.text.n == 0)
            say(c, true, e, "the command is empty");
        else if (!c->runs && !slice_is(m.text, "/dev/null"))
            say(c, true, e, "commands and files need pipe { command-user } in the configuration");
    }
}

/* --- loops ----------------------------------------------------------------------------------- */

/* Follows aliases of aliases; each is gone through once. */
static void walk(struct check *c, struct entry *e, unsigned depth)
{
    struct alias_member m;
    struct slice members = e->value;
    for (unsigned i = 0; i < depth; i++)
        if (c->chain[i] == e) {
            say(c, true, c->chain[depth - 1], "leads back to %.*s", SLICE_FMT(e->key));
            return;
        }
    if (e->walked)
        return;
    if (depth == DEPTH) {
        say(c, true, c->chain[0], "leads on more than %d times", DEPTH);
        return;
    }
    c->chain[depth] = e;
    while (alias_next(&members, ALIAS_BLANKS, &m)) {
        struct entry *next = m.kind == ALIAS_ADDRESS ? find(c, m.text) : NULL;
        if (next && next != e)
            walk(c, next, depth + 1);
    }
    e->walked = true;
}

/* --- the whole ------------------------------------------------------------------------------- */

static void add_entry(struct check *c, const struct entry *e)
{
    char key[TABLE_KEY_MAX];
    size_t n = MIN(e->key.n, sizeof(key));
    memcpy(key, e->key.p, n);
    ascii_lower(key, n);
    if (map_get(&c->index, slice_from(key, n))) {
        say(c, false, e, "is given twice: the first counts");
        return;
    }
    c->entries = xrealloc(c->entries, c->n + 1, sizeof(*c->entries));
    c->entries[c->n++] = *e;
    map_set(&c->index, slice_from(key, n), (void *)(uintptr_t)c->n);
}

static void read_entries(struct check *c)
{
    unsigned line = 0;
    struct entry e = {0};
    struct slice rest = buf_slice(&c->text);
    for (struct slice text; (text = table_next_entry(&rest, &line, &e.line)).p;) {
        bool stray = text.p[0] == ' ' || text.p[0] == '\t';
        e.key = e.value = SLICE_LIT("");
        if (stray)
            say(c, true, &e, "begins with a blank, but continues no entry");
        else if (table_split_entry(slice_trim(text), &e.key, &e.value))
            say(c, true, &e, "must be NAME: MEMBER, MEMBER ...");
        else if (e.key.n > TABLE_KEY_MAX || e.value.n > TABLE_VALUE_MAX)
            say(c, true, &e, "is too long");
        else
            add_entry(c, &e);
    }
}

static void check_entry(struct check *c, struct entry *e)
{
    static const char owner[] = "owner-";
    check_members(c, e, e->value, 0);
    walk(c, e, 0);
    if (slice_istarts(e->key, owner) && !find(c, slice_from_index(e->key, strlen(owner))))
        say(c, false, e, "there is no such list");
}

/* What is looked up is what was built. */
static void check_built(struct check *c, struct slice type)
{
    char built[4200];
    struct stat text, made;
    const struct entry none = {.line = 1, .key = SLICE_LIT("")};
    if (slice_is(type, "text"))
        return;
    snprintf(built, sizeof(built), "%s.%s", c->path, slice_is(type, "lmdb") ? "lmdb" : "db");
    if (stat(built, &made) || stat(c->path, &text) || made.st_mtime < text.st_mtime)
        say(c, false, &none, "%s is older than the text: run newaliases", built);
}

static int check_all(struct check *c, struct slice spec, struct error *err)
{
    struct slice path = spec, type = slice_cut(&path, ':');
    if (!table_has_path(type) || !slice_to_cstr(path, c->path, sizeof(c->path)))
        return error_set(err, ERR_UNSUPPORTED, "aliases are no text, but %.*s", SLICE_FMT(spec));
    int rc = file_read(c->path, &c->text, err);
    if (rc)
        return rc;
    read_entries(c);
    for (size_t i = 0; i < c->n; i++)
        check_entry(c, &c->entries[i]);
    check_built(c, type);
    return OK;
}

static int run(struct check *c, struct slice spec)
{
    struct error err = {0};
    c->accounts = accounts_open("/etc", &err);
    int rc = c->accounts ? check_all(c, spec, &err) : ERR_IO;
    accounts_close(c->accounts);
    return rc ? ctl_report(&err) : c->errors ? CTL_NO : CTL_OK;
}

static int check(struct ctl *ctl, int argc, char **argv)
{
    struct check c = {.ctl = ctl};
    struct buf out;
    (void)argv;
    if (argc)
        return ctl_usage(ctl);
    const struct conf *conf = ctl_conf(ctl);
    if (!conf)
        return CTL_NO;
    if (!conf_isset(conf_root(conf), "aliases"))
        return ctl_fail(CTL_NO, "the configuration sets no aliases");
    c.runs = conf_string(conf_one(conf, "pipe"), "command-user").n > 0;
    buf_init(&c.text, TABLE_FILE_MAX);
    buf_init(&out, 64 * 1024 * 1024);
    map_init(&c.index);
    c.json.out = &out;
    json_begin(&c.json, NULL, '{');
    json_begin(&c.json, "problems", '[');
    int status = run(&c, conf_string(conf_root(conf), "aliases"));
    json_end(&c.json, ']');
    json_int(&c.json, "aliases", (int64_t)c.n);
    json_end(&c.json, '}');
    if (ctl->json)
        printf("%.*s\n", SLICE_FMT(buf_slice(&out)));
    else
        printf("%zu aliases, %u errors, %u warnings\n", c.n, c.errors, c.warnings);
    map_clear(&c.index);
    buf_clear(&out);
    buf_clear(&c.text);
    free(c.entries);
    return status;
}

const struct ctl_verb alias_verbs[] = {
    {"alias", "check", "",
        "looks for errors in aliases(5): names that nobody has, loops, files that are not safe",
        check},
    {NULL}};
