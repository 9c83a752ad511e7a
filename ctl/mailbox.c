/* mailbox: what is in users' mailboxes, whether it is whole, and repair. */
#include <time.h>

#include "ctl/ctl.h"
#include "ctl/json.h"
#include "ctl/mailuser.h"

enum { OUT_MAX = 64 << 20, OUT_FLUSH = 64 * 1024 };

/* One command on one folder after the other. */
struct walk {
    struct ctl *c;
    struct store *store;
    struct buf out;
    struct json json;
    int status;
    /* Appends what the command says about the folder. */
    int (*each)(struct walk *, const struct store_folder *, struct error *);
};

static void flush_out(struct walk *w, size_t beyond)
{
    if (buf_len(&w->out) <= beyond)
        return;
    fwrite(buf_slice(&w->out).p, 1, buf_len(&w->out), stdout);
    buf_reset(&w->out);
}

static int walk_folders(struct walk *w, const char *only, struct error *err)
{
    struct store_folder *folders = NULL;
    struct store_folder one = {.name = slice_of(only)};
    size_t n = 1;
    bool found = false;
    int rc = only ? store_name_check(one.name) : store_list(w->store, &folders, &n, err);
    if (only && rc)
        return error_set(err, rc, "%s: not a name for a folder", only);
    if (only && !store_exists(w->store, one.name))
        return error_set(err, ERR_NOT_FOUND, "%s: no such folder", only);
    for (size_t i = 0; !rc && i < n; i++) {
        const struct store_folder *f = only ? &one : &folders[i];
        if (w->c->json)
            json_begin(&w->json, NULL, '{'), json_str(&w->json, "name", f->name);
        rc = w->each(w, f, err);
        if (w->c->json)
            json_end(&w->json, '}');
        found = true;
        flush_out(w, OUT_FLUSH);
    }
    if (!only && found)
        store_list_free(folders, n);
    return rc;
}

/* USER [FOLDER]; with the list of folders in JSON under "folders". */
static int walk(struct ctl *c, int argc, char **argv,
    int (*each)(struct walk *, const struct store_folder *, struct error *))
{
    struct walk w = {.c = c, .each = each};
    struct error err = {0};
    if (argc < 1 || argc > 2)
        return ctl_usage(c);
    if (!ctl_conf(c))
        return CTL_NO;
    if (mailuser_open(c, argv[0], false, NULL, &w.store, &err))
        return ctl_report(&err);
    buf_init(&w.out, OUT_MAX);
    w.json.out = &w.out;
    if (c->json) {
        json_begin(&w.json, NULL, '{');
        json_str(&w.json, "user", slice_of(argv[0]));
        json_begin(&w.json, "folders", '[');
    }
    int rc = walk_folders(&w, argc > 1 ? argv[1] : NULL, &err);
    if (c->json) {
        json_end(&w.json, ']');
        json_end(&w.json, '}');
        buf_putc(&w.out, '\n');
    }
    if (!rc && w.out.failed)
        rc = error_set(&err, ERR_LIMIT, "too much to print");
    flush_out(&w, 0);
    buf_clear(&w.out);
    store_close(w.store);
    return rc ? ctl_report(&err) : w.status;
}

/* --- list, stats ------------------------------------------------------------------------------ */

static int list_one(struct walk *w, const struct store_folder *f, struct error *err)
{
    (void)err;
    if (w->c->json) {
        json_bool(&w->json, "subscribed", f->attrs & STORE_SUBSCRIBED);
        json_bool(&w->json, "selectable", !(f->attrs & STORE_NOSELECT));
        json_bool(&w->json, "children", f->attrs & STORE_CHILDREN);
    } else {
        buf_printf(&w->out, "%.*s%s%s\n", SLICE_FMT(f->name),
            f->attrs & STORE_SUBSCRIBED ? "  subscribed" : "",
            f->attrs & STORE_NOSELECT ? "  (only a level)" : "");
    }
    return OK;
}

static int list(struct ctl *c, int argc, char **argv)
{
    return argc == 1 ? walk(c, argc, argv, list_one) : ctl_usage(c);
}

static void put_status(struct walk *w, const struct store_status *st)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"messages", st->messages}, {"unseen", st->unseen}, {"recent", st->recent},
        {"deleted", st->deleted}, {"size", st->size}, {"uidvalidity", st->uidvalidity},
        {"uidnext", st->uidnext}, {"highestmodseq", st->highestmodseq}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (w->c->json)
            json_int(&w->json, rows[i].name, (int64_t)rows[i].value);
        else
            buf_printf(&w->out, " %s=%llu", rows[i].name, (unsigned long long)rows[i].value);
    }
}

static int stats_one(struct walk *w, const struct store_folder *f, struct error *err)
{
    struct store_status st;
    if (f->attrs & STORE_NOSELECT)
        return OK;
    int rc = store_status(w->store, f->name, &st, err);
    if (rc)
        return rc;
    if (!w->c->json)
        buf_printf(&w->out, "%.*s:", SLICE_FMT(f->name));
    put_status(w, &st);
    if (!w->c->json)
        buf_putc(&w->out, '\n');
    return OK;
}

static int stats(struct ctl *c, int argc, char **argv)
{
    return walk(c, argc, argv, stats_one);
}

/* --- verify, rebuild -------------------------------------------------------------------------- */

