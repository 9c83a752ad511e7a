#include "libstore/quota.h"

#include "libstore/private.h"

enum {
    LIMITS_MS = 10000,            /* how long limits are believed before their file is read again */
    SETTLED_NS = 2 * 1000000000U, /* a directory's time that young may stand for two changes */
    PERCENT_MAX = 1000
};

static const char file_name[] = "veredus.quota";

/* What a folder's totals were when its log looked like that. */
struct counted {
    char disk[NAME_DISK_MAX];
    char *name; /* as users know it */
    uint64_t ino;
    int64_t size; /* -1: not counted yet */
    struct quota_usage usage;
};

struct quota_state {
    struct quota quota;
    int64_t read_at; /* ms; 0: never */
    struct counted *folders;
    size_t nfolders;
    int64_t listed; /* time of the mail directory when they were listed; 0: to be listed */
};

static int64_t now_ms(void)
{
    return fs_now() / 1000000;
}

/* --- text ------------------------------------------------------------------------------------- */

/* "ignore NAME", "+10% NAME", "+1000 NAME" */
static int parse_folder(struct slice line, struct quota *q)
{
    struct slice what = slice_cut(&line, ' ');
    struct quota_rule *r = &q->rules[q->nrules];
    if (q->nrules == QUOTA_RULES_MAX)
        return ERR_LIMIT;
    *r = (struct quota_rule){.folder = line, .ignore = slice_is(what, "ignore")};
    if (line.n == 0)
        return ERR_SYNTAX;
    q->nrules++;
    if (r->ignore)
        return OK;
    if (!slice_starts(what, "+"))
        return ERR_SYNTAX;
    what = slice_from_index(what, 1);
    r->percent = slice_ends(what, "%");
    if (r->percent)
        what.n--;
    return slice_u64(what, 0, r->percent ? PERCENT_MAX : INT64_MAX, &r->extra);
}

static int parse_line(struct slice line, struct quota *q)
{
    struct slice key = slice_cut(&line, ' ');
    if (slice_is(key, "bytes"))
        return slice_u64(line, 0, INT64_MAX, &q->bytes);
    if (slice_is(key, "messages"))
        return slice_u64(line, 0, INT64_MAX, &q->messages);
    if (slice_is(key, "grace"))
        return slice_u64(line, 0, PERCENT_MAX, &q->grace);
    if (slice_is(key, "folder"))
        return parse_folder(line, q);
    q->defer = slice_is(key, "defer");
    return q->defer && line.n == 0 ? OK : ERR_SYNTAX;
}

int quota_parse(struct slice text, struct quota *q, struct error *err)
{
    *q = (struct quota){0};
    if (!slice_to_cstr(text, q->text, sizeof(q->text)))
        return error_set(err, ERR_LIMIT, "quota limits are too long");
    struct slice rest = slice_of(q->text);
    while (rest.n) {
        struct slice line = slice_cut(&rest, '\n');
        int rc = line.n ? parse_line(line, q) : OK;
        if (rc)
            return error_set(err, rc, "quota limits: %.*s", SLICE_FMT(slice_first(line, 100)));
    }
    return OK;
}

/* --- limits ----------------------------------------------------------------------------------- */

/* Moves the slices of a copy into the copy's own text. */
static void copy_quota(struct quota *to, const struct quota *from)
{
    *to = *from;
    for (size_t i = 0; i < to->nrules; i++)
        to->rules[i].folder.p = to->text + (from->rules[i].folder.p - from->text);
}

static int read_limits(struct store *s, struct error *err)
{
    struct quota_state *st = s->quota;
    struct buf text;
    struct error ignored;
    buf_init(&text, 65536);
    int rc = io_slurp(s->fd, file_name, &text, err);
    if (rc == OK && quota_parse(slice_trim(buf_slice(&text)), &st->quota, &ignored))
        st->quota = (struct quota){0};
    if (rc == ERR_NOT_FOUND || rc == ERR_LIMIT)
        st->quota = (struct quota){0};
    buf_clear(&text);
    if (rc && rc != ERR_NOT_FOUND && rc != ERR_LIMIT)
        return rc;
    st->read_at = now_ms();
    return OK;
}

