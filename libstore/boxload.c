/* Reading the index, and applying transactions to what was read. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libstore/private.h"
#include "libutil/crc32c.h"

int box_open_log(struct box *b, int *fd, struct disk_log *log, struct error *err)
{
    *fd = fs_open(b->dirfd, "veredus.log", O_RDWR | O_NOFOLLOW, 0);
    if (*fd < 0)
        return error_sys(err, "opening veredus.log");
    int rc = io_read(*fd, log, sizeof(*log), 0, err);
    if (!rc)
        rc = log_check(log);
    if (rc == ERR_VERSION)
        error_set(err, rc, "veredus.log was written by a newer release");
    if (rc)
        fs_close(fd);
    return rc;
}

void box_tally(struct box *b, const struct disk_rec *rec, int sign)
{
    uint32_t one = (uint32_t)sign;
    if (rec->bits & REC_GONE)
        return;
    b->live += (size_t)(ptrdiff_t)sign;
    b->head.unseen += rec->flags & STORE_SEEN ? 0 : one;
    b->head.deleted += rec->flags & STORE_DELETED ? one : 0;
    b->head.unsized += rec->bits & REC_SIZED ? 0 : one;
    if (rec->bits & REC_SIZED)
        b->head.bytes += (uint64_t)((int64_t)rec->size * sign);
    if (sign > 0 && !(rec->flags & STORE_SEEN))
        b->head.first_unseen = MIN(b->head.first_unseen, rec->uid);
}

struct disk_rec *box_push(struct box *b, const struct disk_rec *rec)
{
    if (b->nextra == b->cap_extra) {
        b->cap_extra = b->cap_extra ? b->cap_extra * 2 : 16;
        b->extra = xrealloc(b->extra, b->cap_extra, sizeof(*b->extra));
    }
    struct disk_rec *slot = &b->extra[b->nextra++];
    *slot = *rec;
    box_tally(b, slot, 1);
    return slot;
}

void box_add_tomb(struct box *b, const struct disk_rec *rec, uint32_t time)
{
    if (b->ntombs == b->cap_tombs) {
        b->cap_tombs = b->cap_tombs ? b->cap_tombs * 2 : 16;
        b->tombs = xrealloc(b->tombs, b->cap_tombs, sizeof(*b->tombs));
    }
    struct disk_tomb *t = &b->tombs[b->ntombs++];
    *t = (struct disk_tomb){.modseq = rec->modseq, .uid = rec->uid, .time = time};
    memcpy(t->guid, rec->guid, sizeof(t->guid));
}

bool box_has_tomb(const struct box *b, const unsigned char guid[STORE_GUID])
{
    for (size_t i = 0; i < b->ntombs; i++)
        if (memcmp(b->tombs[i].guid, guid, STORE_GUID) == 0)
            return true;
    return false;
}

static void add_delivery(struct box *b, const struct op *op)
{
    if (b->ndeliveries >= 2 * DELIVERIES_MAX) {
        b->ndeliveries = DELIVERIES_MAX;
        memmove(
            b->deliveries, b->deliveries + DELIVERIES_MAX, DELIVERIES_MAX * sizeof(*b->deliveries));
    }
    if (b->ndeliveries == b->cap_deliveries) {
        b->cap_deliveries = b->cap_deliveries ? b->cap_deliveries * 2 : 16;
        b->deliveries = xrealloc(b->deliveries, b->cap_deliveries, sizeof(*b->deliveries));
    }
    b->deliveries[b->ndeliveries++] = (struct disk_delivery){op->delivery, op->rec.uid, op->time};
}

uint32_t box_name(struct box *b, struct slice name)
{
    if (name.n == 0)
        return 0;
    /* Offset 0 means "no name". */
    if (buf_len(&b->names) == 0)
        buf_u8(&b->names, 0);
    uint32_t at = (uint32_t)buf_len(&b->names);
    if (buf_u8(&b->names, (uint8_t)name.n) || buf_put(&b->names, name))
        return 0;
    return at;
}

