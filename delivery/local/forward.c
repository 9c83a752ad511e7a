#include "delivery/local/forward.h"

#include "libmail/address.h"
#include "libmail/aliases.h"

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
    if (slice_ieq(text, p->owner->name) || slice_ieq(text, p->owner->address)) {
        plan->mailbox = true;
        return OK;
    }
    if (text.n > ADDRESS_MAX || address_parse(&a, text, ADDRESS_UTF8 | ADDRESS_NO_DOMAIN))
        return bad(p, ERR_SYNTAX, "has an entry that is not an address");
    if (++plan->ntargets > FORWARD_ADDRESSES_MAX || buf_lv(&plan->targets, text))
        return bad(p, ERR_LIMIT, "names too many addresses");
    return OK;
}

static int add_command(struct parse *p, struct slice text)
{
    struct forward_plan *plan = p->plan;
    char target[FORWARD_COMMAND_MAX + 2];
    if (!p->include)
        return bad(p, ERR_DENIED, "includes a file that names a command");
    if (text.n == 0 || memchr(text.p, '\0', text.n))
        return bad(p, ERR_SYNTAX, "has an empty command, or one that is not text");
    int n = snprintf(target, sizeof(target), "|%.*s", SLICE_FMT(text));
    if (n > FORWARD_COMMAND_MAX || ++plan->ntargets > FORWARD_ADDRESSES_MAX ||
        buf_lv(&plan->targets, slice_from(target, (size_t)n)))
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
    struct alias_member m;
    int rc = OK;
    while (!rc && alias_next(&text, ALIAS_COMMENTS, &m)) {
        if (m.kind == ALIAS_COMMAND)
            rc = add_command(p, m.text);
        else if (m.kind == ALIAS_INCLUDE)
            rc = add_included(p, m.text);
        else if (m.kind == ALIAS_FILE)
            rc = add_file(p, m.text);
        else
            rc = add_address(p, m.text);
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
