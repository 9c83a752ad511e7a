/*
 * Making index and log anew from the Maildir and whatever is left of them.
 *
 * A UID is kept when its record is found whole. UIDVALIDITY is kept when an index or log header
 * tells it and the log is there: then no UID can have been given that is not below `reserved`
 * of the last whole transaction, plus one block for each reservation that the lost bytes of the
 * log can have held. Otherwise everything is numbered anew under a new UIDVALIDITY (I8).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libstore/foreign.h"
#include "libstore/private.h"

enum { LOG_MAX = 1 << 30, LEAST_TXN = sizeof(struct disk_txn) };

int dir_lock(int dirfd, struct error *err)
{
    for (int waited = 0, pause = 1; fs_flock(dirfd, LOCK_EX | LOCK_NB); waited += pause) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_sys(err, "locking the mail directory");
        if (waited >= LOCK_WAIT_MS)
            return error_set(err, ERR_BUSY, "another process holds the mail directory");
        pause = MIN(pause * 2, 50);
        fs_sleep_ms(pause);
    }
    return OK;
}

void dir_unlock(int dirfd)
{
    fs_flock(dirfd, LOCK_UN);
}

struct salvage {
    bool index, log; /* which header is good */
    bool log_there;
    bool apart;    /* each has its own UIDVALIDITY: numbers of one mean nothing in the other */
    uint64_t lost; /* bytes of the log that are no transaction */
    bool gone;     /* a message's file is not there */
    uint64_t upto; /* the last sequence number behind which none is missing; 0: the last of all */
};

/* Records by themselves, when the header of the index is of no use. */
static void take_bare_records(struct box *b)
{
    if (!b->map || b->map_len < sizeof(b->head))
        return;
    uint32_t last = 0;
    const struct disk_rec *rec =
        (const struct disk_rec *)(const void *)((const char *)b->map + sizeof(b->head));
    for (size_t n = (b->map_len - sizeof(b->head)) / sizeof(*rec); n; n--, rec++) {
        if (!rec_valid(rec) || rec->uid <= last || rec->name)
            continue;
        last = rec->uid;
        box_push(b, rec);
    }
    b->nbase = 0;
}

static int salvage_index(struct box *b, struct salvage *s, struct error *err)
{
    int rc = box_map_index(b, err);
    if (rc && rc != ERR_NOT_FOUND && rc != ERR_CORRUPT)
        return rc;
    if (!rc)
        rc = box_take_index(b, true, err);
    if (rc == ERR_VERSION)
        return rc;
    s->index = rc == OK;
    if (!s->index) {
        b->head = (struct disk_index){0};
        b->nbase = b->live = 0;
        take_bare_records(b);
    }
    return OK;
}

/* Applies what is whole, and remembers the highest numbers even of what does not apply. */
static void salvage_txns(struct box *b, struct slice log, struct salvage *s)
{
    while (log.n) {
        struct disk_txn head;
        struct slice ops;
        size_t step;
        if (txn_peek(log, &head, &ops) == TXN_GOOD) {
            /* As end_log leaves it: what came behind the new index may be lost. */
            if (!s->upto && head.previous > b->head.sequence)
                s->upto = b->head.sequence;
            if (head.sequence > b->head.sequence && box_apply(b, &head, ops))
                s->lost += head.length;
            b->head.sequence = MAX(b->head.sequence, head.sequence);
            b->head.uidnext = MAX(b->head.uidnext, head.uidnext);
            b->head.reserved = MAX(b->head.reserved, head.reserved);
            step = head.length;
        } else {
            step = txn_resync(log);
            s->lost += step;
        }
        log = slice_from_index(log, step);
    }
}

