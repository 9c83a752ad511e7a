#include "libutil/conf_internal.h"

#include "libutil/role.h"

static void print_readers(const struct conf_key *k, struct buf *out)
{
    buf_puts(out, "read by:");
    for (int r = 0; r < ROLE_ANY_COUNT; r++)
        if (k->readers & ROLE_BIT(r))
            buf_printf(out, " %s", role_info((enum role)r)->program);
    buf_putc(out, '\n');
}

static void print_key(const char *dotted, const struct conf_key *k, struct buf *out)
{
    buf_printf(out, "%s: %s%s%s\n", dotted, conf_type_name(k->type),
        k->required ? ", required" : "", k->repeat ? ", may be given more than once" : "");
    if (k->type == CONF_BLOCK) {
        buf_puts(out, "keys:");
        for (const struct conf_key *in = k->block->keys; in->name; in++)
            buf_printf(out, " %s", in->name);
        buf_putc(out, '\n');
    } else {
        buf_puts(out, "allowed: ");
        conf_value_allowed(k, out);
        buf_putc(out, '\n');
        if (k->def)
            buf_printf(out, "default: %s\n", *k->def ? k->def : "\"\"");
        else
            buf_puts(out, "default: none\n");
        if (k->example)
            buf_printf(out, "example: %s\n", k->example);
    }
    print_readers(k, out);
    buf_printf(out, "%s\n", k->help);
}

int conf_explain(const char *dotted, struct buf *out, struct error *err)
{
    const struct conf_schema *schema = &conf_root_schema;
    const struct conf_key *k = NULL;
    for (struct slice rest = slice_of(dotted); rest.p;) {
        struct slice name = slice_cut(&rest, '.');
        k = schema ? conf_key_find(schema, name) : NULL;
        if (!k) {
            const struct conf_key *near = schema ? conf_key_nearest(schema, name) : NULL;
            return error_set(err, ERR_NOT_FOUND, "%.*s: no such key%s%s%s", SLICE_FMT(name),
                near ? "; did you mean " : "", near ? near->name : "", near ? "?" : "");
        }
        schema = k->block;
    }
    assert(k); /* even "" has one part */
    print_key(dotted, k, out);
    return OK;
}
