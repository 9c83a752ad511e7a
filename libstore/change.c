/* Changing flags, expunging, copying. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "libstore/journal.h"
#include "libstore/view.h"

enum { SYNC_EACH_MAX = 8, DISCARD_MS = 20 };

static struct slice ranges_of(const struct uidset *s)
{
    return slice_from(s->ranges, s->n * sizeof(*s->ranges));
}

/* The next live message of the view that is in `uids` (NULL: all), in order; *at (the sequence
 * number returned last) and *range start at 0. */
static const struct disk_rec *next_in(
    const struct store_mailbox *mb, const struct uidset *uids, size_t *range, uint32_t *at)
{
    for (uint32_t seq = *at + 1; seq <= mb->count; seq++) {
        const struct disk_rec *rec = view_rec(mb, seq);
        while (uids && *range < uids->n && rec->uid > uids->ranges[*range].max)
            ++*range;
        if (uids && *range == uids->n)
            return NULL;
        if (uids && rec->uid < uids->ranges[*range].min) {
            seq = store_seq_from(mb, uids->ranges[*range].min) - 1;
            continue;
        }
        if (rec->bits & REC_GONE)
            continue;
        *at = seq;
        return rec;
    }
    return NULL;
}

#define EACH_IN(mb, uids, rec) \
    size_t rec##_range = 0;    \
    uint32_t rec##_seq = 0;    \
    for (const struct disk_rec *rec; (rec = next_in((mb), (uids), &rec##_range, &rec##_seq));)

static bool would_change(
    const struct disk_rec *rec, enum store_how how, uint32_t flags, uint64_t keywords)
{
    switch (how) {
    case STORE_ADD:
        return (rec->flags | flags) != rec->flags || (rec->keywords | keywords) != rec->keywords;
    case STORE_REMOVE:
        return (rec->flags & flags) || (rec->keywords & keywords);
    case STORE_REPLACE:
        break;
    }
    return rec->flags != flags || rec->keywords != keywords;
}

static uint64_t known_keywords(const struct box *b, const struct store_flags *f)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < f->nkeywords; i++) {
        int bit = box_keyword(b, f->keywords[i]);
        if (bit >= 0)
            bits |= (uint64_t)1 << bit;
    }
    return bits;
}

/* Sorts the messages into those to be changed and those refused. */
static void sort_out(struct store_mailbox *mb, const struct uidset *uids,
    const struct store_flags *f, const struct op *op, struct uidset *set, struct uidset *refused)
{
    EACH_IN(mb, uids, rec)
    {
        if (f->unchanged_since && rec->modseq > f->unchanged_since) {
            if (refused)
                uidset_add(refused, rec->uid);
        } else if (would_change(rec, f->how, op->flags, op->keywords)) {
            uidset_add(set, rec->uid);
        }
    }
}

static int change_locked(struct store_mailbox *mb, const struct uidset *uids,
    const struct store_flags *f, struct uidset *set, struct uidset *refused, struct error *err)
{
    struct box *b = mb->box;
    struct op op = {.type = OP_FLAGS, .number = f->how, .flags = f->flags & (STORE_RECENT - 1)};
    int rc = box_know_names(b, err);
    if (rc)
        return rc;
    box_begin(b);
    if (f->how == STORE_REMOVE)
        op.keywords = known_keywords(b, f);
    else
        rc = box_keywords_define(b, f->keywords, f->nkeywords, &op.keywords, err);
    if (rc)
        return rc;
    sort_out(mb, uids, f, &op, set, refused);
    op.ranges = ranges_of(set);
    if (set->n) {
        txn_op(&b->txn, &op);
        b->own = true;
        rc = box_commit(b, 0, true, err);
        b->own = false;
    }
    return rc;
}

static int writable(const struct store_mailbox *mb, struct error *err)
{
    return mb->read_only ? error_set(err, ERR_DENIED, "the mailbox is open read only") : OK;
}

int store_change(struct store_mailbox *mb, const struct uidset *uids, const struct store_flags *f,
    struct uidset *changed, struct uidset *refused, struct error *err)
{
    struct uidset set = {0};
    struct store_flags others = *f;
    int rc = writable(mb, err);
    if (!rc && mb->seen && (f->flags & STORE_SEEN) && f->how != STORE_REPLACE) {
        rc = seen_change(mb, uids, f->how == STORE_ADD, changed, err);
        others.flags &= ~(uint32_t)STORE_SEEN;
        f = &others;
        if (!others.flags && !others.nkeywords)
            return rc;
    }
    if (!rc)
        rc = box_lock(mb->box, err);
    if (rc)
        return rc;
    rc = change_locked(mb, uids, f, &set, refused, err);
    box_unlock(mb->box);
    if (!rc && set.n)
        box_announce(mb->box);
    if (!rc && changed)
        for (size_t i = 0; i < set.n; i++)
            uidset_add_range(changed, set.ranges[i].min, set.ranges[i].max);
    uidset_clear(&set);
    return rc;
}

int store_expunge(struct store_mailbox *mb, const struct uidset *uids, bool deleted_only,
    struct uidset *expunged, struct error *err)
{
    struct box *b = mb->box;
    struct uidset set = {0};
    int rc = writable(mb, err);
    if (!rc)
        rc = box_lock(b, err);
    if (rc)
        return rc;
    EACH_IN(mb, uids, rec)
    {
        if (!deleted_only || (rec->flags & STORE_DELETED))
            uidset_add(&set, rec->uid);
    }
    if (set.n) {
        box_begin(b);
        box_note_mode(b);
        txn_op(&b->txn,
            &(struct op){.type = OP_EXPUNGE, .time = fs_time(), .ranges = ranges_of(&set)});
        rc = box_commit(b, 0, true, err);
    }
    for (size_t i = 0; !rc && i < set.n; i++)
        uidset_add_range(&mb->leftover, set.ranges[i].min, set.ranges[i].max);
    /* Others who look at the files must not find them without a record. */
    bool at_once = mb->store->opt.coexist || mb->store->opt.keep_deleted;
    if (at_once)
        view_discard(mb, INT_MAX);
    box_unlock(b);
    if (!at_once)
        view_discard(mb, DISCARD_MS);
    if (!rc && set.n)
        box_announce(b);
    for (size_t i = 0; !rc && expunged && i < set.n; i++)
        uidset_add_range(expunged, set.ranges[i].min, set.ranges[i].max);
    uidset_clear(&set);
    return rc;
}

/* A copy on its way: its operation, and where its file is linked. */
struct copy {
    struct op op;
    uint32_t from;
    uint64_t keywords; /* bits of the source */
    bool there;        /* somebody found its file and gave it a record meanwhile */
};

/* The file of a copy; with coexistence others may have found it and given it another name. */
static int stat_copy(
    struct box *to, const struct disk_rec *copy, struct stat *st, struct error *err)
{
    char path[FILE_NAME_MAX];
    file_path(to, copy, path);
    if (fs_stat(to->dirfd, path, st) == 0)
        return OK;
    int fd, rc = file_open(to, copy, &fd, err);
    if (!rc && fs_fstat(fd, st))
        rc = error_sys(err, "message %s", path);
    fs_close(&fd);
    return rc;
}

/* A message that was expunged and is delivered once more this moment has a file of that name, but
 * not yet its content. fd is the file that was found, `copy` got a link to what had its name then.
 */
static int check_link(struct box *from, const struct disk_rec *rec, int fd, struct box *to,
    const struct disk_rec *copy, struct error *err)
{
    struct store_body body;
    struct stat found, linked;
    int rc = stat_copy(to, copy, &linked, err);
    if (rc)
        return rc;
    if (fs_fstat(fd, &found))
        return error_sys(err, "message %u", rec->uid);
    bool same = found.st_ino == linked.st_ino && found.st_dev == linked.st_dev;
    bool known = (rec->bits & REC_SIZED) && (rec->bits & REC_CRLF) && !from->store->opt.coexist;
    if (same && (!known || (uint64_t)found.st_size == rec->size))
        return OK;
    /* Of another size: it may have the other line ends. */
    if (same && body_read_file(from, fd, &body, err) == OK) {
        same = body.content.n == rec->size;
        store_body_release(&body);
        if (same)
            return OK;
    }
    return error_set(err, ERR_NOT_FOUND, "the file of message %u is not whole", rec->uid);
}

static int link_file(struct box *from, const struct disk_rec *rec, struct box *to, struct copy *c,
    bool sync, struct error *err)
{
    char target[FILE_NAME_MAX];
    int fd, rc = file_open(from, rec, &fd, err);
    if (rc)
        return rc;
    if (sync && fs_data_sync(fd))
        rc = error_sys(err, "syncing a message");
    c->from = rec->uid;
    c->keywords = rec->keywords;
    c->op = (struct op){.type = OP_APPEND, .rec = *rec};
    c->op.rec.name = c->op.rec.cache = 0;
    c->op.rec.bits = rec->bits & (REC_SIZED | REC_CRLF);
    c->op.rec.file_flags = to->store->opt.coexist ? rec->flags : 0;
    c->op.rec.saved = fs_time();
    guid_copy(to->store, rec->guid, c->op.rec.guid);
    file_path(to, &c->op.rec, target);
    if (!rc)
        rc = file_link(from, rec, to->dirfd, target, err);
    if (!rc && (rc = check_link(from, rec, fd, to, &c->op.rec, err)))
        file_unlink(to, &c->op.rec);
    fs_close(&fd);
    return rc;
}

static int sync_links(struct box *from, struct box *to, size_t n, struct error *err)
{
    if (n > SYNC_EACH_MAX && fs_sync_all(from->ixfd))
        return error_sys(err, "syncing messages");
    return maildir_sync(to, "cur", err);
}

/* The source's keywords by name in the target. */
static int map_keywords(
    struct box *from, struct box *to, struct copy *c, size_t n, struct error *err)
{
    struct slice names[STORE_KEYWORDS_MAX];
    uint64_t bit[STORE_KEYWORDS_MAX], all = 0, ignored;
    size_t nnames = 0;
    for (size_t i = 0; i < n; i++)
        all |= c[i].keywords;
    uint32_t next = (uint32_t)to->nkeywords;
    for (size_t k = 0; k < from->nkeywords; k++) {
        bit[k] = 0;
        if (!(all >> k & 1))
            continue;
        struct slice name = slice_of(from->keywords[k]);
        int there = box_keyword(to, name);
        if (there < 0) {
            names[nnames++] = name;
            there = (int)next++;
        }
        if (there < STORE_KEYWORDS_MAX)
            bit[k] = (uint64_t)1 << there;
    }
    for (size_t i = 0; i < n; i++) {
        c[i].op.rec.keywords = 0;
        for (size_t k = 0; k < from->nkeywords; k++)
            if (c[i].keywords >> k & 1)
                c[i].op.rec.keywords |= bit[k];
    }
    return box_keywords_define(to, names, nnames, &ignored, err);
}

/* Files lie in the folder before they have records: a rebuild or a scan in between takes them for
 * new messages. These are the records since `since` was the next UID. */
static uint32_t find_adopted(struct box *to, struct copy *c, size_t n, uint32_t since)
{
    uint32_t found = 0;
    for (size_t pos = box_find(to, since); pos < box_count(to); pos++) {
        const struct disk_rec *rec = box_rec(to, pos);
        for (size_t i = 0; i < n && !(rec->bits & REC_GONE); i++) {
            if (c[i].there || memcmp(rec->guid, c[i].op.rec.guid, STORE_GUID) != 0)
                continue;
            c[i].there = true;
            c[i].op.rec.uid = rec->uid;
            found++;
            break;
        }
    }
    return found;
}

static void put_flags(struct box *b, const struct disk_rec *rec)
{
    uint32_t range[2] = {rec->uid, rec->uid};
    /* Added, as somebody may have changed it since it was found; with coexistence its name told the
     * flags. */
    txn_op(&b->txn, &(struct op){.type = OP_FLAGS,
                        .number = STORE_ADD,
                        .flags = b->store->opt.coexist ? 0 : rec->flags,
                        .keywords = rec->keywords,
                        .ranges = slice_from(range, sizeof(range))});
}

static int commit_copies(
    struct box *from, struct box *to, struct copy *c, size_t n, uint32_t since, struct error *err)
{
    uint32_t used = 0, news = (uint32_t)n - find_adopted(to, c, n, since);
    int rc = box_reserve(to, news, err);
    if (rc)
        return rc;
    box_begin(to);
    rc = map_keywords(from, to, c, n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        if (c[i].there) {
            put_flags(to, &c[i].op.rec);
            continue;
        }
        struct store_cache ignored;
        const struct disk_rec *source = box_find_rec(from, c[i].from);
        c[i].op.rec.uid = to->head.uidnext + used++;
        if (source && cache_get(from, source, &ignored) == OK) {
            rc = cache_put(
                to, &c[i].op.rec, &from->cached, &c[i].op.rec.cache, &c[i].op.cache_end, err);
            if (!rc)
                to->head.cache_end = c[i].op.cache_end;
        }
        txn_op(&to->txn, &c[i].op);
    }
    if (!rc)
        rc = box_commit(to, news, true, err);
    return rc ? rc : box_sync_log(to, err);
}

static void report_copies(
    const struct box *to, const struct copy *c, size_t n, struct store_copied *out)
{
    *out = (struct store_copied){.uidvalidity = to->head.uidvalidity, .n = n};
    out->from = xcalloc(n, sizeof(*out->from));
    out->to = xcalloc(n, sizeof(*out->to));
    for (size_t i = 0; i < n; i++) {
        out->from[i] = c[i].from;
        out->to[i] = c[i].op.rec.uid;
    }
}

int store_copy(struct store_mailbox *mb, const struct uidset *uids, struct slice folder,
    struct store_copied *out, struct error *err)
{
    const struct store_permitted all = {.flags = UINT32_MAX, .keywords = true};
    return store_copy_to(mb, uids, mb->store, folder, &all, out, err);
}

int store_copy_to(struct store_mailbox *mb, const struct uidset *uids, struct store *target,
    struct slice folder, const struct store_permitted *may, struct store_copied *out,
    struct error *err)
{
    struct box *to;
    *out = (struct store_copied){0};
    int rc = store_box(target, folder, &to, err);
    if (!rc)
        rc = maildir_make(to->dirfd, err);
    if (!rc)
        rc = journal_founded(target, to->ixfd, err);
    if (rc)
        return rc;
    rc = box_catch_up(to, err);
    if (rc)
        return rc;
    uint32_t since = to->head.uidnext, validity = to->head.uidvalidity;
    size_t n = 0, total = 0;
    EACH_IN(mb, uids, counted)
    {
        (void)counted;
        total++;
    }
    struct copy *copies = xcalloc(total, sizeof(*copies));
    EACH_IN(mb, uids, rec)
    {
        if (rc)
            break;
        struct disk_rec kept = *rec;
        kept.flags = (uint8_t)(seen_flags(mb->seen, rec->uid, rec->flags) & may->flags);
        kept.keywords = may->keywords ? rec->keywords : 0;
        rc = link_file(mb->box, &kept, to, &copies[n], total <= SYNC_EACH_MAX, err);
        n += !rc;
    }
    if (!rc && n)
        rc = sync_links(mb->box, to, n, err);
    if (!rc && n)
        rc = box_lock(to, err);
    if (!rc && n) {
        since = validity == to->head.uidvalidity ? since : 1;
        rc = commit_copies(mb->box, to, copies, n, since, err);
        if (!rc)
            report_copies(to, copies, n, out);
        box_unlock(to);
    }
    for (size_t i = 0; rc && i < n; i++)
        file_discard(to, &copies[i].op.rec);
    if (!rc && n)
        box_announce(to);
    free(copies);
    return rc;
}

void store_copied_clear(struct store_copied *c)
{
    free(c->from);
    free(c->to);
    *c = (struct store_copied){0};
}
