/* Reading the journal after a stop of the machine, and putting back what was lost. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "libstore/journalfile.h"
#include "libutil/crc32c.h"

enum { NEWEST = 20000 };

/* An entry as it was written. */
struct lost {
    struct journal_entry head;
    struct slice folder, op, keywords, content;
    bool done;
};

static bool take_entry(struct slice *rest, struct lost *l)
{
    if (rest->n < sizeof(l->head))
        return false;
    memcpy(&l->head, rest->p, sizeof(l->head));
    size_t from = offsetof(struct journal_entry, crc) + 4;
    if (!journal_plausible(&l->head, rest->n))
        return false;
    uint32_t crc = crc32c(0, slice_from(rest->p + from, journal_entry_size(&l->head) - from));
    struct reader r = reader_of(slice_from_index(*rest, sizeof(l->head)));
    l->folder = get_bytes(&r, l->head.n[0]);
    l->op = get_bytes(&r, l->head.n[1]);
    l->keywords = get_bytes(&r, l->head.n[2]);
    l->content = get_bytes(&r, l->head.n[3]);
    /* A process that died while it wrote leaves such an entry, and others behind it count. */
    l->done = crc != l->head.crc;
    *rest = slice_from_index(*rest, l->head.length);
    return !r.bad;
}

static struct lost *take_entries(struct slice image, size_t *n)
{
    struct lost *all = NULL, next;
    struct slice rest = slice_from_index(image, JOURNAL_START);
    *n = 0;
    while (take_entry(&rest, &next) && next.head.number == *n &&
           (*n == 0 || next.head.generation == all[0].head.generation)) {
        if ((*n & (*n - 1)) == 0)
            all = xrealloc(all, *n ? 2 * *n : 1, sizeof(*all));
        all[(*n)++] = next;
    }
    return all;
}

/* --- putting back ------------------------------------------------------------------------------
 */

static bool file_whole(struct box *b, const struct disk_rec *rec, struct slice content)
{
    struct buf there;
    struct error ignored;
    struct stat st;
    int fd;
    if (file_open(b, rec, &fd, &ignored))
        return false;
    bool whole = fs_fstat(fd, &st) == 0 && (uint64_t)st.st_size == content.n;
    buf_init(&there, content.n + 1);
    char *room = whole ? buf_reserve(&there, content.n + 1) : NULL;
    whole = room && io_read(fd, room, content.n, 0, &ignored) == OK &&
            slice_eq(slice_from(room, content.n), content);
    buf_clear(&there);
    fs_close(&fd);
    return whole;
}

static int write_file(
    struct box *b, const struct disk_rec *rec, struct slice content, struct error *err)
{
    char path[FILE_NAME_MAX];
    if (file_whole(b, rec, content))
        return OK;
    int rc = maildir_make(b->dirfd, err);
    if (!rc)
        rc = io_replace(b->dirfd, "tmp/journal.veredus", content, err);
    if (rc)
        return rc;
    file_where(b, rec, path);
    return fs_rename(b->dirfd, "tmp/journal.veredus", b->dirfd, path)
               ? error_sys(err, "restoring a message")
               : OK;
}

/* Under its UID, or else among the newest, where repairs put what they find. */
static const struct disk_rec *find_same(struct box *b, const struct disk_rec *like)
{
    const struct disk_rec *at = box_find_rec(b, like->uid);
    if (at && memcmp(at->guid, like->guid, STORE_GUID) == 0)
        return at;
    size_t count = box_count(b), first = count > NEWEST ? count - NEWEST : 0;
    for (size_t i = count; i-- > first;) {
        const struct disk_rec *rec = box_rec(b, i);
        if (!(rec->bits & REC_GONE) && memcmp(rec->guid, like->guid, STORE_GUID) == 0)
            return rec;
    }
    return NULL;
}

enum { LATER = 1 };

/* Locked: the record, under its old UID where no other can have come since. Without it only when
 * `any_uid`: when the UIDs that were lost are behind us; otherwise LATER. */
