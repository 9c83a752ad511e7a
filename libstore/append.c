/* New messages: written beside the mailbox, then given a name and a place in the log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "libmail/mime.h"
#include "libstore/journal.h"

enum { MEMORY = 256 * 1024, FD_CHUNK = 64 * 1024, CACHE_MAX = 8 << 20, NEWEST = 1024 };

struct store_append {
    struct store *store;
    struct box *box;
    char tmp[FILE_NAME_MAX]; /* under the box's directory; empty: no file yet */
    int fd;
    struct buf buf;   /* not yet in the file */
    uint64_t written; /* bytes in the file */
    uint64_t size;    /* with CRLF */
    bool in_memory;   /* buf has the whole content, also when the file has it */
    bool in_place;    /* tmp is where the message stays: nothing is known of it so far */
    bool journaled;   /* the journal makes it durable */
    bool held_cr;     /* the last byte was a CR; in coexist mode it is not yet in buf */
    bool gone;        /* the folder was deleted: another may have its name now */
    int failed;       /* error of an earlier write */
};

int store_append_begin(struct store *s, struct slice folder, uint64_t size_hint,
    struct store_append **out, struct error *err)
{
    struct box *b;
    int rc = store_box(s, folder, &b, err);
    if (rc)
        return rc;
    s->box = NULL; /* ours until the end */
    struct store_append *a = NEW(struct store_append);
    *a = (struct store_append){.store = s, .box = b, .fd = -1};
    buf_init(&a->buf, (size_t)MEMORY * 4);
    if (size_hint && size_hint < MEMORY)
        buf_reserve(&a->buf, (size_t)size_hint + size_hint / 32 + 64);
    *out = a;
    return OK;
}

static void drop_file(struct store_append *a)
{
    if (a->tmp[0])
        fs_unlink(a->box->dirfd, a->tmp, 0);
    a->tmp[0] = '\0';
}

static void end(struct store_append *a)
{
    drop_file(a);
    fs_close(&a->fd);
    buf_clear(&a->buf);
    if (a->store->box || a->gone)
        box_close(a->box);
    else
        a->store->box = a->box;
    free(a);
}

void store_append_abort(struct store_append *a)
{
    if (a)
        end(a);
}

/* The file a->tmp. */
static int create(struct store_append *a, struct error *err)
{
    int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;
    a->fd = fs_open(a->box->dirfd, a->tmp, flags, 0600);
    if (a->fd < 0 && errno == ENOENT && maildir_make(a->box->dirfd, err) == OK)
        a->fd = fs_open(a->box->dirfd, a->tmp, flags, 0600);
    if (a->fd >= 0)
        return OK;
    a->tmp[0] = '\0';
    return error_sys(err, "creating a message file");
}

static int open_tmp(struct store_append *a, struct error *err)
{
    unsigned char guid[STORE_GUID];
    char hex[2 * STORE_GUID + 1];
    guid_new(a->store, guid);
    guid_hex(guid, hex);
    snprintf(a->tmp, sizeof(a->tmp), "tmp/%s.veredus", hex);
    return create(a, err);
}

static int flush(struct store_append *a, struct error *err)
{
    int rc = a->fd < 0 ? open_tmp(a, err) : OK;
    struct slice bytes = buf_slice(&a->buf);
    if (!rc)
        rc = io_write(a->fd, bytes, -1, err, "a message");
    a->written += bytes.n;
    buf_reset(&a->buf);
    return rc;
}

/* With coexistence: a line up to its LF, or the start of one without. */
static void put_piece(struct store_append *a, struct slice piece, bool whole)
{
    if (a->held_cr && !(whole && piece.n == 0)) {
        buf_putc(&a->buf, '\r');
        a->size++;
    }
    if (piece.n)
        a->held_cr = piece.p[piece.n - 1] == '\r';
    if (piece.n && a->held_cr)
        piece.n--;
    buf_put(&a->buf, piece);
    a->size += piece.n;
    if (!whole)
        return;
    buf_putc(&a->buf, '\n');
    a->size += 2;
    a->held_cr = false;
}

/* As it goes over the wire: takes what is so already, and then the LF that has no CR. Returns how
 * much that was. */