static int state_of(struct store *s, struct error *err)
{
    if (!s->quota)
        s->quota = NEW(struct quota_state);
    int64_t age = now_ms() - s->quota->read_at;
    if (s->quota->read_at && age >= 0 && age < LIMITS_MS)
        return OK;
    return read_limits(s, err);
}

bool quota_is_remembered(int root, const char *path)
{
    char name[1100];
    struct stat st;
    int n = snprintf(name, sizeof(name), "%s/%s", path, file_name);
    return n < 0 || (size_t)n >= sizeof(name) || (fs_stat(root, name, &st) == 0 && st.st_size);
}

int store_quota_set(struct store *s, struct slice text, struct error *err)
{
    struct quota q;
    text = slice_trim(text);
    int rc = quota_parse(text, &q, err);
    if (!s->quota)
        s->quota = NEW(struct quota_state);
    if (!rc)
        rc = read_limits(s, err); /* another process may have written others */
    if (rc || slice_is(text, s->quota->quota.text))
        return rc;
    rc = io_replace(s->fd, file_name, text, err);
    if (!rc)
        copy_quota(&s->quota->quota, &q);
    s->quota->listed = 0; /* other folders may count now */
    return rc;
}

int store_quota_get(struct store *s, struct quota *q, struct error *err)
{
    int rc = state_of(s, err);
    if (!rc)
        copy_quota(q, &s->quota->quota);
    return rc;
}

/* --- counting --------------------------------------------------------------------------------- */

/* The rule for a folder: its own, or that of the nearest level above. */
static const struct quota_rule *rule_of(const struct quota *q, struct slice folder)
{
    const struct quota_rule *best = NULL;
    for (size_t i = 0; i < q->nrules; i++) {
        const struct quota_rule *r = &q->rules[i];
        bool below = folder.n > r->folder.n && folder.p[r->folder.n] == STORE_SEPARATOR;
        if ((folder.n == r->folder.n || below) &&
            slice_eq(slice_first(folder, r->folder.n), r->folder) &&
            (!best || best->folder.n < r->folder.n))
            best = r;
    }
    return best;
}

static void forget(struct quota_state *st)
{
    for (size_t i = 0; i < st->nfolders; i++)
        free(st->folders[i].name);
    free(st->folders);
    st->folders = NULL;
    st->nfolders = 0;
    st->listed = 0;
}

void quota_free(struct quota_state *st)
{
    if (st)
        forget(st);
    free(st);
}

/* Takes the list of folders that count; what is known of them is kept. */
static void take_list(struct store *s, struct quota_state *st, const struct store_folder *folders,
    size_t n, int64_t listed)
{
    struct counted *old = st->folders;
    struct error ignored;
    size_t nold = st->nfolders;
    st->folders = xcalloc(n + 1, sizeof(*st->folders));
    st->nfolders = 0;
    for (size_t i = 0; i < n; i++) {
        struct counted *c = &st->folders[st->nfolders];
        const struct quota_rule *r = rule_of(&st->quota, folders[i].name);
        if ((folders[i].attrs & STORE_NOSELECT) || (r && r->ignore) ||
            store_folder_dir(s, folders[i].name, c->disk, &ignored))
            continue;
        c->size = -1;
        for (size_t k = 0; k < nold; k++)
            if (strcmp(old[k].disk, c->disk) == 0) {
                c->ino = old[k].ino;
                c->size = old[k].size;
                c->usage = old[k].usage;
            }
        c->name = xmemdup0(folders[i].name.p, folders[i].name.n);
        st->nfolders++;
    }
    for (size_t k = 0; k < nold; k++)
        free(old[k].name);
    free(old);
    st->listed = listed;
}

static int list_folders(struct store *s, struct error *err)
{
    struct quota_state *st = s->quota;
    struct store_folder *folders;
    struct stat dir;
    size_t n;
    if (fs_fstat(s->fd, &dir))
        return error_sys(err, "mail directory");
    int64_t changed = (int64_t)dir.st_mtim.tv_sec * 1000000000 + dir.st_mtim.tv_nsec;
    if (st->listed && st->listed == changed)
        return OK;
    int64_t age = fs_now() - changed;
    int rc = store_list(s, &folders, &n, err);
    if (rc)
        return rc;
    take_list(s, st, folders, n, age > (int64_t)SETTLED_NS ? changed : 0);
    store_list_free(folders, n);
    return OK;
}