static int put_record(struct box *b, struct lost *l, struct op *op, bool any_uid, struct error *err)
{
    struct slice names[STORE_KEYWORDS_MAX], rest = l->keywords;
    size_t n = 0;
    while (rest.n && n < STORE_KEYWORDS_MAX)
        names[n++] = slice_cut(&rest, '\n');
    bool same = op->rec.uid >= b->head.uidnext && op->rec.uid <= b->head.reserved &&
                l->head.uidvalidity == b->head.uidvalidity;
    uint32_t uids = same ? op->rec.uid - b->head.uidnext + 1 : 1;
    if (!same && !any_uid)
        return LATER;
    int rc = box_reserve(b, uids, err);
    if (rc)
        return rc;
    op->rec.uid = b->head.uidnext + uids - 1;
    op->rec.cache = op->cache_end = 0;
    op->rec.name = 0;
    op->name = (struct slice){0};
    box_begin(b);
    rc = box_keywords_define(b, names, n, &op->rec.keywords, err);
    if (rc)
        return rc;
    txn_op(&b->txn, op);
    return box_commit(b, uids, true, err);
}

/* What came before in this recovery, or one before it that was cut off, may have gone on with
 * greater numbers already. */
static bool may_be_lost(const struct box *b, const struct lost *l, uint64_t durable)
{
    uint64_t is = l->head.sequence;
    return is > durable || (is > b->head.lost_from && is <= b->head.lost_to) ||
           l->head.uidvalidity != b->head.uidvalidity;
}

/* `durable` is the last transaction that the stop of the machine has left; 0: not known. */
static int put_back(struct box *b, struct lost *l, uint64_t durable, struct error *err)
{
    struct reader r = reader_of(l->op);
    struct op op;
    if (!op_next(&r, &op) || op.type != OP_APPEND)
        return OK;
    const struct disk_rec *rec = find_same(b, &op.rec);
    if (rec)
        return write_file(b, rec, l->content, err);
    if (!may_be_lost(b, l, durable))
        return OK; /* expunged since */
    if (box_has_tomb(b, op.rec.guid))
        return OK;
    int rc = write_file(b, &op.rec, l->content, err);
    return rc ? rc : put_record(b, l, &op, durable == 0, err);
}

static bool same_folder(const struct lost *a, const struct lost *b)
{
    return a->head.mailbox == b->head.mailbox && slice_eq(a->folder, b->folder);
}

/* Those of the folder of `key`. */
static int put_back_all(struct box *b, const struct lost *key, struct lost *l, size_t n,
    uint64_t durable, struct error *err)
{
    const struct lost folder = *key;
    int rc = OK;
    for (size_t i = 0; !rc && i < n; i++) {
        if (l[i].done || !same_folder(&l[i], &folder))
            continue;
        rc = put_back(b, &l[i], durable, err);
        l[i].done = rc == OK;
        rc = rc == LATER ? OK : rc;
    }
    return rc ? rc : box_sync_log(b, err);
}

/* Before anyone else writes to the log after the stop, so that the lost UIDs are still free. The
 * torn end of the log goes; *again: the folder must be read anew for what was in it. */
static int restore_quietly(
    struct box *b, const struct lost *key, struct lost *l, size_t n, bool *again, struct error *err)
{
    bool switched = false;
    enum txn_state state = TXN_END;
    int rc = box_load(b, err);
    if (!rc)
        rc = io_lock(b->log_fd, err);
    if (!rc)
        rc = box_follow(b, &switched, &state, err);
    if (!rc && (switched || box_check_all(b)))
        rc = ERR_CORRUPT;
    if (!rc && state == TXN_TORN) {
        *again = true;
        if (fs_truncate(b->log_fd, (off_t)b->log_off))
            rc = error_sys(err, "veredus.log");
    }
    if (!rc) {
        b->locked = true;
        rc = put_back_all(b, key, l, n, b->head.sequence, err);
        b->locked = false;
        fs_lock(b->log_fd, F_UNLCK);
    }
    box_unload(b);
    return rc;
}

static bool has_id(struct store *s, const char *disk, uint64_t mailbox)
{
    struct box *b;
    struct disk_log log;
    struct error ignored;
    if (box_open_dir(s, disk, &b, &ignored))
        return false;
    bool same = box_open_log(b, &b->log_fd, &log, &ignored) == OK && log.mailbox_id == mailbox;
    box_close(b);
    return same;
}

