#include "libutil/conf_internal.h"

#include "libutil/role.h"
#include "libutil/table.h"

static bool reads(const struct conf_key *key, int role)
{
    return role < 0 || (key->readers & ROLE_BIT(role));
}

/* A default that depends on where the configuration file is. */
static bool is_placed(const struct conf_entry *e)
{
    return e->key->type == CONF_PATH || e->key->path_word || e->key->type == CONF_TABLE;
}

static bool belongs(const struct conf_entry *e, int role)
{
    return reads(e->key, role) && (role < 0 || !e->is_default || is_placed(e));
}

static void indent(struct buf *out, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        buf_puts(out, "    ");
}

static void write_block(const struct conf_block *b, int role, unsigned depth, struct buf *out);

static void write_entries(const struct conf_block *b, int role, unsigned depth, struct buf *out)
{
    for (const struct conf_key *k = b->schema->keys; k->name; k++)
        for (const struct conf_entry *e = b->entries; e; e = e->next)
            if (e->key == k && belongs(e, role)) {
                indent(out, depth);
                buf_printf(out, "%s ", k->name);
                conf_value_print(e, out);
                buf_putc(out, '\n');
            }
    for (const struct conf_block *c = b->children; c; c = c->next)
        if (reads(c->key, role))
            write_block(c, role, depth, out);
}

static void write_block(const struct conf_block *b, int role, unsigned depth, struct buf *out)
{
    indent(out, depth);
    buf_printf(out, "%s ", b->key->name);
    for (size_t i = 0; i < b->nargs; i++) {
        conf_word_print(b->args[i], out);
        buf_putc(out, ' ');
    }
    buf_puts(out, "{\n");
    write_entries(b, role, depth + 1, out);
    indent(out, depth);
    buf_puts(out, "}\n");
}

void conf_write(const struct conf *c, int role, struct buf *out)
{
    write_entries(c->root, role, 0, out);
    for (const struct conf_block *b = c->defaults; b; b = b->next)
        if (!b->key->repeat && reads(b->key, role) && !conf_next(c->root, b->key->name, NULL))
            write_block(b, role, 0, out);
}

/* --- the default file ------------------------------------------------------------------------- */
/* In a block that is given as an example only, every line begins with '#'. */
struct layout {
    unsigned depth;
    bool example;
};

static void start_line(struct layout at, struct buf *out)
{
    buf_puts(out, at.example ? "#" : "");
    indent(out, at.depth);
}

static void write_help(const char *text, struct layout at, struct buf *out)
{
    size_t room = 94 - 4 * at.depth;
    for (struct slice rest = slice_of(text); rest.n;) {
        size_t cut = rest.n;
        if (rest.n > room) {
            ptrdiff_t blank = slice_rchr(slice_first(rest, room + 1), ' ');
            cut = blank > 0 ? (size_t)blank : room;
        }
        start_line(at, out);
        buf_printf(out, "# %.*s\n", SLICE_FMT(slice_first(rest, cut)));
        rest = slice_trim(slice_from_index(rest, cut));
    }
}

static void write_default_keys(const struct conf_schema *schema, struct layout at, struct buf *out)
{
    for (const struct conf_key *k = schema->keys; k->name; k++) {
        const char *value = k->def && *k->def ? k->def : k->example ? k->example : "\"\"";
        if (at.depth == 0)
            buf_putc(out, '\n');
        write_help(k->help, at, out);
        if (k->type != CONF_BLOCK) {
            start_line(at, out);
            buf_printf(out, "%s%s %s\n", k->required || at.example ? "" : "#", k->name, value);
            continue;
        }
        struct layout inner = {at.depth + 1, at.example || k->repeat};
        struct layout brace = {at.depth, inner.example};
        start_line(brace, out);
        buf_printf(out, "%s %s%s{\n", k->name, k->example ? k->example : "", k->example ? " " : "");
        write_default_keys(k->block, inner, out);
        start_line(brace, out);
        buf_puts(out, "}\n");
    }
}

void conf_write_default(struct buf *out)
{
    buf_puts(out,
        "# Veredus configuration, as printed by `veredus config default`.\n"
        "#\n"
        "# KEY VALUE, one a line; blocks in braces. What follows a '#' shows defaults and\n"
        "# examples; `veredus config explain KEY` says more, `veredus config check` tests.\n"
        "# Relative paths start at the directory of this file.\n");
    write_default_keys(&conf_root_schema, (struct layout){0, false}, out);
}
