#include "libstore/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "libutil/crc32c.h"

enum {
    JOURNAL_SIZE = 4 << 20,             /* of one that is made now */
    JOURNAL_MIN = 2 * JOURNAL_BODY_MAX, /* room for the largest entry */
    JOURNAL_MAX = 64 << 20,
    JOURNAL_START = 64, /* entries begin here */
    JOURNAL_MAGIC = 0x314e524a,
    ENTRY_MAX = 2 * JOURNAL_BODY_MAX,
    NEWEST = 20000
};

static const char journal_name[] = "veredus.journal", head_magic[8] = "VRDJRNL";

/* Written when the file is filled and its name is on disk: then entries may be relied on. */
struct journal_head {
    char magic[8];
    uint32_t crc; /* of what follows */
    uint32_t version;
    uint64_t size;
};

struct entry {
    uint32_t magic;
    uint32_t length; /* with this header, a multiple of 8 */
    uint32_t crc;    /* of what follows, without padding */
    uint32_t version;
    uint64_t generation, number;
    uint64_t sequence;
    int64_t boot;
    uint32_t uidvalidity;
    uint32_t n[4]; /* folder, operation, keywords, content */
    uint32_t spare;
    uint64_t mailbox; /* the folder's object id: it may have another name now */
};
_Static_assert(sizeof(struct entry) == 80, "header size is part of the format");

static uint32_t entry_size(const struct entry *e)
{
    return (uint32_t)sizeof(*e) + e->n[0] + e->n[1] + e->n[2] + e->n[3];
}

static bool entry_plausible(const struct entry *e, size_t room)
{
    for (size_t i = 0; i < ARRAY_LEN(e->n); i++)
        if (e->n[i] > ENTRY_MAX)
            return false;
    return e->magic == JOURNAL_MAGIC && e->version == FORMAT_VERSION && e->length <= room &&
           entry_size(e) <= e->length;
}

static uint32_t head_crc(const struct journal_head *h)
{
    return crc32c(0, slice_from(&h->version, sizeof(*h) - offsetof(struct journal_head, version)));
}

/* OK; ERR_CORRUPT: it has to be made anew; ERR_VERSION. */
static int check_head(const struct journal_head *h, uint64_t file_size, struct error *err)
{
    if (memcmp(h->magic, head_magic, sizeof(h->magic)) != 0 || h->crc != head_crc(h))
        return ERR_CORRUPT;
    if (h->version > FORMAT_VERSION)
        return error_set(err, ERR_VERSION, "%s was written by a newer release", journal_name);
    return h->size >= JOURNAL_MIN && h->size <= JOURNAL_MAX && h->size <= file_size ? OK
                                                                                    : ERR_CORRUPT;
}

