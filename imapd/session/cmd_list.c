/* LIST and LSUB (RFC 3501 §6.3.8, 6.3.9) with selection and return options (RFC 5258), special
 * uses (RFC 6154) and status (RFC 5819). */
#include "imapd/session/list.h"
#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "imapd/session/status.h"
#include "imapd/session/uses.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"
#include "libutil/map.h"

enum { WIRE_MAX = 8 * STORE_NAME_MAX, PATTERNS_MAX = 50 };

enum option {
    OPT_SUBSCRIBED = 1,
    OPT_REMOTE = 2, /* nothing is */
    OPT_RECURSIVE = 4,
    OPT_SPECIAL = 8,
    OPT_CHILDREN = 16 /* always told */
};

static const struct {
    const char *name;
    enum option bit;
    bool select, give; /* may be asked for as a selection, as a return option */
} options[] = {{"SUBSCRIBED", OPT_SUBSCRIBED, true, true}, {"REMOTE", OPT_REMOTE, true, false},
    {"RECURSIVEMATCH", OPT_RECURSIVE, true, false}, {"SPECIAL-USE", OPT_SPECIAL, true, true},
    {"CHILDREN", OPT_CHILDREN, false, true}};

struct list_request {
    struct slice patterns[PATTERNS_MAX]; /* with the reference before them, UTF-8 */
    size_t npatterns;
    unsigned select, give;
    unsigned status; /* items */
    bool extended;
};

/* One name that can be listed. */
struct entry {
    struct slice name;
    unsigned attrs, uses;
    bool exists, below; /* below: something subscribed is */
};

/* --- the request ------------------------------------------------------------------------------ */

/* After '(': options up to ')'. */
static bool take_options(struct args *a, bool select, struct list_request *rq)
{
    unsigned *set = select ? &rq->select : &rq->give;
    for (unsigned n = 0; !args_next_is(a, ')'); n++) {
        struct slice word;
        size_t i = 0;
        if ((n && !take_space(a)) || !take_atom(a, &word))
            return false;
        if (!select && slice_iis(word, "STATUS")) {
            if (!take_status_items(a, &rq->status))
                return false;
            continue;
        }
        while (i < ARRAY_LEN(options) && (!slice_iis(word, options[i].name) ||
                                             !(select ? options[i].select : options[i].give)))
            i++;
        if (i == ARRAY_LEN(options))
            return args_fail(a, "Unknown LIST option");
        *set |= options[i].bit;
    }
    return take_char(a, ')');
}

static bool add_pattern(struct args *a, struct slice ref, struct list_request *rq)
{
    struct slice mailbox;
    if (rq->npatterns == PATTERNS_MAX)
        return args_fail(a, "Too many patterns");
    if (!take_pattern(a, &mailbox))
        return false;
    struct slice all = arena_printf(a->arena, "%.*s%.*s", SLICE_FMT(ref), SLICE_FMT(mailbox));
    if (!all.p || all.n > WIRE_MAX)
        return args_fail(a, "Pattern too long");
    struct buf utf8;
    buf_init(&utf8, 4 * WIRE_MAX);
    /* What is malformed matches nothing. */
    if (mailbox.n && wire_take_mailbox(all, a->utf8, &utf8) == OK)
        mailbox = arena_dup(a->arena, buf_slice(&utf8));
    else if (mailbox.n)
        mailbox = SLICE_LIT("/");
    buf_clear(&utf8);
    rq->patterns[rq->npatterns++] = mailbox;
    return mailbox.p ? true : args_fail(a, "Command too large");
}

static bool take_list(struct command *c, struct list_request *rq)
{
    struct args *a = &c->args;
    struct slice ref, word;
    *rq = (struct list_request){.select = 0};
    if (!take_space(a))
        return false;
    if (args_next_is(a, '(')) {
        rq->extended = true;
        if (!take_char(a, '(') || !take_options(a, true, rq) || !take_space(a))
            return false;
    }
    if (!take_astring(a, &ref) || !take_space(a))
        return false;
    if (args_next_is(a, '(')) {
        rq->extended = true;
        take_char(a, '(');
        do {
            if ((rq->npatterns && !take_space(a)) || !add_pattern(a, ref, rq))
                return false;
        } while (!args_next_is(a, ')'));
        take_char(a, ')');
    } else if (!add_pattern(a, ref, rq)) {
        return false;
    }
    if (!args_at_end(a)) {
        rq->extended = true;
        if (!take_space(a) || !take_atom(a, &word) || !slice_iis(word, "RETURN") ||
            !take_space(a) || !take_char(a, '(') || !take_options(a, false, rq))
            return args_fail(a, "RETURN options expected");
    }
    /* RFC 5258 §3.1: RECURSIVEMATCH alone selects nothing. */
    if ((rq->select & OPT_RECURSIVE) && !(rq->select & (OPT_SUBSCRIBED | OPT_SPECIAL)))
        return args_fail(a, "RECURSIVEMATCH needs another option");
    return take_end(a);
}

