#include "libutil/table.h"
#include "libutil/table_internal.h"

static const struct {
    const char *name;
    bool path;
} types[] = {{"hash", true}, {"btree", true}, {"lmdb", true}, {"text", true}, {"static", false},
    {"inline", false}};

bool table_has_path(struct slice type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_is(type, types[i].name))
            return types[i].path;
    return false;
}

static bool is_type(struct slice type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_is(type, types[i].name))
            return true;
    return false;
}

int table_inline_next(struct slice *rest, struct slice *key, struct slice *value)
{
    *value = slice_trim(slice_cut(rest, ','));
    *key = slice_trim(slice_cut(value, '='));
    if (!value->p || key->n == 0)
        return ERR_SYNTAX;
    *value = slice_trim(*value);
    return OK;
}

int table_inline_body(struct slice argument, struct slice *body)
{
    argument = slice_trim(argument);
    if (!slice_starts(argument, "{") || !slice_ends(argument, "}") || argument.n < 2)
        return ERR_SYNTAX;
    *body = slice_trim(slice_first(slice_from_index(argument, 1), argument.n - 2));
    return OK;
}

static int check_inline(struct slice argument, struct error *err)
{
    struct slice body, key, value;
    if (table_inline_body(argument, &body))
        return error_set(err, ERR_SYNTAX, "an inline table is written inline:{key=value, ...}");
    while (body.n)
        if (table_inline_next(&body, &key, &value))
            return error_set(
                err, ERR_SYNTAX, "an inline table needs key=value pairs separated by commas");
    return OK;
}

int table_check_spec(struct slice spec, struct error *err)
{
    struct slice argument = spec, type = slice_cut(&argument, ':');
    if (!is_type(type) || !argument.p)
        return error_set(err, ERR_SYNTAX,
            "'%.*s' is not a table: must be hash:PATH, btree:PATH, lmdb:PATH, text:PATH, "
            "static:VALUE or inline:{key=value, ...}",
            SLICE_FMT(slice_first(spec, 80)));
    if (argument.n == 0)
        return error_set(err, ERR_SYNTAX,
            "'%.*s': nothing follows %.*s:", SLICE_FMT(slice_first(spec, 80)), SLICE_FMT(type));
    return slice_is(type, "inline") ? check_inline(argument, err) : OK;
}
