#include "delivery/local/forward.h"

#include "libmail/address.h"

struct parse {
    struct forward_plan *plan;
    const struct forward_owner *owner;
    forward_include_fn *include; /* NULL: within an included file */
    void *arg;
    struct error *err;
};

void forward_init(struct forward_plan *plan)
{
    *plan = (struct forward_plan){0};
    buf_init(&plan->targets, FORWARD_BYTES_MAX);
    buf_init(&plan->files, FORWARD_BYTES_MAX);
}

void forward_clear(struct forward_plan *plan)
{
    buf_clear(&plan->targets);
    buf_clear(&plan->files);
}

/* Cuts the next entry off; false at the end. */
static bool next_entry(struct slice *rest, struct slice *entry)
{
    while (rest->n) {
        size_t n = 0;
        bool quoted = false;
        if (strchr(", \t\r\n", rest->p[0])) {
            *rest = slice_from_index(*rest, 1);
            continue;
        }
        bool comment = slice_starts(*rest, "#");
        for (; n < rest->n && rest->p[n] != '\n' && (quoted || comment || rest->p[n] != ','); n++) {
            if (rest->p[n] == '"')
                quoted = !quoted;
            else if (quoted && rest->p[n] == '\\' && n + 1 < rest->n && rest->p[n + 1] != '\n')
                n++;
        }
        *entry = slice_trim(slice_first(*rest, n));
        *rest = slice_from_index(*rest, n);
        if (!comment && entry->n)
            return true;
    }
    return false;
}

/* Drops quotes around a whole entry, not those of "local part"@domain. */
static struct slice unquote(struct slice s)
{
    bool whole =
        s.n >= 2 && s.p[0] == '"' && slice_chr(slice_from_index(s, 1), '"') == (int)s.n - 2;
    return whole ? slice_trim(slice_first(slice_from_index(s, 1), s.n - 2)) : s;
}

static int bad(struct parse *p, int code, const char *what)
{
    return error_set(p->err, code, "the .forward file %s", what);
}

static int add_file(struct parse *p, struct slice path)
{
    struct forward_plan *plan = p->plan;
    if (!p->include)
        return bad(p, ERR_DENIED, "includes a file that names a file");
    if (slice_is(path, "/dev/null")) {
        plan->nowhere = true;
        return OK;
    }
    if (++plan->nfiles > FORWARD_FILES_MAX || memchr(path.p, '\0', path.n) ||
        buf_lv(&plan->files, path))
        return bad(p, ERR_LIMIT, "names too many files");
    return OK;
}

static int add_address(struct parse *p, struct slice text)
{
    struct forward_plan *plan = p->plan;
    struct address a;
    ptrdiff_t open = slice_rchr(text, '<');
    bool literal = slice_starts(text, "\\");
    if (literal)
        text = slice_from_index(text, 1);
    else if (open >= 0 && slice_ends(text, ">"))
        text = slice_first(slice_from_index(text, (size_t)open + 1), text.n - (size_t)open - 2);
    if (slice_eq(text, p->owner->name) || slice_ieq(text, p->owner->address)) {
        plan->mailbox = true;
        return OK;
    }
    if (text.n > ADDRESS_MAX || address_parse(&a, text, ADDRESS_UTF8 | ADDRESS_NO_DOMAIN))
        return bad(p, ERR_SYNTAX, "has an entry that is not an address");
    if (++plan->ntargets > FORWARD_ADDRESSES_MAX || buf_lv(&plan->targets, text))
        return bad(p, ERR_LIMIT, "names too many addresses");
    return OK;
}

/* A command in quotes, which within it stand behind a backslash. */
static bool is_quoted_command(struct slice entry)
{
    return slice_starts(entry, "\"|") && slice_ends(entry, "\"");
}

static struct slice plain_command(struct slice entry, char out[FORWARD_COMMAND_MAX + 1])
{
    size_t n = 0;
    entry = slice_first(slice_from_index(entry, 1), entry.n - 2);
    for (size_t i = 0; i < entry.n && n <= FORWARD_COMMAND_MAX; i++) {
        bool escaped = entry.p[i] == '\\' && i + 1 < entry.n && strchr("\"\\", entry.p[i + 1]);
        out[n++] = entry.p[i += escaped];
    }
    return slice_trim(slice_from(out, n));
}

static int add_command(struct parse *p, struct slice text)
{
    struct forward_plan *plan = p->plan;
    char plain[FORWARD_COMMAND_MAX + 1];
    if (!p->include)
        return bad(p, ERR_DENIED, "includes a file that names a command");
    if (is_quoted_command(text))
        text = plain_command(text, plain);
    if (text.n < 2 || memchr(text.p, '\0', text.n))
        return bad(p, ERR_SYNTAX, "has an empty command, or one that is not text");
    if (text.n > FORWARD_COMMAND_MAX || ++plan->ntargets > FORWARD_ADDRESSES_MAX ||
        buf_lv(&plan->targets, text))
        return bad(p, ERR_LIMIT, "names too many commands, or too long a one");
    return OK;
}

static int add_entries(struct parse *p, struct slice text);

static int add_included(struct parse *p, struct slice path)
{
    struct parse inner = {.plan = p->plan, .owner = p->owner, .err = p->err};
    struct buf text;
    if (!p->include || ++p->plan->nincludes > FORWARD_INCLUDES_MAX)
        return bad(p, ERR_LIMIT, "nests include files, or has too many");
    buf_init(&text, FORWARD_MAX);
    int rc = p->include(path, &text, p->arg, p->err);
    if (!rc)
        rc = add_entries(&inner, buf_slice(&text));
    buf_clear(&text);
    return rc;
}

static int add_entries(struct parse *p, struct slice text)
{
    struct slice entry;
    int rc = OK;
    while (!rc && next_entry(&text, &entry)) {
        bool command = is_quoted_command(entry);
        entry = command ? entry : unquote(entry);
        if (command || slice_starts(entry, "|"))
            rc = add_command(p, entry);
        else if (slice_istarts(entry, ":include:"))
            rc = add_included(p, slice_trim(slice_from_index(entry, 9)));
        else if (slice_starts(entry, "/"))
            rc = add_file(p, entry);
        else
            rc = add_address(p, entry);
    }
    return rc;
}

int forward_parse(struct forward_plan *plan, struct slice text, const struct forward_owner *owner,
    forward_include_fn *include, void *arg, struct error *err)
{
    struct parse p = {.plan = plan, .owner = owner, .include = include, .arg = arg, .err = err};
    int rc = add_entries(&p, text);
    if (!rc && !plan->mailbox && !plan->nowhere && !plan->ntargets && !plan->nfiles)
        plan->mailbox = true;
    return rc;
}