/* --- the names -------------------------------------------------------------------------------- */

struct names {
    struct session *s;
    struct arena *arena;
    struct entry *entries;
    size_t n, cap;
    struct map index; /* name -> position + 1 */
};

static struct entry *add_name(struct names *l, struct slice name, unsigned attrs, bool exists)
{
    uintptr_t at = (uintptr_t)map_get(&l->index, name);
    if (!at) {
        if (l->n == l->cap) {
            l->cap = l->cap ? 2 * l->cap : 64;
            l->entries = xrealloc(l->entries, l->cap, sizeof(*l->entries));
        }
        l->entries[l->n] = (struct entry){.name = arena_dup(l->arena, name)};
        if (!l->entries[l->n].name.p)
            return NULL;
        at = ++l->n;
        map_set(&l->index, name, (void *)at);
    }
    struct entry *e = &l->entries[at - 1];
    e->attrs |= attrs;
    e->exists = e->exists || exists;
    return e;
}

/* The levels above a folder of others, which no directory tells. */
static void add_levels(struct names *l, struct slice name)
{
    for (ptrdiff_t cut; (cut = slice_rchr(name, STORE_SEPARATOR)) > 0;) {
        name = slice_first(name, (size_t)cut);
        struct entry *e = add_name(l, name, STORE_CHILDREN, false);
        if (e && !e->exists)
            e->attrs |= STORE_NOSELECT;
    }
}

static void add_shares(struct names *l)
{
    struct place p;
    struct error err;
    for (size_t i = 0; i < l->s->nshares; i++) {
        struct slice name = slice_of(l->s->shares[i].name);
        if (l->s->shares[i].gone)
            continue;
        if (place_find(l->s, name, &p, &err) || !p.share || !(p.rights & ACL_LOOKUP))
            continue;
        struct entry *e = add_name(l, name, 0, true);
        if (e)
            e->attrs &= ~(unsigned)STORE_NOSELECT;
        add_levels(l, name);
    }
}

static int add_folders(struct names *l, bool subscribed, struct error *err)
{
    struct store_folder *folders;
    size_t n;
    int rc = subscribed ? store_list_subscribed(l->s->store, &folders, &n, err)
                        : store_list(l->s->store, &folders, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++) {
        unsigned attrs = subscribed ? STORE_SUBSCRIBED : folders[i].attrs;
        add_name(l, folders[i].name, attrs, !subscribed && !(attrs & STORE_NOSELECT));
    }
    store_list_free(folders, n);
    return OK;
}

static void mark_above(struct names *l, struct slice name)
{
    for (ptrdiff_t cut; (cut = slice_rchr(name, STORE_SEPARATOR)) > 0;) {
        name = slice_first(name, (size_t)cut);
        struct entry *e = add_name(l, name, 0, false);
        if (e)
            e->below = true;
    }
}

static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    bool inbox_x = slice_is(x->name, "INBOX"), inbox_y = slice_is(y->name, "INBOX");
    return inbox_x != inbox_y ? (inbox_x ? -1 : 1) : slice_cmp(x->name, y->name);
}