static size_t put_crlf(struct store_append *a, struct slice part)
{
    bool split = a->held_cr && part.p[0] == '\n';
    size_t n = split + mime_bare_lf(slice_from_index(part, split));
    buf_put(&a->buf, slice_first(part, n));
    a->size += n;
    if (n == part.n) {
        a->held_cr = part.p[n - 1] == '\r';
        return n;
    }
    buf_puts(&a->buf, "\r\n");
    a->size += 2;
    a->held_cr = false;
    return n + 1;
}

int store_append_write(struct store_append *a, struct slice s, struct error *err)
{
    while (s.n && !a->failed) {
        struct slice part = slice_first(s, MEMORY);
        size_t taken = part.n;
        if (a->store->opt.coexist) {
            ptrdiff_t lf = slice_chr(part, '\n');
            taken = lf < 0 ? part.n : (size_t)lf + 1;
            put_piece(a, slice_first(part, lf < 0 ? part.n : (size_t)lf), lf >= 0);
        } else {
            taken = put_crlf(a, part);
        }
        s = slice_from_index(s, taken);
        if (buf_len(&a->buf) >= MEMORY)
            a->failed = flush(a, err);
    }
    return a->failed;
}

int store_append_fd(struct store_append *a, int fd, uint64_t size, struct error *err)
{
    char *chunk = xrealloc(NULL, FD_CHUNK, 1);
    for (uint64_t at = 0; at < size && !a->failed;) {
        size_t n = (size_t)MIN((uint64_t)FD_CHUNK, size - at);
        a->failed = io_read(fd, chunk, n, at, err);
        if (!a->failed)
            a->failed = store_append_write(a, slice_from(chunk, n), err);
        at += n;
    }
    free(chunk);
    return a->failed;
}

/* The whole content in memory: still there, or mapped from the file. */
static int content_of(struct store_append *a, struct slice *out, void **map, struct error *err)
{
    *map = NULL;
    if (a->fd < 0 || a->in_memory) {
        *out = buf_slice(&a->buf);
        return OK;
    }
    *out = slice_from(NULL, (size_t)a->written);
    if (a->written == 0)
        return OK;
    *map = fs_map(a->fd, (size_t)a->written);
    if (!*map)
        return error_sys(err, "mapping a message");
    out->p = *map;
    return OK;
}

/* Whether one sync of the journal makes it durable. Not in a folder that is shared: the owner, who
 * opens the mail directory above, and others, to whom the folder is one, have journals in different
 * places, and who comes first after a crash would not find what the other put there. */
static bool can_journal(const struct store_append *a)
{
    struct stat st;
    return a->in_memory && buf_len(&a->buf) <= JOURNAL_BODY_MAX &&
           fs_stat(a->box->ixfd, "veredus.acl", &st) != 0;
}

/* A small delivery to a mailbox of our own is written where it stays, without a way round by tmp/:
 * until the log tells of it nobody looks there, and after a crash it is delivered once more. */
static bool direct(const struct store_append *a, const struct store_append_options *opt)
{
    return opt->delivery && !opt->durable && !a->store->opt.coexist && a->in_memory;
}

static int write_memory(struct store_append *a, struct error *err)
{
    a->written = buf_len(&a->buf);
    return io_write(a->fd, buf_slice(&a->buf), -1, err, "a message");
}

/* Everything that needs no lock: the texts, and the file is complete if it is not `direct`. */
static int prepare(struct store_append *a, const struct store_append_options *opt,
    struct buf *texts, struct error *err)
{
    struct slice content;
    void *map;
    if (a->failed)
        return error_set(err, a->failed, "an earlier write failed");
    if (a->held_cr && a->store->opt.coexist) {
        buf_putc(&a->buf, '\r');
        a->size++;
    }
    int rc = a->fd >= 0 ? flush(a, err) : OK;
    if (!rc)
        rc = content_of(a, &content, &map, err);
    if (rc)
        return rc;
    cache_build(content, texts);
    fs_unmap(map, content.n);
    a->in_memory = a->fd < 0; /* and stays there: the journal may want it */
    if (a->in_memory && !direct(a, opt)) {
        rc = open_tmp(a, err);
        if (!rc)
            rc = write_memory(a, err);
    }
    a->journaled = opt->durable && can_journal(a);
    if (!rc && opt->durable && !a->journaled)
        rc = journal_founded(a->store, a->box->ixfd, err);
    if (!rc && opt->durable && !a->journaled && fs_data_sync(a->fd))
        rc = error_sys(err, "syncing a message");
    return rc;
}

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 33) * 0xff51afd7ed558ccdu;
    v = (v ^ v >> 33) * 0xc4ceb9fe1a85ec53u;
    return v ^ v >> 33;
}