/* A folder may have been renamed after the append began, and another may have its name now. */
static int find_folder(
    struct store *s, const struct lost *key, char disk[NAME_DISK_MAX], struct error *err)
{
    struct store_folder *folders;
    char other[NAME_DISK_MAX];
    size_t n;
    if (!slice_to_cstr(key->folder, disk, NAME_DISK_MAX))
        return ERR_NOT_FOUND;
    if (has_id(s, disk, key->head.mailbox))
        return OK;
    int rc = store_list(s, &folders, &n, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (!(folders[i].attrs & STORE_NOSELECT) && name_to_disk(folders[i].name, other) == OK &&
            has_id(s, other, key->head.mailbox)) {
            snprintf(disk, NAME_DISK_MAX, "%s", other);
            break;
        }
    store_list_free(folders, n);
    return OK; /* in none: one that has lost its id is better than none */
}

/* Deleting a folder settles the journal, so this one was made and not yet on disk. */
static int make_folder(struct store *s, const struct lost *key, struct box **b, struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct buf name;
    if (!slice_to_cstr(key->folder, disk, sizeof(disk)))
        return ERR_SYNTAX;
    buf_init(&name, STORE_NAME_MAX * 4);
    int rc = name_from_disk(slice_of(disk), &name);
    if (!rc)
        rc = store_create_locked(s, buf_slice(&name), err);
    buf_clear(&name);
    return rc ? rc : box_open_dir(s, disk, b, err);
}

static int restore_folder(
    struct store *s, const struct lost *key, struct lost *l, size_t n, struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct box *b;
    bool again = false;
    int rc = find_folder(s, key, disk, err);
    if (!rc)
        rc = box_open_dir(s, disk, &b, err);
    if (rc == ERR_NOT_FOUND)
        rc = make_folder(s, key, &b, err);
    if (rc)
        return rc == ERR_SYNTAX ? OK : rc;
    rc = restore_quietly(b, key, l, n, &again, err);
    box_close(b);
    if (rc && rc != ERR_CORRUPT && rc != ERR_NOT_FOUND)
        return rc;
    /* Whatever could not be read is made anew; then what is still missing is added. */
    rc = box_open(s, disk, &b, err);
    if (rc)
        return rc;
    rc = box_lock(b, err);
    if (!rc) {
        rc = put_back_all(b, key, l, n, 0, err);
        box_unlock(b);
    }
    box_close(b);
    return !rc && again ? box_rebuild(s, disk, true, err) : rc;
}

/* Within a folder: by UID. Entries come when their appends end, which may be in another order. */
static int by_sequence(const void *a, const void *b)
{
    const struct lost *x = a, *y = b;
    return x->head.sequence < y->head.sequence ? -1 : x->head.sequence > y->head.sequence;
}

static int replay_entries(struct store *s, struct error *err)
{
    struct buf image;
    size_t n = 0;
    buf_init(&image, JOURNAL_MAX + 65536);
    int rc = io_slurp(s->fd, JOURNAL_NAME, &image, err);
    struct lost *lost = rc ? NULL : take_entries(buf_slice(&image), &n);
    uint64_t generation = n ? lost[0].head.generation : 0;
    if (n)
        qsort(lost, n, sizeof(*lost), by_sequence);
    for (size_t i = 0; !rc && i < n; i++)
        if (!lost[i].done)
            rc = restore_folder(s, &lost[i], lost, n, err);
    if (n && !rc) {
        s->journal.generation = generation;
        rc = journal_forget(s, err);
    }
    free(lost);
    buf_clear(&image);
    return rc;
}

/* Locked. The witness is noted when nothing needs the entries any more; should that be lost, all is
 * done once more. */
static int replay_locked(struct store *s, struct error *err)
{
    struct journal_head h;
    uint32_t mount;
    int rc = journal_read_head(s->journal.fd, &h, &mount, err);
    if (rc || witness_holds(&h.witness, mount))
        return rc;
    rc = replay_entries(s, err);
    witness_note(&h.witness, fs_boot(), mount);
    return rc ? rc : journal_write_head(s->journal.fd, &h, err);
}

int journal_replay(struct store *s, struct error *err)
{
    int fd = fs_open(s->fd, JOURNAL_NAME, O_RDWR | O_NOFOLLOW, 0);
    if (fd < 0)
        return errno == ENOENT ? OK : error_sys(err, "opening %s", JOURNAL_NAME);
    struct journal_head h;
    uint32_t mount;
    int rc = journal_read_head(fd, &h, &mount, err);
    if (rc) {
        fs_close(&fd);
        return rc == ERR_CORRUPT ? OK : rc; /* nothing was ever promised by it */
    }
    s->journal = (struct journal){.fd = fd, .at = JOURNAL_START, .size = h.size};
    if (!witness_holds(&h.witness, mount)) {
        rc = io_lock(fd, err);
        if (!rc)
            rc = replay_locked(s, err);
        fs_lock(fd, F_UNLCK);
    }
    return rc;
}