static int verify_one(struct walk *w, const struct store_folder *f, struct error *err)
{
    struct buf report;
    if (f->attrs & STORE_NOSELECT)
        return OK;
    buf_init(&report, OUT_MAX);
    int problems = store_verify(w->store, f->name, &report, err);
    struct slice rest = buf_slice(&report);
    if (w->c->json)
        json_begin(&w->json, "problems", '[');
    while (problems > 0 && rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        if (w->c->json)
            json_str(&w->json, NULL, line);
        else
            buf_printf(&w->out, "%.*s: %.*s\n", SLICE_FMT(f->name), SLICE_FMT(line));
    }
    if (w->c->json)
        json_end(&w->json, ']');
    else if (problems == 0)
        buf_printf(&w->out, "%.*s: whole\n", SLICE_FMT(f->name));
    if (problems > 0)
        w->status = CTL_NO;
    buf_clear(&report);
    return problems < 0 ? problems : OK;
}

static int verify(struct ctl *c, int argc, char **argv)
{
    return walk(c, argc, argv, verify_one);
}

static int rebuild_one(struct walk *w, const struct store_folder *f, struct error *err)
{
    if (f->attrs & STORE_NOSELECT)
        return OK;
    int rc = store_rebuild(w->store, f->name, err);
    return rc ? rc : stats_one(w, f, err);
}

static int rebuild(struct ctl *c, int argc, char **argv)
{
    return walk(c, argc, argv, rebuild_one);
}

/* --- dump ------------------------------------------------------------------------------------- */

static void put_flags(struct buf *out, struct store_mailbox *mb, const struct store_msg *m)
{
    static const struct {
        unsigned flag;
        const char *name;
    } flags[] = {{STORE_SEEN, "\\Seen"}, {STORE_ANSWERED, "\\Answered"},
        {STORE_FLAGGED, "\\Flagged"}, {STORE_DELETED, "\\Deleted"}, {STORE_DRAFT, "\\Draft"}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (m->flags & flags[i].flag)
            buf_printf(out, "%s%s", buf_len(out) ? " " : "", flags[i].name);
    for (size_t i = 0; i < store_keywords(mb); i++)
        if (m->keywords >> i & 1)
            buf_printf(out, "%s%.*s", buf_len(out) ? " " : "", SLICE_FMT(store_keyword(mb, i)));
}

static void dump_message(struct walk *w, struct store_mailbox *mb, const struct store_msg *m)
{
    char date[32], guid[2 * STORE_GUID + 1];
    struct buf flags;
    struct tm tm;
    time_t at = (time_t)m->date;
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
    for (size_t i = 0; i < STORE_GUID; i++)
        snprintf(guid + 2 * i, 3, "%02x", m->guid[i]);
    buf_init(&flags, (size_t)STORE_KEYWORDS_MAX * 256 + 100);
    put_flags(&flags, mb, m);
    if (!w->c->json) {
        buf_printf(&w->out, "uid=%u date=%s size=%llu modseq=%llu guid=%s flags=(%.*s)\n", m->uid,
            date, (unsigned long long)m->size, (unsigned long long)m->modseq, guid,
            SLICE_FMT(buf_slice(&flags)));
    } else {
        json_begin(&w->json, NULL, '{');
        json_int(&w->json, "uid", m->uid);
        json_str(&w->json, "date", slice_of(date));
        json_int(&w->json, "size", (int64_t)m->size);
        json_int(&w->json, "modseq", (int64_t)m->modseq);
        json_str(&w->json, "guid", slice_of(guid));
        json_str(&w->json, "flags", buf_slice(&flags));
        json_end(&w->json, '}');
    }
    buf_clear(&flags);
}

static int dump_one(struct walk *w, const struct store_folder *f, struct error *err)
{
    struct store_mailbox *mb;
    struct store_msg m;
    if (f->attrs & STORE_NOSELECT)
        return OK;
    int rc = store_select(w->store, f->name, true, &mb, err);
    if (rc)
        return rc;
    if (w->c->json) {
        json_int(&w->json, "uidvalidity", store_uidvalidity(mb));
        json_int(&w->json, "uidnext", store_uidnext(mb));
        json_begin(&w->json, "messages", '[');
    } else {
        buf_printf(&w->out, "%.*s: uidvalidity=%u uidnext=%u\n", SLICE_FMT(f->name),
            store_uidvalidity(mb), store_uidnext(mb));
    }
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++) {
        dump_message(w, mb, &m);
        flush_out(w, OUT_FLUSH);
    }
    if (w->c->json)
        json_end(&w->json, ']');
    store_unselect(mb);
    return OK;
}

static int dump(struct ctl *c, int argc, char **argv)
{
    return walk(c, argc, argv, dump_one);
}

const struct ctl_verb mailbox_verbs[] = {{"mailbox", "list", "USER", "the folders of a user", list},
    {"mailbox", "stats", "USER [FOLDER]", "messages, sizes and numbers of each folder", stats},
    {"mailbox", "verify", "USER [FOLDER]",
        "checks index, log and every message; status 1 when something is wrong", verify},
    {"mailbox", "rebuild", "USER [FOLDER]",
        "makes the index anew from the Maildir, keeping UIDs where they can be known", rebuild},
    {"mailbox", "dump", "USER [FOLDER]", "what the index says about every message", dump}, {NULL}};