static int apply_append(struct box *b, const struct disk_txn *txn, const struct op *op)
{
    uint32_t last = box_count(b) ? box_rec(b, box_count(b) - 1)->uid : 0;
    if (op->rec.uid <= last || op->rec.uid < b->head.uidnext || op->rec.uid >= txn->uidnext)
        return ERR_CORRUPT;
    struct disk_rec rec = op->rec;
    rec.modseq = txn->sequence;
    rec.name = box_name(b, op->name);
    if (op->name.n && !rec.name)
        return ERR_CORRUPT;
    if (op->cache_end)
        b->head.cache_end = op->cache_end;
    box_push(b, &rec);
    if (op->delivery)
        add_delivery(b, op);
    return OK;
}

static void change_flags(struct disk_rec *rec, const struct op *op)
{
    switch (op->number) {
    case STORE_ADD:
        rec->flags |= (uint8_t)op->flags;
        rec->keywords |= op->keywords;
        break;
    case STORE_REMOVE:
        rec->flags &= (uint8_t)~op->flags;
        rec->keywords &= ~op->keywords;
        break;
    default:
        rec->flags = (uint8_t)op->flags;
        rec->keywords = op->keywords;
        break;
    }
}

static void apply_ranges(struct box *b, const struct disk_txn *txn, const struct op *op)
{
    uint32_t min, max;
    for (size_t i = 0; op_range(op, i, &min, &max); i++) {
        for (size_t pos = box_find(b, min); pos < box_count(b); pos++) {
            struct disk_rec *rec = box_rec(b, pos);
            if (rec->uid > max)
                break;
            if (rec->bits & REC_GONE)
                continue;
            box_tally(b, rec, -1);
            rec->modseq = txn->sequence;
            if (op->type == OP_EXPUNGE) {
                box_add_tomb(b, rec, op->time);
                rec->bits |= REC_GONE;
            } else {
                change_flags(rec, op);
                rec->bits |= REC_DIRTY;
            }
            box_tally(b, rec, 1);
        }
    }
}

static int apply_keyword(struct box *b, const struct op *op)
{
    if (op->number >= STORE_KEYWORDS_MAX || op->number > b->nkeywords)
        return ERR_CORRUPT;
    if (op->number == b->nkeywords)
        b->keywords[b->nkeywords++] = xmemdup0(op->name.p, op->name.n);
    return OK;
}

static void apply_record(struct box *b, const struct op *op)
{
    struct disk_rec *rec = box_find_rec(b, op->rec.uid);
    if (op->type == OP_META && op->cache_end)
        b->head.cache_end = op->cache_end;
    if (!rec)
        return;
    box_tally(b, rec, -1);
    uint16_t memory = rec->bits & (uint16_t)~REC_DISK;
    rec->bits = op->rec.bits | memory;
    if (op->type == OP_META) {
        rec->cache = op->rec.cache;
        rec->size = op->rec.size;
    } else {
        rec->file_flags = op->rec.file_flags;
    }
    box_tally(b, rec, 1);
}

static int apply_op(struct box *b, const struct disk_txn *txn, const struct op *op)
{
    switch (op->type) {
    case OP_APPEND:
        return apply_append(b, txn, op);
    case OP_FLAGS:
    case OP_EXPUNGE:
        apply_ranges(b, txn, op);
        return OK;
    case OP_KEYWORD:
        return apply_keyword(b, op);
    case OP_RECENT:
        b->head.first_recent = op->number;
        return OK;
    case OP_BOOT:
        b->head.boot = (int64_t)op->a;
        return OK;
    case OP_META:
    case OP_FILE:
        apply_record(b, op);
        return OK;
    case OP_SCAN:
        b->head.cur_mtime = op->a;
        b->head.new_mtime = op->b;
        return OK;
    }
    return ERR_CORRUPT;
}

int box_apply(struct box *b, const struct disk_txn *txn, struct slice ops)
{
    struct reader r = reader_of(ops);
    struct op op;
    if (txn->uidnext < b->head.uidnext || txn->sequence <= b->head.sequence)
        return ERR_CORRUPT;
    while (op_next(&r, &op))
        if (apply_op(b, txn, &op))
            return ERR_CORRUPT;
    if (r.bad)
        return ERR_CORRUPT;
    b->head.uidnext = txn->uidnext;
    b->head.reserved = txn->reserved;
    b->head.sequence = txn->sequence;
    if (txn->visible)
        b->head.modseq = txn->sequence;
    return OK;
}

