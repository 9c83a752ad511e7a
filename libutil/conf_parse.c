#include "libutil/conf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

struct parser {
    struct conf *conf;
    struct conf_report *report;
    struct conf_lexer lx;
    const char *file;
    unsigned depth; /* of include */
};

static void parse_entries(struct parser *p, struct conf_block *block, bool top);

void conf_complain(struct conf_report *r, const char *file, unsigned line, const char *fmt, ...)
{
    char text[400], where[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (line)
        snprintf(where, sizeof(where), "%s:%u", file, line);
    else
        snprintf(where, sizeof(where), "%s", file);
    if (r->count++ == 0)
        error_set(r->err, ERR_SYNTAX, "%s: %s", where, text);
    if (r->lines && r->count <= CONF_ERRORS)
        buf_printf(r->lines, "%s: %s\n", where, text);
    else if (r->lines && r->count == CONF_ERRORS + 1)
        buf_puts(r->lines, "(more errors follow)\n");
}

void conf_add_entry(struct conf_block *block, struct conf_entry *e)
{
    if (block->last_entry)
        block->last_entry->next = e;
    else
        block->entries = e;
    block->last_entry = e;
}

static void add_child(struct conf_block *parent, struct conf_block *child)
{
    if (parent->last_child)
        parent->last_child->next = child;
    else
        parent->children = child;
    parent->last_child = child;
}

/* Reads words up to the end of the entry into *words; returns the token after them. */
static enum conf_token read_words(
    struct parser *p, bool block_may_open, struct slice **words, size_t *n)
{
    struct slice *list = NULL;
    size_t cap = 0;
    enum conf_token t;
    *n = 0;
    for (;;) {
        size_t before = p->lx.at;
        t = conf_lex(&p->lx, block_may_open);
        if (t == CONF_CLOSE)
            p->lx.at = before; /* it ends the block around the entry */
        if (t != CONF_WORD)
            break;
        if (*n == CONF_WORDS) {
            p->lx.why = "too many words";
            t = CONF_BAD;
            break;
        }
        if (*n == cap) {
            cap = cap ? cap * 2 : 4;
            list = xrealloc(list, cap, sizeof(*list));
        }
        list[(*n)++] = p->lx.word;
    }
    *words = arena_array(&p->conf->arena, *n + 1, sizeof(**words));
    if (*words && *n)
        memcpy(*words, list, *n * sizeof(*list));
    free(list);
    if (!*words) {
        *n = 0;
        p->lx.why = "the configuration is too large";
        t = CONF_BAD;
    }
    return t;
}

static void parse_block(struct parser *p, struct conf_block *parent, const struct conf_key *key)
{
    unsigned line = p->lx.line;
    struct conf_block *b = ARENA_NEW(&p->conf->arena, struct conf_block);
    struct slice *args;
    size_t nargs;
    enum conf_token t = read_words(p, true, &args, &nargs);
    if (t == CONF_BAD || !b) {
        conf_complain(p->report, p->file, line, "%s: %s", key->name, b ? p->lx.why : "too large");
        conf_lex_skip(&p->lx);
        return;
    }
    *b = (struct conf_block){.key = key, .schema = key->block, .args = args, .nargs = nargs};
    b->where = arena_printf(&p->conf->arena, "%s:%u", p->file, line);
    if ((int64_t)nargs < key->min || (int64_t)nargs > key->max)
        conf_complain(p->report, p->file, line, "%s: takes %lld to %lld words before '{', not %zu",
            key->name, (long long)key->min, (long long)key->max, nargs);
    if (t != CONF_OPEN) {
        conf_complain(p->report, p->file, line, "%s: a block in braces must follow: %s { ... }",
            key->name, key->name);
        return;
    }
    const struct conf_block *other = conf_next(parent, key->name, NULL);
    if (other && !key->repeat)
        conf_complain(p->report, p->file, line, "%s: given twice, first at %.*s", key->name,
            SLICE_FMT(other->where));
    add_child(parent, b);
    parse_entries(p, b, false);
}

static void parse_value(struct parser *p, struct conf_block *block, const struct conf_key *key)
{
    struct conf_entry *e = ARENA_NEW(&p->conf->arena, struct conf_entry);
    unsigned line = p->lx.line;
    struct slice *words;
    size_t n;
    struct error err = {0};
    enum conf_token t = read_words(p, false, &words, &n);
    if (t == CONF_BAD || !e) {
        conf_complain(p->report, p->file, line, "%s: %s", key->name, e ? p->lx.why : "too large");
        conf_lex_skip(&p->lx);
        return;
    }
    *e =
        (struct conf_entry){.key = key, .words = words, .nwords = n, .file = p->file, .line = line};
    const struct conf_entry *other = conf_entry_find(block, key->name);
    if (other && !key->repeat)
        conf_complain(p->report, p->file, line, "%s: given twice, first in line %u of %s",
            key->name, other->line, other->file);
    else if (conf_value_check(&p->conf->arena, p->conf->directory, e, &err))
        conf_complain(p->report, p->file, line, "%s: %s", key->name, err.text);
    else
        conf_add_entry(block, e);
}

static void unknown_key(struct parser *p, const struct conf_block *block, struct slice name)
{
    const struct conf_key *near = conf_key_nearest(block->schema, name);
    const char *in = block->key ? block->key->name : "";
    if (near)
        conf_complain(p->report, p->file, p->lx.line, "%.*s: no such key%s%s; did you mean %s?",
            SLICE_FMT(slice_first(name, 100)), *in ? " in " : "", in, near->name);
    else
        conf_complain(p->report, p->file, p->lx.line,
            "%.*s: no such key%s%s (veredus config default lists them)",
            SLICE_FMT(slice_first(name, 100)), *in ? " in " : "", in);
    conf_lex_skip(&p->lx);
}

static int read_file(const char *path, struct buf *text, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = OK; /* a FIFO would wait */
    struct stat st;
    if (fd < 0)
        return error_sys(err, "%s", path);
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        rc = error_set(err, ERR_IO, "%s: not a regular file", path);
    for (ssize_t n = 1; rc == OK && n > 0;) {
        char *room = buf_reserve(text, 16384);
        if (!room)
            rc = error_set(err, ERR_LIMIT, "%s: larger than %d bytes", path, CONF_FILE_MAX);
        else if ((n = read(fd, room, 16384)) > 0)
            buf_claim(text, (size_t)n);
        else if (n < 0)
            rc = error_sys(err, "%s", path);
    }
    fd_close(&fd);
    return rc;
}

static void parse_text(struct parser *p, struct slice text, struct conf_block *block)
{
    p->lx = (struct conf_lexer){.text = text, .line = 1, .arena = &p->conf->arena};
    ptrdiff_t nul = slice_chr(text, '\0');
    if (nul >= 0) {
        conf_complain(p->report, p->file, 0, "holds a NUL byte at offset %td", nul);
        return;
    }
    parse_entries(p, block, true);
}

static void parse_file(struct parser *p, const char *path, struct conf_block *block, unsigned line)
{
    struct buf text;
    struct error err;
    struct parser inner = {
        .conf = p->conf, .report = p->report, .file = path, .depth = p->depth + 1};
    buf_init(&text, CONF_FILE_MAX);
    if (read_file(path, &text, &err)) {
        conf_complain(p->report, line ? p->file : path, line, "%s%s", line ? "include: " : "",
            line ? err.text : err.text + MIN(strlen(err.text), strlen(path) + 2));
    } else {
        struct slice kept = arena_dup(&p->conf->arena, buf_slice(&text));
        if (kept.p)
            parse_text(&inner, kept, block);
        else
            conf_complain(p->report, path, 0, "the configuration is too large");
    }
    buf_clear(&text);
}

/* A relative path starts at the directory of the including file. */
static void parse_include(struct parser *p, struct conf_block *block)
{
    unsigned line = p->lx.line;
    struct slice *words;
    size_t n;
    enum conf_token t = read_words(p, false, &words, &n);
    if (t == CONF_BAD || n != 1) {
        conf_complain(p->report, p->file, line, "include: takes one path");
        if (t == CONF_BAD)
            conf_lex_skip(&p->lx);
        return;
    }
    if (p->depth >= CONF_DEPTH) {
        conf_complain(p->report, p->file, line, "include: nested more than %d deep", CONF_DEPTH);
        return;
    }
    struct slice base = slice_of(p->file);
    ptrdiff_t slash = slice_rchr(base, '/');
    base = slice_first(base, slash < 0 ? 0 : (size_t)slash + 1);
    if (words[0].n && words[0].p[0] == '/')
        base.n = 0;
    struct slice path =
        arena_printf(&p->conf->arena, "%.*s%.*s", SLICE_FMT(base), SLICE_FMT(words[0]));
    if (path.p)
        parse_file(p, path.p, block, line);
}

static void parse_entries(struct parser *p, struct conf_block *block, bool top)
{
    unsigned opened = p->lx.line;
    for (;;) {
        enum conf_token t = conf_lex(&p->lx, true);
        if (t == CONF_END_ENTRY)
            continue;
        if (t == CONF_EOF) {
            if (!top)
                conf_complain(p->report, p->file, opened,
                    "%s: its block is not closed: '}' is missing", block->key->name);
            return;
        }
        if (t == CONF_CLOSE) {
            if (!top)
                return;
            conf_complain(p->report, p->file, p->lx.line, "'}' without a block to close");
        } else if (t == CONF_OPEN) {
            conf_complain(p->report, p->file, p->lx.line, "'{' without the name of a block");
            p->lx.at--;
            conf_lex_skip(&p->lx);
        } else if (t == CONF_BAD) {
            conf_complain(p->report, p->file, p->lx.line, "%s", p->lx.why);
            conf_lex_skip(&p->lx);
        } else if (slice_is(p->lx.word, "include")) {
            parse_include(p, block);
        } else {
            const struct conf_key *key = conf_key_find(block->schema, p->lx.word);
            if (!key)
                unknown_key(p, block, p->lx.word);
            else if (key->type == CONF_BLOCK)
                parse_block(p, block, key);
            else
                parse_value(p, block, key);
        }
    }
}

/* --- whole configurations --------------------------------------------------------------------- */
static void fill_tree(struct conf *c, struct conf_block *block)
{
    conf_fill_defaults(c, block);
    for (struct conf_block *b = block->children; b; b = b->next)
        fill_tree(c, b);
}

static void make_default_blocks(struct conf *c)
{
    for (const struct conf_key *k = c->root->schema->keys; k->name; k++) {
        if (k->type != CONF_BLOCK)
            continue;
        struct conf_block *b = ARENA_NEW(&c->arena, struct conf_block);
        assert(b);
        *b = (struct conf_block){.key = k, .schema = k->block, .where = SLICE_LIT("defaults")};
        conf_fill_defaults(c, b);
        b->next = c->defaults;
        c->defaults = b;
    }
}

static struct conf *conf_new(const struct conf_schema *schema, const char *directory)
{
    struct conf *c = NEW(struct conf);
    arena_init(&c->arena, (size_t)64 * 1024 * 1024);
    c->directory = arena_dup(&c->arena, slice_of(directory));
    c->root = ARENA_NEW(&c->arena, struct conf_block);
    assert(c->root);
    c->root->schema = schema;
    return c;
}

static struct conf *finish(struct conf *c, const struct conf_report *report)
{
    if (report->count) {
        conf_free(c);
        return NULL;
    }
    if (c->root->schema == &conf_root_schema)
        conf_settle(c);
    fill_tree(c, c->root);
    make_default_blocks(c);
    return c;
}

struct conf *conf_parse(const char *name, struct slice text, const struct conf_schema *schema,
    struct buf *errors, struct error *err)
{
    struct conf_report report = {.lines = errors, .err = err};
    ptrdiff_t slash = slice_rchr(slice_of(name), '/');
    char dir[PATH_MAX] = ".";
    if (slash > 0 && !slice_to_cstr(slice_first(slice_of(name), (size_t)slash), dir, sizeof(dir)))
        error_set(err, ERR_LIMIT, "%.100s...: the path is too long", name);
    struct conf *c = conf_new(schema, dir);
    struct parser p = {.conf = c, .report = &report};
    p.file = c->file = arena_cstr(&c->arena, slice_of(name));
    struct slice kept = arena_dup(&c->arena, text);
    if (!p.file || !kept.p)
        conf_complain(&report, name, 0, "the configuration is too large");
    else
        parse_text(&p, kept, c->root);
    return finish(c, &report);
}

struct conf *conf_load(const char *path, struct buf *errors, struct error *err)
{
    struct conf_report report = {.lines = errors, .err = err};
    char real[PATH_MAX], *slash;
    if (!realpath(path, real)) {
        conf_complain(&report, path, 0, "%s", strerror(errno));
        return NULL;
    }
    /* Messages name the file as the caller did; paths in it start where it really is. */
    slash = strrchr(real, '/');
    slash[slash == real] = '\0';
    struct conf *c = conf_new(&conf_root_schema, real);
    struct parser p = {.conf = c, .report = &report};
    p.file = c->file = arena_cstr(&c->arena, slice_of(path));
    parse_file(&p, p.file, c->root, 0);
    c = finish(c, &report);
    if (c && conf_check(c, errors, err)) {
        conf_free(c);
        return NULL;
    }
    return c;
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    arena_reset(&c->arena);
    free(c);
}