/* A delivery's file has the same name however often it is tried. */
static void guid_of_delivery(uint64_t delivery, unsigned char guid[STORE_GUID])
{
    uint64_t second = mix(delivery);
    memcpy(guid, &delivery, 8);
    memcpy(guid + 8, &second, 8);
}

/* A delivery that was found by its file after a repair, and that the user did not want. */
static bool expunged_lately(struct box *b, const unsigned char guid[STORE_GUID])
{
    size_t n = box_tombs(b);
    return tombs_have(b, n > DELIVERIES_MAX ? n - DELIVERIES_MAX : 0, guid);
}

static size_t first_of_newest(const struct box *b)
{
    size_t count = box_count(b);
    return count > NEWEST ? count - NEWEST : 0;
}

/* Locked. Where the delivery was made before, or a file was left by an attempt, tmp/ it is after
 * all: the message has a file, maybe under another name, and when we die there must not be two. */
static int create_direct(struct store_append *a, uint64_t delivery, struct error *err)
{
    struct box *b = a->box;
    struct disk_rec rec = {.bits = REC_CRLF};
    guid_of_delivery(delivery, rec.guid);
    int rc = ERR_EXISTS;
    if (!deliveries_find(b, delivery) && !guids_find(b, first_of_newest(b), rec.guid) &&
        !expunged_lately(b, rec.guid)) {
        file_path(b, &rec, a->tmp);
        rc = create(a, err);
        a->in_place = rc == OK;
    }
    if (rc == ERR_EXISTS)
        rc = open_tmp(a, err);
    return rc ? rc : write_memory(a, err);
}

/* A message that was delivered, but whose delivery id is forgotten: the log was lost. In a
 * mailbox of our own its file would be where we are going to put ours; if that was lost, too, only
 * the newest records can be meant. */
static const struct disk_rec *find_guid(struct box *b, const unsigned char guid[STORE_GUID])
{
    char path[FILE_NAME_MAX];
    struct disk_rec ours = {0};
    struct stat st;
    if (b->store->opt.coexist)
        return guids_find(b, first_of_newest(b), guid);
    memcpy(ours.guid, guid, STORE_GUID);
    file_path(b, &ours, path);
    return guids_find(b, fs_stat(b->dirfd, path, &st) ? first_of_newest(b) : 0, guid);
}

/* Compares the stored file with ours: a machine that stopped can have kept a record and lost the
 * file, or its end. One that others rename at this moment is not lost: another may have synced it,
 * and ours is not on disk yet. */
static enum likeness compare(struct store_append *a, const struct disk_rec *rec)
{
    struct buf old;
    struct error ignored;
    enum likeness like = LIKENESS_BROKEN;
    void *map;
    struct slice ours;
    int fd;
    if (file_open(a->box, rec, &fd, &ignored))
        return LIKENESS_BROKEN;
    buf_init(&old, LIKENESS_MAX);
    if (content_of(a, &ours, &map, &ignored) == OK) {
        if (io_drain(fd, "a message", &old, &ignored) == OK)
            like = likeness_of(buf_slice(&old), ours);
        if (map)
            fs_unmap(map, ours.n);
    }
    buf_clear(&old);
    fs_close(&fd);
    return like;
}

static int rename_new(struct store_append *a, const struct disk_rec *rec, struct error *err)
{
    char path[FILE_NAME_MAX];
    file_path(a->box, rec, path);
    if (strcmp(a->tmp, path) != 0 && fs_rename(a->box->dirfd, a->tmp, a->box->dirfd, path))
        return error_sys(err, "renaming a message file");
    a->tmp[0] = '\0';
    return OK;
}