/* What follows the records: checked as a whole. */
static int take_tail(struct box *b, struct slice tail)
{
    struct reader r = reader_of(tail);
    struct slice tombs = get_bytes(&r, (size_t)b->head.ntombs * sizeof(struct disk_tomb));
    struct slice ids = get_bytes(&r, (size_t)b->head.ndeliveries * sizeof(struct disk_delivery));
    struct reader words = reader_of(get_bytes(&r, b->head.keywords_len));
    struct slice names = get_bytes(&r, b->head.names_len);
    if (!reader_done(&r) || crc32c(0, tail) != b->head.tail_crc)
        return ERR_CORRUPT;
    b->ntombs = b->cap_tombs = b->head.ntombs;
    b->tombs = xcalloc(b->ntombs, sizeof(*b->tombs));
    if (tombs.n)
        memcpy(b->tombs, tombs.p, tombs.n);
    b->ndeliveries = b->cap_deliveries = b->head.ndeliveries;
    b->deliveries = xcalloc(b->ndeliveries, sizeof(*b->deliveries));
    if (ids.n)
        memcpy(b->deliveries, ids.p, ids.n);
    while (words.rest.n && b->nkeywords < STORE_KEYWORDS_MAX) {
        struct slice word = get_bytes(&words, get_u8(&words));
        b->keywords[b->nkeywords++] = xmemdup0(word.p, word.n);
    }
    if (buf_put(&b->names, names) || words.bad)
        return ERR_CORRUPT;
    return OK;
}

/* Records are valid, in ascending order, and their names lie in the name section. */
static bool record_good(const struct box *b, const struct disk_rec *rec, uint32_t last)
{
    if (!rec_valid(rec) || rec->uid <= last || rec->uid >= b->head.uidnext)
        return false;
    if (rec->name == 0)
        return true;
    struct slice at = slice_from_index(buf_slice(&b->names), rec->name);
    return at.n > 1 && (size_t)(unsigned char)at.p[0] < at.n && at.p[0] != 0;
}

static int take_records(struct box *b, bool lenient)
{
    uint32_t last = 0;
    for (size_t i = 0; i < b->nbase; i++) {
        struct disk_rec *rec = &b->base[i];
        if (record_good(b, rec, last))
            last = rec->uid;
        else if (lenient)
            rec->bits = REC_GONE, rec->uid = ++last;
        else
            return ERR_CORRUPT;
    }
    b->live = b->nbase;
    return OK;
}

int box_take_index(struct box *b, bool lenient, struct error *err)
{
    struct slice image = slice_from(b->map, b->map_len);
    if (image.n < sizeof(b->head))
        return error_set(err, ERR_CORRUPT, "veredus.index is too short");
    memcpy(&b->head, image.p, sizeof(b->head));
    int rc = index_check(&b->head);
    if (rc == ERR_VERSION)
        return error_set(err, rc, "veredus.index was written by a newer release");
    if (rc)
        return error_set(err, rc, "header of veredus.index is damaged");
    size_t records = (size_t)b->head.nrecords * sizeof(struct disk_rec);
    if (records > image.n - sizeof(b->head)) {
        if (!lenient)
            return error_set(err, ERR_CORRUPT, "veredus.index is too short");
        records = (image.n - sizeof(b->head)) / sizeof(struct disk_rec) * sizeof(struct disk_rec);
    }
    b->base = (struct disk_rec *)(void *)((char *)b->map + sizeof(b->head));
    b->nbase = records / sizeof(struct disk_rec);
    if (take_tail(b, slice_from_index(image, sizeof(b->head) + records)) && !lenient)
        return error_set(err, ERR_CORRUPT, "veredus.index is damaged behind the records");
    if (take_records(b, lenient))
        return error_set(err, ERR_CORRUPT, "a record of veredus.index is damaged");
    return OK;
}

