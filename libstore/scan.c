/* coexist: other tools use this Maildir. What they do is found by comparing; what we do follows
 * into the file names, a limited number at a time: when a session has nothing else to do, when it
 * leaves the mailbox, and by housekeeping. A change of flags never waits for it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libstore/private.h"

enum { FILE_FLAGS = STORE_SEEN | STORE_ANSWERED | STORE_FLAGGED | STORE_DELETED | STORE_DRAFT };

static uint64_t mtime_of(int dirfd, const char *name)
{
    struct stat st;
    if (fs_stat(dirfd, name, &st))
        return 0;
    return (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

static void note_times(struct box *b, uint64_t cur, uint64_t new)
{
    txn_op(&b->txn, &(struct op){.type = OP_SCAN, .a = cur, .b = new});
}

static void put_flags(struct box *b, uint32_t uid, enum store_how how, uint8_t flags)
{
    uint32_t range[2] = {uid, uid};
    if (flags)
        txn_op(&b->txn, &(struct op){.type = OP_FLAGS,
                            .number = how,
                            .flags = flags,
                            .ranges = slice_from(range, sizeof(range))});
}

/* The file is there: takes over what changed in its name. */
static bool compare(struct box *b, const struct disk_rec *rec, const struct found_file *file)
{
    bool in_new = rec->bits & REC_NEW;
    if ((file->flags == rec->file_flags && file->in_new == in_new) || found_elsewhere(b, file, rec))
        return false;
    put_flags(b, rec->uid, STORE_ADD, file->flags & (uint8_t)~rec->file_flags);
    put_flags(b, rec->uid, STORE_REMOVE, rec->file_flags & (uint8_t)~file->flags);
    struct op op = {.type = OP_FILE, .rec = *rec};
    op.rec.file_flags = file->flags;
    op.rec.bits = (uint16_t)((rec->bits & ~REC_NEW) | (file->in_new ? REC_NEW : 0));
    txn_op(&b->txn, &op);
    return true;
}

/* Marks known files, adds operations for what changed, and collects records without file. */
static bool compare_all(struct box *b, struct found *f, struct uidset *missing)
{
    char base[FILE_NAME_MAX];
    bool visible = false;
    for (size_t i = 0; i < box_count(b); i++) {
        const struct disk_rec *rec = box_rec(b, i);
        if (rec->bits & REC_GONE)
            continue;
        file_base(b, rec, base);
        struct found_file *file = found_get(f, base);
        if (file)
            file->known = true;
        if (file)
            visible |= compare(b, rec, file);
        else
            uidset_add(missing, rec->uid);
    }
    return visible;
}

/* A file being renamed while we read can be missed; believe it gone when missed twice. */
static int look_again(struct box *b, struct uidset *missing, struct error *err)
{
    struct found again;
    struct uidset gone = {0};
    char base[FILE_NAME_MAX];
    int rc = found_read(b->dirfd, &again, err);
    if (rc)
        return rc;
    for (uint32_t uid = 0; uidset_next(missing, &uid);) {
        file_base(b, box_find_rec(b, uid), base);
        if (!found_get(&again, base))
            uidset_add(&gone, uid);
    }
    found_clear(&again);
    uidset_clear(missing);
    *missing = gone;
    return OK;
}

/* What was expunged without coexistence, but whose process died before it removed the file. */
static void drop_leftovers(struct box *b, struct op *ops, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if (ops[i].name.n == 0 && box_has_tomb(b, ops[i].rec.guid))
            file_discard(b, &ops[i].rec);
        else
            ops[kept++] = ops[i];
    }
    *n = kept;
}

/* From here on there are files whose names and records only this kind of mailbox makes. Should a
 * stop of the machine take the records, but not this, they are looked for before the other kind
 * makes a second file of such a name. */
static int sync_first(struct box *b, struct error *err)
{
    struct error ignored;
    int rc = box_sync_log(b, err);
    if (rc) {
        box_begin(b);
        note_times(b, NOT_COMPARED, NOT_COMPARED);
        (void)!box_commit(b, 0, false, &ignored);
    }
    return rc;
}

static int take_over(struct box *b, struct found *f, struct error *err)
{
    struct uidset missing = {0};
    size_t news = 0;
    bool first = b->head.cur_mtime == NOT_COMPARED;
    /* Reserving is a transaction of its own and comes first. */
    int rc = box_reserve(b, (uint32_t)MIN(f->n, UINT32_MAX / 2), err);
    if (rc)
        return rc;
    box_begin(b);
    bool visible = compare_all(b, f, &missing);
    struct op *ops = found_records(f, b->dirfd, &news);
    if (first)
        drop_leftovers(b, ops, &news);
    if (missing.n)
        rc = look_again(b, &missing, err);
    if (missing.n)
        txn_op(&b->txn, &(struct op){.type = OP_LOST,
                            .time = fs_time(),
                            .ranges = slice_from(missing.ranges, missing.n * 8)});
    for (size_t i = 0; i < news; i++) {
        ops[i].rec.uid = b->head.uidnext + (uint32_t)i;
        txn_op(&b->txn, &ops[i]);
    }
    note_times(b, f->cur_mtime, f->new_mtime);
    visible |= missing.n || news;
    bool moved = f->cur_mtime != b->head.cur_mtime || f->new_mtime != b->head.new_mtime;
    if (!rc && (visible || moved))
        rc = box_commit(b, (uint32_t)news, visible, err);
    if (!rc && first)
        rc = sync_first(b, err);
    free(ops);
    uidset_clear(&missing);
    return rc;
}