static int salvage_log(struct box *b, struct salvage *s, struct error *err)
{
    struct disk_log head;
    struct buf bytes;
    buf_init(&bytes, LOG_MAX);
    int rc = io_slurp(b->ixfd, "veredus.log", &bytes, err);
    s->log_there = rc == OK;
    if (rc == ERR_NOT_FOUND)
        return OK;
    if (rc)
        goto out;
    int check = ERR_CORRUPT;
    if (buf_len(&bytes) >= sizeof(head)) {
        memcpy(&head, buf_slice(&bytes).p, sizeof(head));
        check = log_check(&head);
    }
    if (check == ERR_VERSION) {
        rc = error_set(err, check, "veredus.log was written by a newer release");
        goto out;
    }
    if (check == OK && s->index && head.uidvalidity != b->head.uidvalidity) {
        s->apart = true;
        check = ERR_CORRUPT;
    }
    s->log = check == OK;
    if (!s->log)
        s->lost += sizeof(head);
    if (s->log && !s->index) {
        uint32_t above = box_count(b) ? box_rec(b, box_count(b) - 1)->uid + 1 : 1;
        b->head.uidvalidity = head.uidvalidity;
        b->head.uidnext = MAX(head.uidnext, above);
        b->head.reserved = MAX(head.reserved, b->head.uidnext);
        b->head.sequence = b->head.modseq = head.sequence;
        b->head.first_recent = b->head.uidnext;
        b->head.cache_id = head.cache_id;
        b->head.mailbox_id = head.mailbox_id;
        b->head.cache_end = head.cache_end;
    }
    if (s->log && s->index) {
        /* The log may be of a later index than the one that is left. */
        b->head.uidnext = MAX(b->head.uidnext, head.uidnext);
        b->head.reserved = MAX(b->head.reserved, head.reserved);
        s->lost += head.sequence > b->head.sequence;
        b->head.sequence = MAX(b->head.sequence, head.sequence);
    }
    salvage_txns(b, slice_from_index(buf_slice(&bytes), sizeof(head)), s);
out:
    buf_clear(&bytes);
    return rc;
}

/* Gives every record a new number. Not a guest, who sees neither the lists of another server nor
 * which UIDVALIDITYs were given before (I8). */
static int number_anew(struct box *b, struct error *err)
{
    uint32_t uid = 0;
    if (b->store->opt.single)
        return error_set(err, ERR_TEMP, "it has lost its numbers, and new ones are the owner's");
    for (size_t i = 0; i < box_count(b); i++) {
        struct disk_rec *rec = box_edit(b, i);
        if (!(rec->bits & REC_GONE))
            rec->uid = ++uid;
    }
    b->ntombs = b->nold_tombs = 0;
    b->ndeliveries = 0;
    b->head.uidnext = uid + 1;
    b->head.reserved = uid + UID_BLOCK;
    b->head.first_recent = uid + 1;
    b->head.cache_id = 0;
    return store_new_uidvalidity(b->store, &b->head.uidvalidity, err);
}

static int choose_numbers(struct box *b, const struct salvage *s, struct error *err)
{
    uint64_t blocks = s->lost ? 1 + s->lost / LEAST_TXN : 0;
    bool known = (s->index || s->log) && s->log_there && !s->apart && b->head.uidvalidity;
    uint64_t above = b->head.reserved + blocks * UID_BLOCK;
    if (!known || above > UINT32_MAX / 2)
        return number_anew(b, err);
    /* After a stop of the machine the end of the log may be missing, and nothing tells. */
    bool outdated = box_outdated(b);
    if (outdated && !blocks)
        box_note_gap(b, s->upto ? s->upto : b->head.sequence - BOOT_JUMP, b->head.sequence);
    /* The journal may have it: should we die before it is put back, it was not expunged. */
    if (outdated && s->gone)
        b->head.lost_from = 0;
    if (blocks || outdated) {
        b->head.uidnext = (uint32_t)above + 1;
        b->head.reserved = (uint32_t)above + UID_BLOCK;
    }
    return OK;
}

/* Records without file go, unless a rename hid it from us: true when there were any. */
static bool match_records(struct box *b, struct found *f)
{
    bool lost = false;
    char base[FILE_NAME_MAX], path[FILE_NAME_MAX];
    /* Two of one file: a torn log says no more that the first was lost. The last counts. */
    for (size_t i = box_count(b); i--;) {
        struct disk_rec *rec = box_edit(b, i);
        if (rec->bits & REC_GONE)
            continue;
        file_base(b, rec, base);
        struct found_file *file = found_get(f, base);
        if (file && !file->known) {
            file->known = true;
            if (found_elsewhere(b, file, rec))
                continue;
            rec->file_flags = file->flags;
            rec->bits = (uint16_t)((rec->bits & ~REC_NEW) | (file->in_new ? REC_NEW : 0));
        } else if (file || file_locate(b, rec, path)) {
            rec->modseq = b->head.sequence;
            box_lose(b, rec, fs_time());
            lost = true;
        }
    }
    return lost;
}