static int read_head(int fd, uint64_t *size, struct error *err)
{
    struct journal_head h;
    struct stat st;
    if (fs_fstat(fd, &st))
        return error_sys(err, "%s", journal_name);
    int rc = io_read(fd, &h, sizeof(h), 0, err);
    if (!rc)
        rc = check_head(&h, (uint64_t)st.st_size, err);
    if (!rc)
        *size = h.size;
    return rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Zeros to its full size, so that no block has to be found later. */
static int fill(int fd, uint64_t size, struct error *err)
{
    enum { STEP = 256 * 1024 };
    char *zeros = xcalloc(1, STEP);
    int rc = OK;
    for (uint64_t at = 0; !rc && at < size; at += STEP)
        rc = io_write(fd, slice_from(zeros, MIN(STEP, size - at)), (int64_t)at, err, journal_name);
    free(zeros);
    if (!rc && fs_data_sync(fd))
        rc = error_sys(err, "syncing %s", journal_name);
    return rc;
}

/* Locked. Whatever entries are there, nothing needs them when all is synced. */
static int make(struct store *s, int fd, uint64_t size, struct error *err)
{
    struct journal_head h = {.version = FORMAT_VERSION, .size = size};
    memcpy(h.magic, head_magic, sizeof(h.magic));
    h.crc = head_crc(&h);
    if (fs_sync_all(s->fd))
        return error_sys(err, "syncing the mail directory");
    int rc = fill(fd, size, err);
    if (!rc && fs_sync(s->fd))
        rc = error_sys(err, "syncing the mail directory");
    return rc ? rc : io_write(fd, slice_from(&h, sizeof(h)), 0, err, journal_name);
}

int journal_make(struct store *s, uint64_t size, struct error *err)
{
    int fd = fs_open(s->fd, journal_name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "opening %s", journal_name);
    int rc = io_lock(fd, err);
    if (!rc)
        rc = read_head(fd, &s->journal.size, err);
    if (rc == ERR_CORRUPT) {
        s->journal.size = size;
        rc = make(s, fd, size, err);
    }
    fs_lock(fd, F_UNLCK);
    if (rc) {
        fs_close(&fd);
        return rc;
    }
    s->journal.fd = fd;
    s->journal.at = JOURNAL_START;
    return OK;
}

static int open_journal(struct store *s, struct error *err)
{
    return s->journal.fd >= 0 ? OK : journal_make(s, JOURNAL_SIZE, err);
}

/* Locked: goes behind the last entry, of whatever generation is there now. */
static int find_end(struct journal *j, struct error *err)
{
    struct entry e;
    int rc = io_read(j->fd, &e, sizeof(e), JOURNAL_START, err);
    if (rc)
        return rc;
    bool any = entry_plausible(&e, j->size - JOURNAL_START) && e.number == 0;
    if (!any || e.generation != j->generation) {
        j->generation = e.generation;
        j->number = 0;
        j->at = JOURNAL_START;
    }
    /* Never one that entries further behind may have. */
    if (!any && fs_random(&j->generation, sizeof(j->generation)))
        return error_sys(err, "random numbers");
    while (any && j->at + sizeof(e) <= j->size) {
        rc = io_read(j->fd, &e, sizeof(e), j->at, err);
        if (rc || !entry_plausible(&e, j->size - j->at) || e.generation != j->generation ||
            e.number != j->number)
            break;
        j->at += e.length;
        j->number++;
    }
    return rc;
}

/* Locked: what the entries tell is on disk by itself now. */
static int begin_anew(struct store *s, struct error *err)
{
    if (fs_sync_all(s->fd))
        return error_sys(err, "syncing the mail directory");
    s->journal.generation++;
    s->journal.number = 0;
    s->journal.at = JOURNAL_START;
    return OK;
}

static int put_entry(struct store *s, struct buf *image, struct error *err)
{
    struct journal *j = &s->journal;
    struct entry e;
    int rc = find_end(j, err);
    if (!rc && j->at + buf_len(image) > j->size)
        rc = begin_anew(s, err);
    if (rc)
        return rc;
    char *p = image->data + image->off;
    memcpy(&e, p, sizeof(e));
    e.generation = j->generation;
    e.number = j->number;
    memcpy(p, &e, sizeof(e));
    size_t from = offsetof(struct entry, crc) + 4;
    e.crc = crc32c(0, slice_from(p + from, entry_size(&e) - from));
    memcpy(p, &e, sizeof(e));
    rc = io_write(j->fd, buf_slice(image), (int64_t)j->at, err, journal_name);
    if (!rc) {
        j->at += e.length;
        j->number++;
    }
    return rc;
}

int journal_add(struct store *s, const struct journal_note *n, struct error *err)
{
    struct buf image, op;
    struct slice folder = slice_of(n->box->disk);
    buf_init(&op, 1024);
    txn_op(&op, n->op);
    struct entry e = {.magic = JOURNAL_MAGIC,
        .version = FORMAT_VERSION,
        .sequence = n->sequence,
        .boot = fs_boot(),
        .uidvalidity = n->box->head.uidvalidity,
        .mailbox = n->box->head.mailbox_id,
        .n = {(uint32_t)folder.n, (uint32_t)buf_len(&op), (uint32_t)n->keywords.n,
            (uint32_t)n->content.n}};
    e.length = (entry_size(&e) + 7) / 8 * 8;
    buf_init(&image, e.length);
    char *room = buf_reserve(&image, e.length);
    assert(room && !op.failed);
    buf_put(&image, slice_from(&e, sizeof(e)));
    buf_put(&image, folder);
    buf_put(&image, buf_slice(&op));
    buf_put(&image, n->keywords);
    buf_put(&image, n->content);
    buf_put(&image, slice_from("\0\0\0\0\0\0\0", e.length - entry_size(&e)));
    int rc = open_journal(s, err);
    if (!rc)
        rc = io_lock(s->journal.fd, err);
    if (!rc) {
        rc = put_entry(s, &image, err);
        fs_lock(s->journal.fd, F_UNLCK);
    }
    if (!rc && fs_data_sync(s->journal.fd))
        rc = error_sys(err, "syncing %s", journal_name);
    buf_clear(&image);
    buf_clear(&op);
    return rc;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* An entry as it was written. */
struct lost {
    struct entry head;
    struct slice folder, op, keywords, content;
    bool done;
};

static bool take_entry(struct slice *rest, struct lost *l)
{
    if (rest->n < sizeof(l->head))
        return false;
    memcpy(&l->head, rest->p, sizeof(l->head));
    size_t from = offsetof(struct entry, crc) + 4;
    if (!entry_plausible(&l->head, rest->n))
        return false;
    uint32_t crc = crc32c(0, slice_from(rest->p + from, entry_size(&l->head) - from));
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
    if (l->head.sequence <= durable && l->head.uidvalidity == b->head.uidvalidity)
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
    if (!rc && fs_data_sync(b->log_fd))
        rc = error_sys(err, "syncing veredus.log");
    return rc;
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

static int restore_folder(
    struct store *s, const struct lost *key, struct lost *l, size_t n, struct error *err)
{
    char disk[NAME_DISK_MAX];
    struct box *b;
    bool again = false;
    int rc = find_folder(s, key, disk, err);
    if (!rc)
        rc = box_open_dir(s, disk, &b, err);
    if (rc)
        return rc == ERR_NOT_FOUND ? OK : rc; /* the folder was deleted since */
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

/* The front of the journal, so that no entry counts any more. */
static int forget(struct store *s, struct error *err)
{
    const struct entry none = {0};
    int rc = begin_anew(s, err);
    if (!rc)
        rc = io_write(
            s->journal.fd, slice_from(&none, sizeof(none)), JOURNAL_START, err, journal_name);
    if (!rc && fs_data_sync(s->journal.fd))
        rc = error_sys(err, "syncing %s", journal_name);
    return rc;
}

/* Within a folder: by UID. Entries come when their appends end, which may be in another order. */
static int by_sequence(const void *a, const void *b)
{
    const struct lost *x = a, *y = b;
    return x->head.sequence < y->head.sequence ? -1 : x->head.sequence > y->head.sequence;
}

static int replay_locked(struct store *s, struct error *err)
{
    struct buf image;
    size_t n = 0;
    buf_init(&image, JOURNAL_MAX + 65536);
    int rc = io_slurp(s->fd, journal_name, &image, err);
    struct lost *lost = rc ? NULL : take_entries(buf_slice(&image), &n);
    int64_t moved = n ? fs_boot() - lost[0].head.boot : 0;
    uint64_t generation = n ? lost[0].head.generation : 0;
    if (n)
        qsort(lost, n, sizeof(*lost), by_sequence);
    bool needed = moved < -BOOT_TOLERANCE || moved > BOOT_TOLERANCE;
    for (size_t i = 0; needed && !rc && i < n; i++)
        if (!lost[i].done)
            rc = restore_folder(s, &lost[i], lost, n, err);
    if (needed && !rc) {
        s->journal.generation = generation;
        rc = forget(s, err);
    }
    free(lost);
    buf_clear(&image);
    return rc;
}

static bool boot_differs(int fd)
{
    struct entry e;
    struct error ignored;
    if (io_read(fd, &e, sizeof(e), JOURNAL_START, &ignored) || e.magic != JOURNAL_MAGIC)
        return false;
    int64_t moved = fs_boot() - e.boot;
    return moved < -BOOT_TOLERANCE || moved > BOOT_TOLERANCE;
}

int journal_replay(struct store *s, struct error *err)
{
    int fd = fs_open(s->fd, journal_name, O_RDWR | O_NOFOLLOW, 0);
    if (fd < 0)
        return errno == ENOENT ? OK : error_sys(err, "opening %s", journal_name);
    uint64_t size = 0;
    int rc = read_head(fd, &size, err);
    if (rc) {
        fs_close(&fd);
        return rc == ERR_CORRUPT ? OK : rc; /* nothing was ever promised by it */
    }
    s->journal = (struct journal){.fd = fd, .at = JOURNAL_START, .size = size};
    if (boot_differs(fd)) {
        rc = io_lock(fd, err);
        if (!rc)
            rc = replay_locked(s, err);
        fs_lock(fd, F_UNLCK);
    }
    return rc;
}

int journal_settle(struct store *s, struct error *err)
{
    if (s->journal.fd < 0)
        return OK;
    int rc = io_lock(s->journal.fd, err);
    if (!rc)
        rc = find_end(&s->journal, err);
    if (!rc && s->journal.number)
        rc = forget(s, err);
    fs_lock(s->journal.fd, F_UNLCK);
    return rc;
}
