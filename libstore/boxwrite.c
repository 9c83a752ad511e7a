/* Folding the log into a new index: written as a stream, so that it costs no memory, and while
 * others write, so that it costs them no time. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "libstore/private.h"
#include "libutil/crc32c.h"

enum { PIECE = 256 * 1024 };

struct writer {
    int fd, rc;
    struct buf buf;
    uint32_t crc;
    struct error *err;
};

static void flush(struct writer *w)
{
    if (!w->rc)
        w->rc = io_write(w->fd, buf_slice(&w->buf), -1, w->err, "veredus.index");
    buf_reset(&w->buf);
}

static void put(struct writer *w, struct slice s)
{
    w->crc = crc32c(w->crc, s);
    buf_put(&w->buf, s);
    if (buf_len(&w->buf) >= PIECE)
        flush(w);
}

/* Live records; names are gathered anew so that those of expunged messages go. */
static void put_records(struct box *b, struct box *cache, struct writer *w, struct disk_index *h)
{
    for (size_t i = 0; i < box_count(b) && !w->rc; i++) {
        const struct disk_rec *now = box_rec(b, i);
        struct disk_rec rec = *now;
        if (rec.bits & REC_GONE)
            continue;
        /* It was good when it was read; what has come into the file since must not get a checksum
         * of ours. */
        if (!b->base_heap && box_is_base(b, now) && !rec_valid(now))
            b->damaged = true;
        if (rec.name) {
            h->names_len += h->names_len == 0;
            rec.name = h->names_len;
            h->names_len += NAME_HEAD + (uint32_t)box_name_at(b, now->name).n;
        }
        if (b->stale_places && box_is_base(b, now))
            rec.cache = 0;
        if (cache->cache_fd >= 0)
            w->rc = cache_compact_one(b, cache, &rec, w->err);
        rec_seal(&rec);
        put(w, slice_from(&rec, sizeof(rec)));
        h->nrecords++;
    }
}

static void put_tail(struct box *b, struct writer *w, struct disk_index *h)
{
    uint32_t oldest = fs_time() - b->store->tomb_days * 86400u;
    w->crc = 0;
    for (size_t i = 0; i < box_tombs(b); i++) {
        const struct disk_tomb *t = box_tomb(b, i);
        if (t->time < oldest) {
            h->tomb_floor = MAX(h->tomb_floor, t->modseq);
            continue;
        }
        put(w, slice_from(t, sizeof(*t)));
        h->ntombs++;
    }
    size_t drop = b->ndeliveries > DELIVERIES_MAX ? b->ndeliveries - DELIVERIES_MAX : 0;
    h->ndeliveries = (uint32_t)(b->ndeliveries - drop);
    if (h->ndeliveries)
        put(w, slice_from(b->deliveries + drop, h->ndeliveries * sizeof(*b->deliveries)));
    h->keywords_len = 0;
    for (size_t i = 0; i < b->nkeywords; i++) {
        struct slice word = slice_of(b->keywords[i]);
        uint8_t n = (uint8_t)word.n;
        put(w, slice_from(&n, 1));
        put(w, word);
        h->keywords_len += 1 + n;
    }
    h->tail_crc = w->crc;
}

static void put_names(struct box *b, struct writer *w)
{
    bool any = false;
    for (size_t i = 0; i < box_count(b) && !w->rc; i++) {
        const struct disk_rec *rec = box_rec(b, i);
        if ((rec->bits & REC_GONE) || rec->name == 0)
            continue;
        if (!any)
            buf_u8(&w->buf, 0);
        any = true;
        box_put_name(&w->buf, box_name_at(b, rec->name));
        if (buf_len(&w->buf) >= PIECE)
            flush(w);
    }
}