static int gather(struct names *l, const struct list_request *rq, struct error *err)
{
    int rc = add_folders(l, false, err);
    add_shares(l);
    if (!rc && (rq->select & OPT_SUBSCRIBED))
        rc = add_folders(l, true, err);
    for (size_t i = 0, n = l->n; i < n && (rq->select & OPT_RECURSIVE); i++)
        if (l->entries[i].attrs & STORE_SUBSCRIBED)
            mark_above(l, l->entries[i].name);
    if (rc || !l->n)
        return rc;
    qsort(l->entries, l->n, sizeof(*l->entries), by_name);
    struct uses_finder finder;
    uses_begin(&finder, l->s);
    for (size_t i = 0; i < l->n; i++)
        if (l->entries[i].exists)
            uses_note(&finder, l->entries[i].name);
    for (size_t i = 0; i < l->n; i++)
        if (l->entries[i].exists)
            l->entries[i].uses = uses_of(&finder, l->entries[i].name);
    return OK;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void put_listed(struct session *s, const struct list_request *rq, const struct entry *e)
{
    struct buf *out = &s->io.out;
    bool only_level = (e->attrs & STORE_NOSELECT) || !e->exists;
    buf_puts(out, "* LIST (");
    if (only_level)
        buf_puts(out, rq->extended ? "\\NonExistent \\Noselect " : "\\Noselect ");
    buf_puts(out, e->attrs & STORE_CHILDREN ? "\\HasChildren" : "\\HasNoChildren");
    if ((e->attrs & STORE_SUBSCRIBED) && ((rq->select | rq->give) & OPT_SUBSCRIBED))
        buf_puts(out, " \\Subscribed");
    for (unsigned i = 0; i < STORE_USES; i++)
        if (e->uses >> i & 1)
            buf_printf(out, " %s", store_use_name(i));
    buf_printf(out, ") \"%c\" ", STORE_SEPARATOR);
    wire_put_mailbox(out, e->name, s->utf8);
    if (e->below && (rq->select & OPT_SUBSCRIBED))
        buf_puts(out, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    buf_puts(out, "\r\n");
}

static bool is_selected(const struct list_request *rq, const struct entry *e)
{
    bool ok = true;
    if (rq->select & OPT_SUBSCRIBED)
        ok = (e->attrs & STORE_SUBSCRIBED) || e->below;
    else if (!e->exists && !(e->attrs & STORE_NOSELECT))
        ok = false; /* known only from subscriptions */
    return ok && (!(rq->select & OPT_SPECIAL) || e->uses);
}

static void put_all(struct command *c, const struct list_request *rq, struct names *l)
{
    struct session *s = c->s;
    struct place p;
    struct error err;
    for (size_t i = 0; i < l->n && io_pace(&s->io) == OK; i++) {
        const struct entry *e = &l->entries[i];
        bool match = false;
        for (size_t k = 0; k < rq->npatterns && !match; k++)
            match = list_match(rq->patterns[k], e->name, STORE_SEPARATOR);
        if (!match || !is_selected(rq, e))
            continue;
        put_listed(s, rq, e);
        if (rq->status && e->exists && place_find(s, e->name, &p, &err) == OK &&
            (p.rights & ACL_READ) && status_put(s, e->name, &p, rq->status, &err))
            log_event(&s->env->log, log_trouble, .what = SLICE_LIT("status"),
                .reason = slice_of(err.text));
    }
}

void cmd_list(struct command *c)
{
    struct list_request rq;
    struct error err = {0, ""};
    struct names l = {.s = c->s, .arena = c->args.arena};
    if (!take_list(c, &rq)) {
        command_bad(c);
        return;
    }
    if (rq.npatterns == 1 && rq.patterns[0].n == 0) {
        /* The separator is asked for (§6.3.8). */
        buf_printf(&c->s->io.out, "* LIST (\\Noselect) \"%c\" \"\"\r\n", STORE_SEPARATOR);
        command_ok(c, "LIST completed");
        return;
    }
    map_init(&l.index);
    int rc = gather(&l, &rq, &err);
    if (rc) {
        command_error(c, rc, &err);
    } else {
        put_all(c, &rq, &l);
        command_ok(c, "LIST completed");
    }
    map_clear(&l.index);
    free(l.entries);
}

/* --- LSUB ------------------------------------------------------------------------------------- */

static void put_subscribed(struct session *s, bool only_level, struct slice name)
{
    struct buf *out = &s->io.out;
    buf_printf(out, "* LSUB (%s) \"%c\" ", only_level ? "\\Noselect" : "", STORE_SEPARATOR);
    wire_put_mailbox(out, name, s->utf8);
    buf_puts(out, "\r\n");
}

/* With '%' at its end, a pattern that matches a level above a subscribed name lists that level
 * (§6.3.9). `told` is the level listed last: names come sorted. */
static void put_level_above(
    struct session *s, struct slice pattern, struct slice name, struct buf *told)
{
    for (size_t i = 1; i < name.n; i++) {
        struct slice level = slice_first(name, i);
        if (name.p[i] != STORE_SEPARATOR || !list_match(pattern, level, STORE_SEPARATOR) ||
            slice_eq(level, buf_slice(told)))
            continue;
        put_subscribed(s, true, level);
        buf_reset(told);
        buf_put(told, level);
    }
}

void cmd_lsub(struct command *c)
{
    struct list_request rq;
    struct store_folder *folders;
    size_t n;
    struct error err = {0, ""};
    if (!take_list(c, &rq) || rq.extended) {
        args_fail(&c->args, "LSUB has no options");
        command_bad(c);
        return;
    }
    struct slice pattern = rq.patterns[0];
    int rc = store_list_subscribed(c->s->store, &folders, &n, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    struct buf told;
    buf_init(&told, WIRE_MAX);
    for (size_t i = 0; i < n && io_pace(&c->s->io) == OK; i++) {
        struct slice name = folders[i].name;
        if (list_match(pattern, name, STORE_SEPARATOR)) {
            put_subscribed(c->s, folders[i].attrs & STORE_NOSELECT, name);
            buf_reset(&told);
            buf_put(&told, name);
        } else if (slice_ends(pattern, "%")) {
            put_level_above(c->s, pattern, name, &told);
        }
    }
    buf_clear(&told);
    store_list_free(folders, n);
    command_ok(c, "LSUB completed");
}
