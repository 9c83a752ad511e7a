/* A folder's state: opening, following the log, locking, committing. */
#include "libutil/base.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libstore/private.h"

enum { NAMES_MAX = 1 << 28, CHANGES_MAX = 1 << 16, REPAIRS = 10 };

int box_open_dir(struct store *s, const char *disk, struct box **out, struct error *err)
{
    struct box *b = NEW(struct box);
    *b = (struct box){.store = s, .log_fd = -1, .cache_fd = -1};
    snprintf(b->disk, sizeof(b->disk), "%s", disk);
    int rc = box_open_place(b, err);
    if (rc) {
        free(b);
        return rc;
    }
    buf_init(&b->names, NAMES_MAX);
    buf_init(&b->txn, FORMAT_TXN_MAX);
    buf_init(&b->cached, FORMAT_TXN_MAX);
    buf_init(&b->texts, FORMAT_TXN_MAX);
    *out = b;
    return OK;
}

void box_close(struct box *b)
{
    if (!b)
        return;
    box_unload(b);
    buf_clear(&b->txn);
    buf_clear(&b->cached);
    fs_close(&b->ixfd);
    free(b);
}

/* Applies whole transactions from `bytes`; *state tells what is at the end. */
static int apply_bytes(struct box *b, struct slice bytes, enum txn_state *state)
{
    struct disk_txn head;
    struct slice ops;
    while ((*state = txn_peek(bytes, &head, &ops)) == TXN_GOOD) {
        bool known = head.sequence <= b->head.sequence;
        if (!known && (head.previous != b->head.sequence || box_apply(b, &head, ops))) {
            *state = TXN_BAD;
            break;
        }
        b->log_off += head.length;
        bytes = slice_from_index(bytes, head.length);
    }
    return *state == TXN_BAD ? ERR_CORRUPT : OK;
}

static int read_log(struct box *b, const struct stat *st, enum txn_state *state, struct error *err)
{
    *state = TXN_END;
    if ((uint64_t)st->st_size < b->log_off)
        return error_set(err, ERR_CORRUPT, "veredus.log has become shorter");
    size_t n = (size_t)st->st_size - b->log_off;
    if (n == 0)
        return OK;
    char *bytes = xrealloc(NULL, n, 1);
    int rc = io_read(b->log_fd, bytes, n, b->log_off, err);
    if (!rc && apply_bytes(b, slice_from(bytes, n), state))
        rc = error_set(err, ERR_CORRUPT, "veredus.log is damaged at byte %llu",
            (unsigned long long)b->log_off);
    free(bytes);
    return rc;
}

int box_read_on(struct box *b, struct error *err)
{
    struct stat st;
    enum txn_state state;
    return fs_fstat(b->log_fd, &st) ? error_sys(err, "veredus.log") : read_log(b, &st, &state, err);
}

/* The log was rotated: goes on with the new one where this box stands. */
static int switch_log(struct box *b, struct error *err)
{
    struct disk_log log;
    int fd, rc = box_open_log(b, &fd, &log, err);
    if (rc)
        return rc;
    if (log.sequence != b->head.sequence || log.uidvalidity != b->head.uidvalidity) {
        fs_close(&fd);
        return box_reload(b, err);
    }
    if (log.cache_id != b->head.cache_id) {
        /* Places in the old cache file mean nothing in the new one. */
        cache_forget_places(b);
        b->head.cache_id = log.cache_id;
        b->head.cache_end = log.cache_end;
    }
    fs_close(&b->log_fd);
    b->log_fd = fd;
    b->log_named = false;
    b->log_off = sizeof(log);
    box_refold(b);
    return OK;
}

/* Reads to the end of the log, and of the logs that replaced it. */
int box_follow(struct box *b, bool *switched, enum txn_state *state, struct error *err)
{
    for (int turns = 0; turns < 100; turns++) {
        struct stat st;
        if (fs_fstat(b->log_fd, &st))
            return error_sys(err, "veredus.log");
        int rc = read_log(b, &st, state, err);
        if (st.st_nlink > 0)
            return rc;
        /* What is wrong with a log that was replaced, the new index tells better. */
        rc = switch_log(b, err);
        if (rc)
            return rc;
        *switched = true;
    }
    return error_set(err, ERR_BUSY, "veredus.log keeps being replaced");
}

int box_catch_up(struct box *b, struct error *err)
{
    /* More than once: whoever repairs it next may be killed half way. */
    for (int repairs = 0;; repairs++) {
        bool switched;
        enum txn_state state;
        int rc = b->damaged ? ERR_CORRUPT : box_follow(b, &switched, &state, err);
        if (rc != ERR_CORRUPT || repairs == REPAIRS)
            return rc;
        rc = box_rebuild(b->store, b->disk, false, err);
        b->damaged = false;
        if (rc)
            return rc;
    }
}