static int write_index(struct box *b, struct box *cache, struct error *err)
{
    struct disk_index h = b->head;
    struct writer w = {.err = err};
    h.nrecords = h.ntombs = h.ndeliveries = h.names_len = 0;
    w.fd = fs_open(b->ixfd, "veredus.index.new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (w.fd < 0)
        return error_sys(err, "creating veredus.index");
    buf_init(&w.buf, 2 * PIECE);
    put(&w, slice_from(&h, sizeof(h)));
    put_records(b, cache, &w, &h);
    put_tail(b, &w, &h);
    put_names(b, &w);
    flush(&w);
    buf_clear(&w.buf);
    if (!w.rc && b->damaged)
        w.rc = error_set(err, ERR_CORRUPT, "a record of veredus.index is damaged");
    if (cache->cache_fd >= 0) {
        h.cache_id = cache->head.cache_id;
        h.cache_end = cache->head.cache_end;
        h.cache_records = cache->head.cache_records;
    }
    index_seal(&h);
    if (!w.rc)
        w.rc = io_write(w.fd, slice_from(&h, sizeof(h)), 0, err, "veredus.index");
    if (!w.rc && !b->unsynced && fs_data_sync(w.fd))
        w.rc = error_sys(err, "syncing veredus.index");
    fs_close(&w.fd);
    if (w.rc)
        fs_unlink(b->ixfd, "veredus.index.new", 0);
    else
        b->head.tomb_floor = h.tomb_floor;
    return w.rc;
}

static int name_index(struct box *b, struct error *err)
{
    if (fs_rename(b->ixfd, "veredus.index.new", b->ixfd, "veredus.index") == 0)
        return OK;
    int rc = error_sys(err, "renaming veredus.index");
    fs_unlink(b->ixfd, "veredus.index.new", 0);
    return rc;
}

/* Should we die between the new index and the new log, others must not go on with the old one: what
 * they add would have numbers above those that only the new index knows. So the old log ends with a
 * transaction that continues nothing. Who reads it waits for the new log, or repairs again, above
 * the numbers it names. */
static int end_log(const struct box *b, int log, struct error *err)
{
    struct stat st;
    struct buf txn;
    const uint64_t number = b->head.sequence + REPAIR_JUMP / 2;
    const struct disk_txn t = {.uidnext = b->head.uidnext,
        .reserved = b->head.reserved,
        .previous = number,
        .sequence = number};
    if (fs_fstat(log, &st))
        return error_sys(err, "veredus.log");
    buf_init(&txn, FORMAT_TXN_MAX);
    txn_start(&txn);
    int rc = txn_seal(&txn, &t);
    if (!rc)
        rc = io_write(log, buf_slice(&txn), (int64_t)st.st_size, err, "veredus.log");
    buf_clear(&txn);
    if (rc && fs_truncate(log, st.st_size))
        return rc; /* torn, and cut by the next writer */
    return rc;
}

/* A new, empty log that has no name yet that anyone looks for. `cache` knows the cache file. */
static int start_log(struct box *b, const struct box *cache, int *out, struct error *err)
{
    struct disk_log log = {.sequence = b->head.sequence,
        .cache_id = cache->head.cache_id,
        .mailbox_id = b->head.mailbox_id,
        .cache_end = cache->head.cache_end,
        .uidvalidity = b->head.uidvalidity,
        .uidnext = b->head.uidnext,
        .reserved = b->head.reserved};
    fs_unlink(b->ixfd, "veredus.log.new", 0);
    int fd = fs_open(b->ixfd, "veredus.log.new", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "creating veredus.log");
    log_seal(&log);
    int rc = io_write(fd, slice_from(&log, sizeof(log)), 0, err, "veredus.log");
    if (rc) {
        fs_unlink(b->ixfd, "veredus.log.new", 0);
        fs_close(&fd);
    }
    *out = fd;
    return rc;
}

static int name_log(struct box *b, struct error *err)
{
    return fs_rename(b->ixfd, "veredus.log.new", b->ixfd, "veredus.log")
               ? error_sys(err, "renaming veredus.log")
               : OK;
}

/* The same, locked before anyone else can see it. */
static int new_log(struct box *b, int *out, struct error *err)
{
    int fd = -1, rc = start_log(b, b, &fd, err);
    if (!rc && ((!b->unsynced && fs_data_sync(fd)) || fs_lock(fd, F_WRLCK)))
        rc = error_sys(err, "veredus.log");
    if (!rc)
        rc = name_log(b, err);
    if (rc) {
        fs_unlink(b->ixfd, "veredus.log.new", 0);
        fs_close(&fd);
    }
    *out = fd;
    return rc;
}

static void go_on_with(struct box *b, int fd)
{
    fs_close(&b->log_fd);
    b->log_fd = fd;
    b->log_off = sizeof(struct disk_log);
    b->over.fresh = 0;
    b->log_named = !b->unsynced && fs_sync(b->ixfd) == 0;
}

int box_rotate(struct box *b, int old_log, struct error *err)
{
    struct box cache;
    int fd = -1, rc = cache_compact_begin(b, &cache, err);
    /* Index before log: a crash between them leaves a log whose transactions the index has. */
    if (!rc)
        rc = write_index(b, &cache, err);
    if (!rc && old_log >= 0 && (rc = end_log(b, old_log, err)))
        fs_unlink(b->ixfd, "veredus.index.new", 0);
    if (!rc)
        rc = name_index(b, err);
    cache_compact_end(b, &cache, rc == OK);
    if (!rc && !b->unsynced && box_sync_dirs(b))
        rc = error_sys(err, "syncing a folder");
    if (!rc)
        rc = new_log(b, &fd, err);
    if (rc)
        return rc;
    go_on_with(b, fd);
    if (b->keep)
        box_refold(b);
    return OK;
}

/* --- while others write ----------------------------------------------------------------------- */

/* Where the old log is read and the new one written. */
struct tail {
    int fd;
    uint64_t from, to;
    enum txn_state end;
};

/* Whole transactions that others have added; who wrote one does not take it back. */
static int copy_txns(struct box *b, struct tail *t, struct error *err)
{
    struct stat st;
    struct disk_txn head;
    struct slice ops;
    if (fs_fstat(b->log_fd, &st))
        return error_sys(err, "veredus.log");
    t->end = TXN_END;
    if ((uint64_t)st.st_size <= t->from)
        return OK;
    size_t n = (size_t)((uint64_t)st.st_size - t->from), good = 0;
    char *bytes = xrealloc(NULL, n, 1);
    int rc = io_read(b->log_fd, bytes, n, t->from, err);
    while (!rc && (t->end = txn_peek(slice_from(bytes + good, n - good), &head, &ops)) == TXN_GOOD)
        good += head.length;
    if (!rc && good)
        rc = io_write(t->fd, slice_from(bytes, good), (int64_t)t->to, err, "veredus.log");
    free(bytes);
    t->from += good;
    t->to += good;
    return rc;
}

/* Or moved to another place, by a process that takes the mailbox for one of the other kind. */
static bool log_replaced(const struct box *b)
{
    struct stat st, there;
    return fs_fstat(b->log_fd, &st) || fs_stat(b->ixfd, "veredus.log", &there) ||
           st.st_ino != there.st_ino;
}

/* Others wait while what they added last is copied, and no longer. */
static int swap_logs(struct box *b, struct box *cache, struct tail *t, struct error *err)
{
    int rc = io_lock(b->log_fd, err);
    uint64_t before = t->to;
    if (!rc && log_replaced(b))
        rc = error_set(err, ERR_BUSY, "veredus.log was replaced");
    if (!rc)
        rc = copy_txns(b, t, err);
    if (!rc && t->end != TXN_END)
        rc = error_set(err, ERR_CORRUPT, "veredus.log has a torn end");
    if (!rc && t->to != before && fs_data_sync(t->fd))
        rc = error_sys(err, "syncing veredus.log");
    cache_compact_end(b, cache, rc == OK);
    if (!rc)
        rc = name_log(b, err);
    fs_lock(b->log_fd, F_UNLCK);
    return rc;
}

static int fold(struct box *b, struct error *err)
{
    struct box cache;
    struct tail t = {.fd = -1, .from = b->log_off, .to = sizeof(struct disk_log)};
    int rc = cache_compact_begin(b, &cache, err);
    if (!rc)
        rc = write_index(b, &cache, err);
    if (!rc)
        rc = name_index(b, err);
    if (!rc && fs_sync(b->ixfd))
        rc = error_sys(err, "syncing a folder");
    if (!rc)
        rc = start_log(b, cache.cache_fd >= 0 ? &cache : b, &t.fd, err);
    if (!rc)
        rc = copy_txns(b, &t, err);
    if (!rc && fs_data_sync(t.fd))
        rc = error_sys(err, "syncing veredus.log");
    if (!rc)
        rc = swap_logs(b, &cache, &t, err);
    else
        cache_compact_end(b, &cache, false);
    if (rc) {
        if (t.fd >= 0)
            fs_unlink(b->ixfd, "veredus.log.new", 0);
        fs_close(&t.fd);
        return rc;
    }
    go_on_with(b, t.fd);
    if (b->keep)
        box_refold(b);
    return OK;
}

int box_sync_log(struct box *b, struct error *err)
{
    if (fs_data_sync(b->log_fd))
        return error_sys(err, "syncing veredus.log");
    if (!b->log_named && fs_sync(b->ixfd))
        return error_sys(err, "syncing a folder");
    b->log_named = true;
    return OK;
}

int box_settle(struct box *b, struct error *err)
{
    int fd = fs_open(b->ixfd, "veredus.index", O_RDONLY | O_NOFOLLOW, 0);
    int rc = fd < 0 || fs_data_sync(fd) ? error_sys(err, "syncing veredus.index") : OK;
    fs_close(&fd);
    b->log_named = false;
    return rc ? rc : box_sync_log(b, err);
}

int box_fold(struct box *b, struct error *err)
{
    assert(!b->locked);
    /* With the directory locked nobody else folds or repairs. */
    if (fs_flock(b->ixfd, LOCK_EX | LOCK_NB))
        return error_set(err, ERR_BUSY, "another process folds the log");
    int rc = log_replaced(b) ? error_set(err, ERR_BUSY, "veredus.log was replaced") : fold(b, err);
    dir_unlock(b->ixfd);
    return rc;
}