static int scan_locked(struct box *b, bool last, struct error *err)
{
    struct found f;
    int rc = found_read(b->dirfd, &f, err);
    if (rc)
        return rc;
    if (last)
        f.cur_mtime = f.new_mtime = NOT_COMPARED;
    rc = take_over(b, &f, err);
    found_clear(&f);
    return rc;
}

static int scan(struct box *b, bool last, struct error *err)
{
    int rc = box_lock(b, err);
    if (rc)
        return rc;
    rc = scan_locked(b, last, err);
    box_unlock(b);
    return rc;
}

int box_know_names(struct box *b, struct error *err)
{
    return b->head.cur_mtime == NAMES_CHANGING ? scan_locked(b, !b->store->opt.coexist, err) : OK;
}

int box_scan(struct box *b, struct error *err)
{
    uint64_t cur = mtime_of(b->dirfd, "cur"), new = mtime_of(b->dirfd, "new");
    bool same = cur == b->head.cur_mtime && new == b->head.new_mtime;
    return cur && new &&same ? OK : scan(b, false, err);
}

int box_scan_last(struct box *b, struct error *err)
{
    /* A guest sees INBOX only, and may not know what an expunged file's end is. */
    bool due = b->head.cur_mtime != NOT_COMPARED && !b->store->opt.single;
    return due ? scan(b, true, err) : OK;
}

void box_note_mode(struct box *b)
{
    if (!b->store->opt.coexist && b->head.cur_mtime != NOT_COMPARED)
        note_times(b, NOT_COMPARED, NOT_COMPARED);
}

/* Letters in an existing name that are not ours stay (keywords of other servers, P). */
static void new_info(const char *path, uint8_t flags, char out[80])
{
    char ours[8];
    const char *info = strstr(path, ":2,");
    size_t n = 0, i = 0;
    info_of(flags, ours);
    for (const char *p = info ? info + 3 : ""; *p && n < 60; p++) {
        if (strchr("DFRST", *p))
            continue;
        while (ours[i] && ours[i] < *p)
            out[n++] = ours[i++];
        out[n++] = *p;
    }
    while (ours[i])
        out[n++] = ours[i++];
    out[n] = '\0';
}

static void write_name(struct box *b, const struct disk_rec *rec)
{
    char from[FILE_NAME_MAX], base[FILE_NAME_MAX], to[2 * FILE_NAME_MAX], info[80];
    uint8_t flags = rec->flags & FILE_FLAGS;
    file_path(b, rec, from);
    struct stat st;
    if (fs_stat(b->dirfd, from, &st) && file_locate(b, rec, from))
        return;
    file_base(b, rec, base);
    new_info(from, flags, info);
    snprintf(to, sizeof(to), "cur/%s:2,%s", base, info);
    if (strcmp(from, to) != 0 && fs_rename(b->dirfd, from, b->dirfd, to))
        return;
    struct op op = {.type = OP_FILE, .rec = *rec};
    op.rec.file_flags = flags;
    op.rec.bits &= (uint16_t)~REC_NEW;
    txn_op(&b->txn, &op);
}

/* A file stays in new/ until a session has seen it. */
static bool name_differs(const struct disk_rec *rec, bool seen)
{
    return !(rec->bits & REC_GONE) && rec_misnamed(rec) && (seen || !(rec->bits & REC_NEW));
}

/* Should we die between names and records, or the records not be written: that a name has a flag
 * which its record does not know must not be taken for the change of another program, later, when
 * the flag was removed. */
static int begin_names(struct box *b, struct error *err)
{
    box_begin(b);
    note_times(b, NAMES_CHANGING, NAMES_CHANGING);
    int rc = box_commit(b, 0, false, err);
    box_begin(b);
    return rc;
}

static int write_names(struct box *b, bool seen, bool *more, struct error *err)
{
    uint64_t cur = b->head.cur_mtime, new = b->head.new_mtime;
    size_t all = box_count(b), renamed = 0;
    for (size_t i = 0; i < all && renamed < NAMES_AT_ONCE; i++) {
        size_t pos = (b->names_pos + i) % all;
        if (!name_differs(box_rec(b, pos), seen))
            continue;
        int rc = renamed ? OK : begin_names(b, err);
        if (rc)
            return rc;
        write_name(b, box_rec(b, pos));
        if (++renamed == NAMES_AT_ONCE)
            b->names_pos = pos + 1;
    }
    *more = renamed == NAMES_AT_ONCE;
    if (renamed == 0)
        return OK;
    note_times(b, cur, new);
    return box_commit(b, 0, false, err);
}

int box_write_names(struct box *b, bool seen, bool *more, struct error *err)
{
    *more = false;
    if (b->head.misnamed == 0 || box_count(b) == 0)
        return OK;
    int rc = box_lock(b, err);
    if (rc)
        return rc;
    /* The other kind of process was here since we looked: what it has left is compared first. */
    if (b->head.cur_mtime != NOT_COMPARED)
        rc = write_names(b, seen, more, err);
    box_unlock(b);
    return rc;
}

void box_idle(struct box *b)
{
    struct error ignored; /* nothing acknowledged depends on it */
    uint32_t now = fs_time();
    bool more;
    if (b->head.misnamed == 0 || now == b->names_time)
        return;
    b->names_time = now;
    (void)!box_write_names(b, true, &more, &ignored);
}

int store_settle(struct store *s, struct slice folder, bool *more, struct error *err)
{
    struct box *b;
    *more = false;
    if (!s->opt.coexist)
        return OK;
    int rc = store_box(s, folder, &b, err);
    if (!rc)
        rc = box_scan(b, err);
    if (!rc)
        rc = box_write_names(b, false, more, err);
    return rc;
}
