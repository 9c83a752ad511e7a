/* GETMETADATA SETMETADATA (RFC 5464). */
#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libstore/metadata.h"
#include "libutil/conf.h"
#include "libutil/error.h"

enum { ENTRIES_MAX = 100 };

struct get_request {
    struct slice mailbox;
    struct slice entries[ENTRIES_MAX];
    size_t n;
    uint64_t max_size, depth; /* depth 2: infinity */
    bool limited;
};

/* "(MAXSIZE 1024 DEPTH 1)" */
static bool take_get_options(struct args *a, struct get_request *rq)
{
    struct slice word;
    if (!take_char(a, '('))
        return false;
    for (unsigned n = 0; !args_next_is(a, ')'); n++) {
        if ((n && !take_space(a)) || !take_atom(a, &word) || !take_space(a))
            return false;
        if (slice_iis(word, "MAXSIZE")) {
            rq->limited = true;
            if (!take_number(a, UINT32_MAX, &rq->max_size))
                return false;
        } else if (slice_iis(word, "DEPTH") && take_atom(a, &word)) {
            rq->depth = slice_iis(word, "infinity") ? 2 : slice_is(word, "1");
            if (!rq->depth && !slice_is(word, "0"))
                return args_fail(a, "DEPTH is 0, 1 or infinity");
        } else {
            return args_fail(a, "Unknown option");
        }
    }
    return take_char(a, ')');
}

static bool take_entry(struct args *a, struct get_request *rq)
{
    if (rq->n == ENTRIES_MAX)
        return args_fail(a, "Too many entries");
    if (!take_astring(a, &rq->entries[rq->n]))
        return false;
    struct slice name = rq->entries[rq->n++];
    bool top = slice_iis(name, "/private") || slice_iis(name, "/shared");
    return top || metadata_name_ok(name) || args_fail(a, "Malformed entry name");
}

static bool take_get(struct args *a, struct get_request *rq)
{
    *rq = (struct get_request){.depth = 0};
    if (!take_space(a) || (args_next_is(a, '(') && (!take_get_options(a, rq) || !take_space(a))))
        return false;
    if (!take_mailbox(a, &rq->mailbox) || !take_space(a))
        return false;
    /* Older clients put the options behind the mailbox. */
    if (slice_istarts(a->rest, "(MAXSIZE ") || slice_istarts(a->rest, "(DEPTH "))
        if (!take_get_options(a, rq) || !take_space(a))
            return false;
    if (!args_next_is(a, '('))
        return take_entry(a, rq) && take_end(a);
    take_char(a, '(');
    do {
        if ((rq->n && !take_space(a)) || !take_entry(a, rq))
            return false;
    } while (!args_next_is(a, ')'));
    return take_char(a, ')') && take_end(a);
}

static bool wants(const struct get_request *rq, struct slice name)
{
    for (size_t i = 0; i < rq->n; i++) {
        struct slice e = rq->entries[i];
        if (slice_ieq(e, name))
            return true;
        if (!rq->depth || name.n <= e.n || name.p[e.n] != '/' ||
            !slice_ieq(slice_first(name, e.n), e))
            continue;
        if (rq->depth == 2 || slice_chr(slice_from_index(name, e.n + 1), '/') < 0)
            return true;
    }
    return false;
}

struct answer {
    struct command *c;
    const struct get_request *rq;
    size_t given;
    uint64_t longest; /* of those too long */
};

static void put_entry(struct answer *w, struct slice name, struct slice value)
{
    struct buf *out = &w->c->s->io.out;
    if (w->rq->limited && value.n > w->rq->max_size) {
        w->longest = MAX(w->longest, value.n);
        return;
    }
    if (!w->given++) {
        buf_puts(out, "* METADATA ");
        wire_put_mailbox(out, w->rq->mailbox, w->c->s->utf8);
        buf_puts(out, " (");
    } else {
        buf_putc(out, ' ');
    }
    imap_put_string(out, name);
    buf_putc(out, ' ');
    imap_put_nstring(out, value);
}

static int metadata_of(struct session *s, struct slice mailbox, const struct place *p,
    struct metadata *m, struct error *err)
{
    if (mailbox.n == 0)
        return store_metadata_get(s->store, mailbox, m, err);
    return store_metadata_get(p->store, p->folder, m, err);
}

/* /private of a folder of somebody else is his, and not for us. */
static bool is_hidden(const struct place *p, struct slice name)
{
    return p->share && slice_istarts(name, "/private/");
}