int io_lock(int fd, struct error *err)
{
    for (int waited = 0, pause = 1; fs_lock(fd, F_WRLCK); waited += pause) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return error_sys(err, "locking veredus.log");
        if (waited >= LOCK_WAIT_MS)
            return error_set(err, ERR_BUSY, "another process holds veredus.log");
        pause = MIN(pause * 2, 50);
        fs_sleep_ms(pause);
    }
    return OK;
}

static int write_txn(struct box *b, const struct disk_txn *values, struct error *err)
{
    int rc = txn_seal(&b->txn, values);
    if (rc)
        return error_set(err, rc, "too much for one transaction");
    struct slice bytes = buf_slice(&b->txn);
    rc = io_write(b->log_fd, bytes, (int64_t)b->log_off, err, "veredus.log");
    if (rc) {
        int kept = errno;
        if (fs_truncate(b->log_fd, (off_t)b->log_off))
            errno = kept; /* what is there is torn, and cut by the next writer */
        return rc;
    }
    enum txn_state state;
    if (apply_bytes(b, bytes, &state))
        return error_set(err, ERR_CORRUPT, "our own transaction does not apply");
    return OK;
}

static struct disk_txn next_txn(const struct box *b)
{
    return (struct disk_txn){.uidnext = b->head.uidnext,
        .reserved = b->head.reserved,
        .previous = b->head.sequence,
        .sequence = b->head.sequence + 1};
}

bool box_outdated(const struct box *b)
{
    return !witness_holds(&b->head.witness, b->mount);
}

void box_note_witness(struct box *b)
{
    uint64_t size;
    if (!b->mount && fs_measure(b->ixfd, &size, &b->mount))
        b->mount = 0;
    witness_note(&b->head.witness, fs_boot(), b->mount);
}

/* UIDs and sequence numbers handed out before the machine stopped, or the file system went, may be
 * unknown now: go past all that can have been used. */
static int note_boot(struct box *b, struct error *err)
{
    if (!box_outdated(b))
        return OK;
    struct disk_txn t = next_txn(b);
    t.visible = true; /* modseqs that clients know must not be above ours */
    if (t.reserved > UINT32_MAX - 2 * UID_BLOCK)
        return error_set(err, ERR_LIMIT, "this mailbox has used up its UIDs");
    t.sequence += BOOT_JUMP;
    t.uidnext = MAX(t.uidnext, t.reserved + 1);
    t.reserved += UID_BLOCK;
    box_begin(b);
    txn_op(&b->txn, &(struct op){.type = OP_BOOT, .a = (uint64_t)b->head.witness.boot});
    int rc = write_txn(b, &t, err);
    if (!rc)
        rc = box_sync_log(b, err);
    if (rc)
        return rc;
    /* Only now: had the sync failed, the next one would do it all again. */
    t = next_txn(b);
    box_begin(b);
    txn_op(&b->txn, &(struct op){.type = OP_BOOT, .a = (uint64_t)fs_boot(), .b = b->mount});
    return write_txn(b, &t, err);
}

static int lock_once(struct box *b, bool *again, struct error *err)
{
    enum txn_state state = TXN_END;
    *again = false;
    int rc = io_lock(b->log_fd, err);
    if (!rc && b->damaged)
        rc = ERR_CORRUPT;
    if (!rc)
        rc = box_follow(b, again, &state, err);
    if (rc || *again)
        return rc;
    /* Nobody is writing: what is torn stays so. Its messages may be in the Maildir. */
    if (state == TXN_TORN)
        return error_set(err, ERR_CORRUPT, "veredus.log has a torn end");
    b->locked = true;
    rc = note_boot(b, err);
    if (rc)
        box_unlock(b);
    return rc;
}

static void unlock_fd(int fd)
{
    fs_lock(fd, F_UNLCK);
}

int box_lock(struct box *b, struct error *err)
{
    bool again = true;
    for (int turns = 0; turns < 100 && again; turns++) {
        int rc = lock_once(b, &again, err);
        if (rc == ERR_CORRUPT) {
            unlock_fd(b->log_fd);
            rc = box_rebuild(b->store, b->disk, false, err);
            b->damaged = false;
            again = true;
        }
        if (rc) {
            unlock_fd(b->log_fd);
            return rc;
        }
    }
    return again ? error_set(err, ERR_BUSY, "veredus.log keeps being replaced") : OK;
}

void box_unlock(struct box *b)
{
    if (!b->locked)
        return;
    uint64_t part = box_count(b) * sizeof(struct disk_rec) / 2;
    bool due = b->log_off > LOG_ROTATE + MIN(part, LOG_ROTATE_MAX) || b->over.fresh > CHANGES_MAX;
    unlock_fd(b->log_fd);
    b->locked = false;
    /* Failing costs nothing: the log goes on growing, and the next one tries again. */
    struct error ignored;
    if (due && !b->damaged && box_fold(b, &ignored) == OK && !b->keep)
        (void)!box_reload(b, &ignored);
}