int box_map_index(struct box *b, struct error *err)
{
    int fd = fs_open(b->dirfd, "veredus.index", O_RDONLY | O_NOFOLLOW, 0), rc = OK;
    struct stat st;
    if (fd < 0)
        return error_sys(err, "opening veredus.index");
    if (fs_fstat(fd, &st))
        rc = error_sys(err, "veredus.index");
    else if (st.st_size < (off_t)sizeof(struct disk_index))
        rc = error_set(err, ERR_CORRUPT, "veredus.index is too short");
    if (!rc) {
        b->map_len = (size_t)st.st_size;
        b->map = mmap(NULL, b->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        if (b->map == MAP_FAILED) {
            b->map = NULL;
            rc = error_sys(err, "mapping veredus.index");
        }
    }
    fs_close(&fd);
    return rc;
}

int box_load(struct box *b, struct error *err)
{
    struct disk_log log = {0};
    /* The log first: the index is then at least as new as what the log continues. */
    int log_rc = box_open_log(b, &b->log_fd, &log, err);
    if (log_rc && log_rc != ERR_NOT_FOUND)
        return log_rc;
    int rc = box_map_index(b, err);
    if (rc == ERR_NOT_FOUND && log_rc == ERR_NOT_FOUND)
        return rc;
    if (rc == ERR_NOT_FOUND || log_rc == ERR_NOT_FOUND)
        return error_set(err, ERR_CORRUPT, "one of veredus.index and veredus.log is missing");
    if (!rc)
        rc = box_take_index(b, false, err);
    if (!rc && (log.sequence > b->head.sequence || log.uidvalidity != b->head.uidvalidity))
        rc = error_set(err, ERR_CORRUPT, "veredus.log does not continue veredus.index");
    b->log_off = sizeof(log);
    return rc;
}

void box_unload(struct box *b)
{
    fs_close(&b->log_fd);
    fs_close(&b->cache_fd);
    b->locked = false;
    if (b->map)
        munmap(b->map, b->map_len);
    if (b->base_heap)
        free(b->base);
    free(b->extra);
    free(b->tombs);
    free(b->deliveries);
    for (size_t i = 0; i < b->nkeywords; i++)
        free(b->keywords[i]);
    buf_clear(&b->names);
    b->map = NULL;
    b->base = b->extra = NULL;
    b->tombs = NULL;
    b->deliveries = NULL;
    b->base_heap = false;
    b->map_len = b->nbase = b->nextra = b->cap_extra = b->live = 0;
    b->ntombs = b->cap_tombs = b->ndeliveries = b->cap_deliveries = b->nkeywords = 0;
    b->head = (struct disk_index){0};
    b->log_off = 0;
}

/* Appends to `out` each old record, as it is now, and then the new ones. */
static int merge(const struct box *now, struct box *old, struct disk_rec **out, size_t *n)
{
    size_t olds = box_count(old), news = box_count(now), j = 0;
    struct disk_rec *all = xcalloc(olds + news, sizeof(*all));
    for (size_t i = 0; i < olds; i++) {
        struct disk_rec *was = box_rec(old, i);
        all[i] = *was;
        const struct disk_rec *is = j < news ? box_rec(now, j) : NULL;
        if (is && is->uid < was->uid)
            goto replaced;
        if (is && is->uid == was->uid) {
            uint16_t dirty = was->modseq != is->modseq ? REC_DIRTY : was->bits & REC_DIRTY;
            all[i] = *is;
            all[i].bits |= dirty;
            j++;
        } else {
            all[i].bits |= REC_GONE;
            all[i].name = 0;
        }
    }
    memcpy(all + olds, news > j ? box_rec(now, j) : all, (news - j) * sizeof(*all));
    *out = all;
    *n = olds + news - j;
    return OK;
replaced:
    free(all);
    return ERR_NOT_FOUND;
}

int box_reload(struct box *b, struct error *err)
{
    struct box old = *b;
    *b = (struct box){.store = old.store,
        .dirfd = old.dirfd,
        .log_fd = -1,
        .cache_fd = -1,
        .keep = old.keep,
        .txn = old.txn,
        .cached = old.cached};
    memcpy(b->disk, old.disk, sizeof(b->disk));
    buf_init(&b->names, old.names.max);
    int rc = box_load(b, err);
    if (!rc && old.keep) {
        struct disk_rec *all;
        size_t n;
        if (b->head.uidvalidity != old.head.uidvalidity || merge(b, &old, &all, &n)) {
            rc = error_set(err, ERR_NOT_FOUND, "the mailbox was replaced");
        } else {
            munmap(b->map, b->map_len);
            b->map = NULL;
            b->base = all;
            b->nbase = n;
            b->base_heap = true;
        }
    }
    if (rc) {
        /* The caller keeps what it had, without a log. */
        box_unload(b);
        *b = old;
        return rc;
    }
    box_unload(&old);
    return OK;
}