void cmd_getmetadata(struct command *c)
{
    struct get_request rq;
    struct metadata m;
    struct place p = {.store = NULL};
    struct error err = {0, ""};
    if (!take_get(&c->args, &rq)) {
        command_bad(c);
        return;
    }
    if (rq.mailbox.n && !command_place(c, rq.mailbox, ACL_READ, &p))
        return;
    int rc = metadata_of(c->s, rq.mailbox, &p, &m, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    struct answer w = {.c = c, .rq = &rq};
    for (size_t i = 0; i < m.n; i++)
        if (wants(&rq, m.entries[i].name) && !is_hidden(&p, m.entries[i].name))
            put_entry(&w, m.entries[i].name, m.entries[i].value);
    /* RFC 5464 §6.2.1: the server's administrator. */
    struct slice admin = conf_string(conf_root(c->s->env->conf), "admin");
    if (!rq.mailbox.n && admin.n && wants(&rq, SLICE_LIT("/shared/admin"))) {
        struct buf uri;
        buf_init(&uri, 400);
        buf_printf(&uri, "mailto:%.*s", SLICE_FMT(admin));
        put_entry(&w, SLICE_LIT("/shared/admin"), buf_slice(&uri));
        buf_clear(&uri);
    }
    /* An entry asked for by its name that has no value is NIL (§4.2.1). */
    for (size_t i = 0; i < rq.n; i++)
        if (!metadata_find(&m, rq.entries[i]).p && !rq.depth &&
            !slice_iis(rq.entries[i], "/shared/admin") && metadata_name_ok(rq.entries[i]))
            put_entry(&w, rq.entries[i], (struct slice){NULL, 0});
    if (w.given)
        buf_puts(&c->s->io.out, ")\r\n");
    metadata_clear(&m);
    command_ok(c, "GETMETADATA completed");
    if (w.longest)
        c->code =
            arena_printf(&c->s->arena, "METADATA LONGENTRIES %llu", (unsigned long long)w.longest);
}

/* --- SETMETADATA ------------------------------------------------------------------------------ */

struct set_request {
    struct slice mailbox;
    struct metadata_entry entries[ENTRIES_MAX];
    size_t n;
};

static bool take_value(struct args *a, struct slice *value)
{
    /* literal8 (RFC 3516) is a literal with '~' before it. */
    if (slice_starts(a->rest, "~{"))
        a->rest = slice_from_index(a->rest, 1);
    if (!take_nstring(a, value))
        return false;
    if (value->p && value->n == 0)
        *value = SLICE_LIT("");
    return true;
}

static bool take_set(struct args *a, struct set_request *rq)
{
    rq->n = 0;
    if (!take_space(a) || !take_mailbox(a, &rq->mailbox) || !take_space(a) || !take_char(a, '('))
        return false;
    do {
        struct metadata_entry *e = &rq->entries[rq->n];
        if (rq->n == ENTRIES_MAX)
            return args_fail(a, "Too many entries");
        if ((rq->n && !take_space(a)) || !take_astring(a, &e->name) || !take_space(a) ||
            !take_value(a, &e->value))
            return false;
        if (!metadata_name_ok(e->name))
            return args_fail(a, "Malformed entry name");
        rq->n++;
    } while (!args_next_is(a, ')'));
    return take_char(a, ')') && take_end(a);
}

/* NO set: these changes cannot be made. */
static bool refuse_set(struct command *c, struct set_request *rq, const struct place *p)
{
    for (size_t i = 0; i < rq->n; i++) {
        struct metadata_entry *e = &rq->entries[i];
        if (e->value.n > METADATA_VALUE_MAX) {
            command_no(c, "METADATA MAXSIZE 65536", "Value too large");
            return true;
        }
        if (is_hidden(p, e->name)) {
            command_no(c, "METADATA NOPRIVATE", "No private annotations in folders of others");
            return true;
        }
        /* What is said to all users of the server is not for one of them to say. */
        if (!rq->mailbox.n && slice_istarts(e->name, "/shared/")) {
            command_no(c, "NOPERM", "Set by the administrator");
            return true;
        }
    }
    return false;
}

/* RFC 6154 §4: a use that is none is no value for /private/specialuse. */
static bool bad_use(struct command *c, const struct set_request *rq)
{
    for (size_t i = 0; i < rq->n; i++) {
        struct slice rest = rq->entries[i].value;
        if (!slice_iis(rq->entries[i].name, "/private/specialuse"))
            continue;
        while (rest.n)
            if (!store_use_bit(slice_cut(&rest, ' '))) {
                command_no(c, "USEATTR", "No such special use");
                return true;
            }
    }
    return false;
}

void cmd_setmetadata(struct command *c)
{
    struct set_request *rq = ARENA_NEW(&c->s->arena, struct set_request);
    struct place p = {.store = c->s->store};
    struct error err = {0, ""};
    if (!rq || !take_set(&c->args, rq)) {
        command_bad(c);
        return;
    }
    if (rq->mailbox.n && !command_place(c, rq->mailbox, ACL_READ | ACL_WRITE, &p))
        return;
    if (refuse_set(c, rq, &p) || bad_use(c, rq))
        return;
    int rc = store_metadata_set(p.store, p.folder, rq->entries, rq->n, &err);
    if (rc == ERR_LIMIT)
        command_no(c, "METADATA TOOMANY", "Too many annotations");
    else if (rc)
        command_error(c, rc, &err);
    else
        command_ok(c, "SETMETADATA completed");
}