static int load(struct box *b, struct error *err)
{
    enum txn_state state = TXN_END;
    bool switched;
    int rc = box_load(b, err);
    if (!rc)
        rc = box_follow(b, &switched, &state, err);
    /* Either someone is writing this moment, or it needs the repair that a lock brings. And the
     * first one after a stop of the machine brings the numbers up, also when it only wants to read.
     */
    bool torn = state == TXN_TORN;
    if (!rc && (torn || box_outdated(b))) {
        rc = box_lock(b, err);
        box_unlock(b);
        if (!torn && (rc == ERR_DENIED || rc == ERR_NO_SPACE || rc == ERR_IO))
            rc = OK;
    }
    return rc;
}

/* When there is nothing to load, or it is damaged, it is made from the Maildir first. */
static int load_or_rebuild(struct box *b, struct error *err)
{
    int rc = load(b, err);
    for (int turns = 0; turns < REPAIRS && (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT); turns++) {
        box_unload(b);
        rc = box_rebuild(b->store, b->disk, false, err);
        if (rc)
            return rc;
        rc = load(b, err);
    }
    return rc;
}

int box_open(struct store *s, const char *disk, struct box **out, struct error *err)
{
    struct box *b = NULL;
    int rc = box_open_dir(s, disk, &b, err);
    if (rc)
        return rc;
    assert(b);
    rc = load_or_rebuild(b, err);
    if (!rc)
        rc = s->opt.coexist ? box_scan(b, err) : box_scan_last(b, err);
    if (rc)
        box_close(b);
    else
        *out = b;
    return rc;
}

void box_begin(struct box *b)
{
    assert(b->locked);
    txn_start(&b->txn);
}

int box_commit(struct box *b, uint32_t uids, bool visible, struct error *err)
{
    struct disk_txn t = next_txn(b);
    t.uidnext += uids;
    t.visible = visible;
    assert(t.uidnext <= t.reserved + 1);
    return write_txn(b, &t, err);
}

int box_reserve(struct box *b, uint32_t n, struct error *err)
{
    struct disk_txn t = next_txn(b);
    if (n > UINT32_MAX - 2 * UID_BLOCK - t.uidnext)
        return error_set(err, ERR_LIMIT, "this mailbox has used up its UIDs");
    if (t.uidnext + n <= t.reserved + 1)
        return OK;
    t.reserved = t.uidnext + n + UID_BLOCK;
    box_begin(b);
    int rc = write_txn(b, &t, err);
    if (!rc && (rc = box_sync_log(b, err)) != OK) {
        /* Nobody may use what is not known to be on disk. */
        struct error ignored;
        t = next_txn(b);
        t.reserved = t.uidnext - 1;
        box_begin(b);
        (void)!write_txn(b, &t, &ignored);
    }
    return rc;
}

void box_announce(struct box *b)
{
    const struct store_options *opt = &b->store->opt;
    struct buf name;
    if (!opt->changed)
        return;
    buf_init(&name, STORE_NAME_MAX * 4);
    if (strcmp(b->disk, ".") == 0)
        opt->changed(opt->arg, SLICE_LIT("INBOX"), b->head.modseq);
    else if (name_from_disk(slice_of(b->disk), &name) == OK)
        opt->changed(opt->arg, buf_slice(&name), b->head.modseq);
    buf_clear(&name);
}

int box_keyword(const struct box *b, struct slice name)
{
    for (size_t i = 0; i < b->nkeywords; i++)
        if (slice_ieq(slice_of(b->keywords[i]), name))
            return (int)i;
    return -1;
}

int box_keywords_define(
    struct box *b, const struct slice *names, size_t n, uint64_t *bits, struct error *err)
{
    *bits = 0;
    uint32_t next = (uint32_t)b->nkeywords;
    for (size_t i = 0; i < n; i++) {
        int bit = box_keyword(b, names[i]);
        for (size_t j = 0; bit < 0 && j < i; j++)
            if (slice_ieq(names[i], names[j]))
                bit = -2; /* defined a moment ago; its bit is set already */
        if (bit == -1 && (next >= STORE_KEYWORDS_MAX || names[i].n == 0 || names[i].n > 255))
            return error_set(err, ERR_LIMIT, "too many keywords in this mailbox");
        if (bit == -1) {
            txn_op(&b->txn, &(struct op){.type = OP_KEYWORD, .number = next, .name = names[i]});
            bit = (int)next++;
        }
        if (bit >= 0)
            *bits |= (uint64_t)1 << bit;
    }
    return OK;
}