/* Those that have a number first, by number; the others stay in order. */
static int by_uid(const void *a, const void *b)
{
    const struct op *x = a, *y = b;
    if (x->rec.uid != y->rec.uid)
        return x->rec.uid - 1 < y->rec.uid - 1 ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* Completes the records with what another server told. */
static void complete_records(struct box *b, const struct found *f, const struct foreign *fo,
    bool numbers, struct op *ops, size_t n)
{
    char base[FILE_NAME_MAX];
    for (size_t i = 0; i < n; i++) {
        ops[i].number = (uint32_t)i;
        if (!slice_to_cstr(ops[i].name, base, sizeof(base)) || ops[i].name.n == 0)
            continue;
        adopt_record(b, fo, found_get(f, base), &ops[i]);
        if (!numbers)
            ops[i].rec.uid = 0;
    }
    if (numbers)
        qsort(ops, n, sizeof(*ops), by_uid);
    for (size_t i = 0, last = 0; i < n; i++) {
        if (ops[i].rec.uid == last)
            ops[i].rec.uid = 0; /* twice: the other one has it */
        else
            last = ops[i].rec.uid;
    }
    if (numbers)
        qsort(ops, n, sizeof(*ops), by_uid);
}

static int adopt_files(
    struct box *b, struct found *f, const struct foreign *fo, bool numbers, struct error *err)
{
    size_t n;
    struct op *ops = found_records(f, b->dirfd, &n);
    if (fo->dovecot || fo->courier)
        complete_records(b, f, fo, numbers, ops, n);
    for (size_t i = 0; i < n; i++) {
        if (!b->store->opt.coexist && ops[i].name.n == 0 && box_has_tomb(b, ops[i].rec.guid)) {
            /* Expunged, but we died before its file was removed. */
            file_discard(b, &ops[i].rec);
            continue;
        }
        if (b->head.uidnext >= UINT32_MAX / 2) {
            free(ops);
            return error_set(err, ERR_LIMIT, "this mailbox has used up its UIDs");
        }
        if (!ops[i].rec.uid)
            ops[i].rec.uid = b->head.uidnext++;
        ops[i].rec.modseq = b->head.sequence;
        ops[i].rec.name = box_name(b, ops[i].name);
        box_push(b, &ops[i].rec);
    }
    free(ops);
    b->head.reserved = MAX(b->head.reserved, b->head.uidnext + UID_BLOCK);
    return OK;
}

static void new_cache(struct box *b)
{
    unsigned char id[STORE_GUID];
    guid_new(b->store, id);
    b->head.cache_id = slice_hash(slice_from(id, sizeof(id)));
    b->head.cache_end = 0;
    for (size_t i = 0; i < box_count(b); i++)
        box_edit(b, i)->cache = 0;
}

/* Bits whose keyword was lost must not become the next one that is defined. */
static void drop_nameless(struct box *b)
{
    uint64_t known = b->nkeywords < 64 ? ((uint64_t)1 << b->nkeywords) - 1 : UINT64_MAX;
    for (size_t i = 0; i < box_count(b); i++)
        if (box_rec(b, i)->keywords & ~known)
            box_edit(b, i)->keywords &= known;
}

/* Whatever the damaged files said. */
static void count_anew(struct box *b)
{
    b->live = 0;
    b->head.unseen = b->head.deleted = b->head.unsized = 0;
    b->head.bytes = 0;
    b->head.first_unseen = UINT32_MAX;
    for (size_t i = 0; i < box_count(b); i++)
        box_tally(b, box_rec(b, i), 1);
}

static int rebuild_from(struct box *b, int log, struct error *err)
{
    struct salvage s = {0};
    struct found f;
    struct foreign fo;
    struct error why;
    bool numbers = false;
    int rc = salvage_index(b, &s, &why);
    if (!rc)
        rc = salvage_log(b, &s, &why);
    if (rc)
        return error_set(err, rc, "%s", why.text);
    rc = found_read(b->dirfd, &f, err);
    if (rc)
        return rc;
    drop_nameless(b);
    bool fresh = !s.index && !s.log && !s.log_there;
    /* What a stop of the machine took may have had a repair, too, and numbers behind that. */
    b->head.sequence += fresh ? 1 : box_outdated(b) ? BOOT_JUMP : REPAIR_JUMP;
    b->head.modseq = b->head.sequence;
    if (s.lost || !s.index || !s.log) {
        b->head.tomb_floor = b->head.sequence;
        b->head.lost_from = 0; /* nobody knows what is missing */
        b->head.lost_to = b->head.sequence;
    }
    s.gone = match_records(b, &f);
    rc = adopt_begin(b, fresh, &fo, &numbers, err);
    if (!rc && !numbers)
        rc = choose_numbers(b, &s, err);
    if (!rc)
        rc = adopt_files(b, &f, &fo, numbers, err);
    if (!rc)
        rc = adopt_end(b, &fo, &f, numbers, err);
    if (b->head.cache_id == 0)
        new_cache(b);
    if (b->head.mailbox_id == 0)
        b->head.mailbox_id = b->head.cache_id;
    count_anew(b);
    box_note_witness(b);
    b->head.cur_mtime = b->store->opt.coexist ? f.cur_mtime : NOT_COMPARED;
    b->head.new_mtime = b->store->opt.coexist ? f.new_mtime : NOT_COMPARED;
    foreign_clear(&fo);
    found_clear(&f);
    b->unsynced = fresh && !numbers;
    return rc ? rc : box_rotate(b, log, err);
}

/* Whether somebody repaired it before us. */
static bool intact(struct box *b)
{
    struct error ignored;
    bool switched = false;
    enum txn_state state = TXN_BAD;
    bool good = box_load(b, &ignored) == OK && box_follow(b, &switched, &state, &ignored) == OK &&
                state == TXN_END && box_check_all(b) == OK;
    box_unload(b);
    return good;
}

/* Locks whatever is called veredus.log, good or not; *fd -1 when there is none. Held until the
 * new log is in place: writers that wait for it find it replaced. */
int box_seize_log(struct box *b, int *fd, struct error *err)
{
    struct stat st;
    for (;;) {
        *fd = fs_open(b->ixfd, "veredus.log", O_RDWR | O_NOFOLLOW, 0);
        if (*fd < 0)
            return errno == ENOENT ? OK : error_sys(err, "opening veredus.log");
        int rc = io_lock(*fd, err);
        if (!rc && fs_fstat(*fd, &st))
            rc = error_sys(err, "veredus.log");
        if (rc || st.st_nlink > 0)
            return rc;
        fs_close(fd);
    }
}

int box_named(const struct box *b, struct error *err)
{
    struct stat named, ours;
    if (fs_stat(b->store->fd, folder_place(b->store, b->disk), &named) || fs_fstat(b->ixfd, &ours))
        return error_sys(err, "folder %s", b->disk);
    return named.st_ino == ours.st_ino && named.st_dev == ours.st_dev
               ? OK
               : error_set(err, ERR_NOT_FOUND, "folder %s was replaced", b->disk);
}

int box_seize(struct box *b, struct error *err)
{
    int rc = dir_lock(b->ixfd, err);
    if (rc)
        return rc;
    rc = box_named(b, err);
    if (rc)
        dir_unlock(b->ixfd);
    return rc;
}

static int rebuild_seized(struct box *b, bool force, struct error *err)
{
    int log = -1;
    int rc = place_holds(b) ? place_move_in(b, err)
                            : error_set(err, ERR_BUSY, "another process moves the index of INBOX");
    /* Who made the folder may have died between two of its directories. */
    if (!rc)
        rc = maildir_make(b->dirfd, err);
    if (!rc)
        rc = box_seize_log(b, &log, err);
    if (!rc && (force || !intact(b)))
        rc = rebuild_from(b, log, err);
    fs_close(&log);
    return rc;
}

int box_rebuild(struct store *s, const char *disk, bool force, struct error *err)
{
    struct box *b;
    int rc = box_open_dir(s, disk, &b, err);
    if (rc)
        return rc;
    rc = box_seize(b, err);
    if (!rc) {
        rc = rebuild_seized(b, force, err);
        dir_unlock(b->ixfd);
    }
    box_close(b);
    return rc;
}