/* A folder whose log has not grown has the same totals as before. */
static int count_folder(struct store *s, struct counted *c, struct error *err)
{
    char path[NAME_DISK_MAX + 16];
    struct stat log;
    struct store_status status;
    snprintf(path, sizeof(path), "%s/veredus.log", folder_place(s, c->disk));
    bool there = fs_stat(s->fd, path, &log) == 0;
    if (there && !s->opt.coexist && c->ino == log.st_ino && c->size == log.st_size)
        return OK;
    int rc = store_status(s, slice_of(c->name), &status, err);
    c->usage = (struct quota_usage){0};
    c->size = -1;
    if (rc)
        return rc == ERR_NOT_FOUND ? OK : rc; /* deleted meanwhile */
    c->usage = (struct quota_usage){status.size, status.messages};
    c->ino = there ? log.st_ino : 0;
    c->size = there ? (int64_t)log.st_size : -1;
    return OK;
}

static int count(struct store *s, struct quota_usage *u, struct error *err)
{
    struct quota_state *st = s->quota;
    int rc = list_folders(s, err);
    *u = (struct quota_usage){0};
    for (size_t i = 0; !rc && i < st->nfolders; i++) {
        rc = count_folder(s, &st->folders[i], err);
        u->bytes += st->folders[i].usage.bytes;
        u->messages += st->folders[i].usage.messages;
    }
    return rc;
}

int store_quota_usage(struct store *s, struct quota_usage *u, struct error *err)
{
    int rc = state_of(s, err);
    return rc ? rc : count(s, u, err);
}

/* --- deciding --------------------------------------------------------------------------------- */

static uint64_t percent_of(uint64_t whole, uint64_t percent)
{
    return whole / 100 * percent + whole % 100 * percent / 100;
}

static bool fits(const struct quota *q, const struct quota_usage *u, const struct quota_rule *r,
    uint64_t bytes, uint64_t messages, enum quota_for what)
{
    uint64_t limit = q->bytes;
    if (limit && r)
        limit += r->percent ? percent_of(q->bytes, r->extra) : r->extra;
    if (limit && what != QUOTA_APPEND) {
        if (u->bytes >= limit)
            return false;
        limit += percent_of(limit, q->grace);
    }
    return (!limit || (u->bytes <= limit && bytes <= limit - u->bytes)) &&
           (!q->messages || u->messages + messages <= q->messages);
}

bool quota_fits(const struct quota *q, const struct quota_usage *u, struct slice folder,
    uint64_t bytes, uint64_t messages, enum quota_for what)
{
    const struct quota_rule *r = rule_of(q, folder);
    return (r && r->ignore) || fits(q, u, r, bytes, messages, what);
}

static int check(struct store *s, struct slice folder, uint64_t bytes, uint64_t messages,
    enum quota_for what, struct error *err)
{
    struct quota_usage used;
    int rc;
    const struct quota *q = &s->quota->quota;
    const struct quota_rule *r = rule_of(q, folder);
    if ((!q->bytes && !q->messages) || (r && r->ignore))
        return OK;
    rc = count(s, &used, err);
    if (!rc && !fits(q, &used, r, bytes, messages, what))
        rc = error_set(err, ERR_QUOTA, "the mailbox is over its quota");
    return rc;
}

int store_quota_check(struct store *s, struct slice folder, uint64_t bytes, uint64_t messages,
    enum quota_for what, struct error *err)
{
    int64_t before = s->quota ? s->quota->read_at : 0;
    int rc = state_of(s, err);
    if (!rc)
        rc = check(s, folder, bytes, messages, what, err);
    if (rc != ERR_QUOTA || s->quota->read_at != before)
        return rc;
    /* Nobody is refused by limits that may have been lifted since. */
    rc = read_limits(s, err);
    return rc ? rc : check(s, folder, bytes, messages, what, err);
}

bool store_delivered(struct store *s, struct slice folder, uint64_t delivery)
{
    struct box *b;
    struct error ignored;
    if (!delivery || store_box(s, folder, &b, &ignored) || box_catch_up(b, &ignored))
        return false;
    return deliveries_find(b, delivery) != NULL;
}