static int rename_over(struct store_append *a, const struct disk_rec *rec, struct error *err)
{
    int rc = file_replace(a->box, rec, a->tmp, err);
    if (!rc)
        a->tmp[0] = '\0';
    return rc;
}

/* Locked. Somebody may have measured what is replaced now, or it had other line ends. */
static int correct_record(struct store_append *a, const struct disk_rec *rec, struct error *err)
{
    struct op op = {.type = OP_META, .rec = *rec};
    bool crlf = rec->bits & REC_CRLF;
    if ((!(rec->bits & REC_SIZED) || rec->size == a->size) && !(crlf && a->store->opt.coexist))
        return OK;
    op.rec.size = (uint32_t)a->size;
    op.rec.bits &= (uint16_t)(a->store->opt.coexist ? ~REC_CRLF : REC_DISK);
    op.rec.cache = 0; /* made of what was there */
    box_begin(a->box);
    txn_op(&a->box->txn, &op);
    return box_commit(a->box, 0, false, err);
}

/* Locked. True when this delivery was made before, and *out tells about it; a file that was lost
 * with the machine is put in place again. */
static bool delivered_before(struct store_append *a, const struct store_append_options *opt,
    struct store_appended *out, bool *collision, struct error *err, int *rc)
{
    uint64_t id = opt->delivery;
    struct box *b = a->box;
    unsigned char guid[STORE_GUID];
    guid_of_delivery(id, guid);
    const struct disk_delivery *d = deliveries_find(b, id);
    const struct disk_rec *rec = d             ? box_find_rec(b, d->uid)
                                 : opt->import ? guids_find(b, 0, guid)
                                               : find_guid(b, guid);
    *out = (struct store_appended){b->head.uidvalidity, d ? d->uid : rec ? rec->uid : 0, true};
    if (!rec)
        return d || expunged_lately(b, guid);
    switch (compare(a, rec)) {
    case LIKENESS_SAME:
        return true;
    case LIKENESS_BROKEN:
        *rc = rename_over(a, rec, err);
        if (!*rc)
            *rc = correct_record(a, rec, err);
        return true;
    case LIKENESS_OTHER:
        break;
    }
    *collision = true;
    return false;
}

static void choose_guid(struct store_append *a, const struct store_append_options *opt, bool fixed,
    struct disk_rec *rec)
{
    struct box *b = a->box;
    if (fixed)
        guid_of_delivery(opt->delivery, rec->guid);
    else if (opt->guid && (find_guid(b, opt->guid) || box_has_tomb(b, opt->guid)))
        guid_copy(a->store, opt->guid, rec->guid); /* a file of that name is to be removed */
    else if (opt->guid)
        memcpy(rec->guid, opt->guid, STORE_GUID);
    else
        guid_new(a->store, rec->guid);
}

static uint32_t date_or(int64_t date, uint32_t otherwise)
{
    return date > 0 && date <= UINT32_MAX ? (uint32_t)date : otherwise;
}

static int fill_record(struct store_append *a, const struct store_append_options *opt, bool fixed,
    struct op *op, struct error *err)
{
    struct disk_rec *rec = &op->rec;
    if (a->size > UINT32_MAX)
        return error_set(err, ERR_LIMIT, "the message is too large");
    *op = (struct op){.type = OP_APPEND, .delivery = opt->delivery, .time = fs_time()};
    rec->size = (uint32_t)a->size;
    rec->date = date_or(opt->date, op->time);
    rec->saved = date_or(opt->saved, op->time);
    rec->flags = opt->flags & (STORE_RECENT - 1);
    rec->bits = REC_SIZED;
    if (!a->store->opt.coexist) {
        rec->bits |= REC_CRLF;
    } else {
        rec->file_flags = rec->flags;
        rec->bits |= rec->flags ? 0 : REC_NEW;
    }
    choose_guid(a, opt, fixed, rec);
    return OK;
}

