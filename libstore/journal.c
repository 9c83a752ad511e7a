#include "libstore/journalfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "libutil/crc32c.h"

enum {
    JOURNAL_SIZE = 4 << 20,            /* of one that is made now */
    JOURNAL_MIN = 2 * JOURNAL_BODY_MAX /* room for the largest entry */
};

static const char journal_name[] = JOURNAL_NAME, head_magic[8] = "VRDJRNL";

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

int journal_read_head(int fd, struct journal_head *h, uint32_t *mount, struct error *err)
{
    uint64_t size;
    if (fs_measure(fd, &size, mount))
        return error_sys(err, "%s", journal_name);
    int rc = io_read(fd, h, sizeof(*h), 0, err);
    return rc ? rc : check_head(h, size, err);
}

int journal_write_head(int fd, struct journal_head *h, struct error *err)
{
    memcpy(h->magic, head_magic, sizeof(h->magic));
    h->version = FORMAT_VERSION;
    h->crc = head_crc(h);
    return io_write(fd, slice_from(h, sizeof(*h)), 0, err, journal_name);
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
static int make(struct store *s, int fd, uint64_t size, uint32_t mount, struct error *err)
{
    struct journal_head h = {.size = size};
    witness_note(&h.witness, fs_boot(), mount);
    if (fs_sync_all(s->fd))
        return error_sys(err, "syncing the mail directory");
    int rc = fill(fd, size, err);
    if (!rc && fs_sync(s->fd))
        rc = error_sys(err, "syncing the mail directory");
    return rc ? rc : journal_write_head(fd, &h, err);
}

int journal_make(struct store *s, uint64_t size, struct error *err)
{
    int fd = fs_open(s->fd, journal_name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "opening %s", journal_name);
    struct journal_head h;
    uint32_t mount;
    int rc = io_lock(fd, err);
    if (!rc)
        rc = journal_read_head(fd, &h, &mount, err);
    s->journal.size = rc ? size : h.size;
    if (rc == ERR_CORRUPT)
        rc = make(s, fd, size, mount, err);
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

int journal_founded(struct store *s, int folder, struct error *err)
{
    struct stat st;
    /* A folder that is shared was synced when it was made, and others have no journal of its owner.
     */
    if (fs_stat(folder, "veredus.acl", &st) == 0)
        return OK;
    /* Where there is no room for a journal, the long way does. */
    int rc = open_journal(s, err);
    return rc && rc != ERR_VERSION && fs_sync_all(s->fd) == 0 ? OK : rc;
}

/* Locked: goes behind the last entry, of whatever generation is there now. */
static int find_end(struct journal *j, struct error *err)
{
    struct journal_entry e;
    int rc = io_read(j->fd, &e, sizeof(e), JOURNAL_START, err);
    if (rc)
        return rc;
    bool any = journal_plausible(&e, j->size - JOURNAL_START) && e.number == 0;
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
        if (rc || !journal_plausible(&e, j->size - j->at) || e.generation != j->generation ||
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
    struct journal_entry e;
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
    size_t from = offsetof(struct journal_entry, crc) + 4;
    e.crc = crc32c(0, slice_from(p + from, journal_entry_size(&e) - from));
    memcpy(p, &e, sizeof(e));
    rc = io_write(j->fd, buf_slice(image), (int64_t)j->at, err, journal_name);
    if (!rc) {
        j->at += e.length;
        j->number++;
    }
    return rc;
}

/* Locked. Whoever deletes a folder removes its log, and then settles the journal: an entry that
 * comes behind that would bring the folder back. And so would one under a name that the folder had
 * when it was opened, should its log not be on disk yet. */
static int folder_there(const struct box *b, struct error *err)
{
    struct stat st;
    if (fs_stat(b->ixfd, "veredus.log", &st))
        return error_sys(err, "the folder of a message");
    return box_named(b, err) ? error_set(err, ERR_TEMP, "the folder was renamed") : OK;
}

int journal_add(struct store *s, const struct journal_note *n, struct error *err)
{
    struct buf image, op;
    struct slice folder = slice_of(n->box->disk);
    buf_init(&op, 1024);
    txn_op(&op, n->op);
    struct journal_entry e = {.magic = JOURNAL_MAGIC,
        .version = FORMAT_VERSION,
        .sequence = n->sequence,
        .uidvalidity = n->box->head.uidvalidity,
        .mailbox = n->box->head.mailbox_id,
        .n = {(uint32_t)folder.n, (uint32_t)buf_len(&op), (uint32_t)n->keywords.n,
            (uint32_t)n->content.n}};
    e.length = (journal_entry_size(&e) + 7) / 8 * 8;
    buf_init(&image, e.length);
    char *room = buf_reserve(&image, e.length);
    assert(room && !op.failed);
    buf_put(&image, slice_from(&e, sizeof(e)));
    buf_put(&image, folder);
    buf_put(&image, buf_slice(&op));
    buf_put(&image, n->keywords);
    buf_put(&image, n->content);
    buf_put(&image, slice_from("\0\0\0\0\0\0\0", e.length - journal_entry_size(&e)));
    int rc = open_journal(s, err);
    if (!rc)
        rc = io_lock(s->journal.fd, err);
    if (!rc) {
        rc = folder_there(n->box, err);
        if (!rc)
            rc = put_entry(s, &image, err);
        fs_lock(s->journal.fd, F_UNLCK);
    }
    if (!rc && fs_data_sync(s->journal.fd))
        rc = error_sys(err, "syncing %s", journal_name);
    buf_clear(&image);
    buf_clear(&op);
    return rc;
}

/* The front of the journal, so that no entry counts any more. */
int journal_forget(struct store *s, struct error *err)
{
    const struct journal_entry none = {0};
    int rc = begin_anew(s, err);
    if (!rc)
        rc = io_write(
            s->journal.fd, slice_from(&none, sizeof(none)), JOURNAL_START, err, journal_name);
    if (!rc && fs_data_sync(s->journal.fd))
        rc = error_sys(err, "syncing %s", journal_name);
    return rc;
}

int journal_hold(struct store *s, struct error *err)
{
    struct stat st;
    if (s->journal.fd < 0 && fs_stat(s->fd, journal_name, &st) && errno == ENOENT)
        return OK;
    int rc = open_journal(s, err);
    if (rc)
        return rc;
    rc = io_lock(s->journal.fd, err);
    if (!rc)
        rc = find_end(&s->journal, err);
    if (!rc && s->journal.number)
        rc = journal_forget(s, err);
    if (rc)
        journal_release(s);
    return rc;
}

void journal_release(struct store *s)
{
    if (s->journal.fd >= 0)
        fs_lock(s->journal.fd, F_UNLCK);
}

int journal_settle(struct store *s, struct error *err)
{
    int rc = journal_hold(s, err);
    if (!rc)
        journal_release(s);
    return rc;
}