/* Locked: the file gets its name, the log its record. */
static int place(struct store_append *a, const struct store_append_options *opt, bool fixed,
    struct buf *texts, struct op *op, struct error *err)
{
    struct box *b = a->box;
    bool sync = opt->durable && !a->journaled;
    int rc = fill_record(a, opt, fixed, op, err);
    struct disk_rec *rec = &op->rec;
    uint32_t skip = opt->uid > b->head.uidnext ? opt->uid - b->head.uidnext : 0;
    if (!rc)
        rc = box_reserve(b, skip + 1, err);
    if (!rc)
        rc = rename_new(a, rec, err);
    if (rc)
        return rc;
    rec->uid = b->head.uidnext + skip;
    box_begin(b);
    rc = box_keywords_define(b, opt->keywords, opt->nkeywords, &rec->keywords, err);
    if (!rc && buf_len(texts))
        rc = cache_put(b, rec, texts, &rec->cache, &op->cache_end, err);
    if (!rc && sync)
        rc = maildir_sync(b, rec->bits & REC_NEW ? "new" : "cur", err);
    if (!rc) {
        txn_op(&b->txn, op);
        rc = box_commit(b, skip + 1, true, err);
    }
    if (rc)
        file_unlink(b, rec);
    else if (sync)
        rc = box_sync_log(b, err);
    return rc;
}

/* Not acknowledged, so it must not stay. */
static void take_back(struct box *b, uint32_t uid)
{
    struct error ignored;
    uint32_t range[2] = {uid, uid};
    if (box_lock(b, &ignored))
        return;
    const struct disk_rec *rec = box_find_rec(b, uid);
    if (rec) {
        box_begin(b);
        txn_op(&b->txn,
            &(struct op){
                .type = OP_EXPUNGE, .time = fs_time(), .ranges = slice_from(range, sizeof(range))});
        if (box_commit(b, 0, true, &ignored) == OK)
            file_unlink(b, box_rec(b, box_find(b, uid)));
    }
    box_unlock(b);
}

/* After the lock: others need not wait for the disk. */
static int make_durable(struct store_append *a, const struct store_append_options *opt,
    const struct op *op, uint64_t sequence, struct error *err)
{
    struct buf words;
    buf_init(&words, STORE_KEYWORDS_MAX * 256);
    for (size_t i = 0; i < opt->nkeywords; i++)
        buf_printf(&words, "%.*s\n", SLICE_FMT(opt->keywords[i]));
    const struct journal_note note = {.box = a->box,
        .op = op,
        .sequence = sequence,
        .keywords = buf_slice(&words),
        .content = buf_slice(&a->buf)};
    int rc = journal_add(a->store, &note, err);
    /* Without a journal the long way does: everything on this file system. */
    if (rc && rc != ERR_NOT_FOUND && fs_sync_all(a->box->ixfd) == 0)
        rc = OK;
    if (rc)
        take_back(a->box, op->rec.uid);
    buf_clear(&words);
    return rc;
}

int store_append_commit(struct store_append *a, const struct store_append_options *opt,
    struct store_appended *out, struct error *err)
{
    struct buf texts;
    struct op op;
    uint64_t sequence = 0;
    buf_init(&texts, CACHE_MAX);
    bool before = false, collision = false;
    int rc = prepare(a, opt, &texts, err);
    if (!rc)
        rc = box_lock(a->box, err);
    if (!rc) {
        if (direct(a, opt))
            rc = create_direct(a, opt->delivery, err);
        if (!rc && opt->delivery && !a->in_place)
            before = delivered_before(a, opt, out, &collision, err, &rc);
        if (!rc && !before) {
            rc = place(a, opt, opt->delivery && !collision, &texts, &op, err);
            sequence = a->box->head.sequence;
            *out = (struct store_appended){a->box->head.uidvalidity, op.rec.uid, false};
        }
        /* Unlocked, another attempt may put its own file there. */
        if (a->in_place)
            drop_file(a);
        box_unlock(a->box);
    }
    buf_clear(&texts);
    if (!rc && !before && opt->durable && a->journaled)
        rc = make_durable(a, opt, &op, sequence, err);
    if (!rc && !before)
        box_announce(a->box);
    a->gone = rc == ERR_NOT_FOUND;
    end(a);
    return rc;
}
