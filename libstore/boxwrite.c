/* Folding the log into a new index. */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "libstore/private.h"
#include "libutil/crc32c.h"

enum { INDEX_MAX = 1 << 30 };

/* Live records; names are gathered anew so that those of expunged messages go. */
static void put_records(struct box *b, struct buf *out, struct buf *names, uint32_t *n)
{
    for (size_t i = 0; i < box_count(b); i++) {
        struct disk_rec rec = *box_rec(b, i);
        if (rec.bits & REC_GONE)
            continue;
        if (rec.name) {
            const char *at = buf_slice(&b->names).p + rec.name;
            if (buf_len(names) == 0)
                buf_u8(names, 0);
            rec.name = (uint32_t)buf_len(names);
            buf_put(names, slice_from(at, (size_t)(unsigned char)at[0] + 1));
        }
        rec_seal(&rec);
        buf_put(out, slice_from(&rec, sizeof(rec)));
        ++*n;
    }
}

static void put_tail(struct box *b, struct disk_index *h, struct slice names, struct buf *out)
{
    uint32_t oldest = fs_time() - TOMB_DAYS * 86400u;
    for (size_t i = 0; i < b->ntombs; i++) {
        const struct disk_tomb *t = &b->tombs[i];
        if (t->time < oldest) {
            h->tomb_floor = MAX(h->tomb_floor, t->modseq);
            continue;
        }
        buf_put(out, slice_from(t, sizeof(*t)));
        h->ntombs++;
    }
    size_t drop = b->ndeliveries > DELIVERIES_MAX ? b->ndeliveries - DELIVERIES_MAX : 0;
    h->ndeliveries = (uint32_t)(b->ndeliveries - drop);
    if (h->ndeliveries)
        buf_put(out, slice_from(b->deliveries + drop, h->ndeliveries * sizeof(*b->deliveries)));
    size_t before = buf_len(out);
    for (size_t i = 0; i < b->nkeywords; i++) {
        buf_u8(out, (uint8_t)strlen(b->keywords[i]));
        buf_puts(out, b->keywords[i]);
    }
    h->keywords_len = (uint32_t)(buf_len(out) - before);
    h->names_len = (uint32_t)names.n;
    buf_put(out, names);
}

static int build_index(struct box *b, struct buf *out)
{
    struct disk_index h = b->head;
    struct buf names;
    buf_init(&names, INDEX_MAX);
    h.nrecords = h.ntombs = h.ndeliveries = 0;
    buf_put(out, slice_from(&h, sizeof(h)));
    put_records(b, out, &names, &h.nrecords);
    size_t tail = buf_len(out);
    put_tail(b, &h, buf_slice(&names), out);
    int rc = out->failed || names.failed ? ERR_LIMIT : OK;
    buf_clear(&names);
    if (rc)
        return rc;
    h.tail_crc = crc32c(0, slice_from_index(buf_slice(out), tail));
    index_seal(&h);
    memcpy(out->data + out->off, &h, sizeof(h));
    b->head.tomb_floor = h.tomb_floor;
    return OK;
}

/* A new, empty log, locked before anyone else can see it. */
static int new_log(struct box *b, int *out, struct error *err)
{
    struct disk_log log = {.sequence = b->head.sequence,
        .cache_id = b->head.cache_id,
        .mailbox_id = b->head.mailbox_id,
        .cache_end = b->head.cache_end,
        .uidvalidity = b->head.uidvalidity,
        .uidnext = b->head.uidnext,
        .reserved = b->head.reserved};
    fs_unlink(b->dirfd, "veredus.log.new", 0);
    int fd = fs_open(b->dirfd, "veredus.log.new", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "creating veredus.log");
    log_seal(&log);
    int rc = io_write(fd, slice_from(&log, sizeof(log)), 0, err, "veredus.log");
    if (!rc && (fs_data_sync(fd) || fs_lock(fd, F_WRLCK)))
        rc = error_sys(err, "veredus.log");
    if (!rc && fs_rename(b->dirfd, "veredus.log.new", b->dirfd, "veredus.log"))
        rc = error_sys(err, "renaming veredus.log");
    if (rc) {
        fs_unlink(b->dirfd, "veredus.log.new", 0);
        fs_close(&fd);
    }
    *out = fd;
    return rc;
}

int box_rotate(struct box *b, struct error *err)
{
    struct buf image;
    int fd = -1, rc = cache_compact(b, err);
    if (rc)
        return rc;
    buf_init(&image, INDEX_MAX);
    rc = build_index(b, &image);
    if (rc)
        error_set(err, rc, "veredus.index would be too large");
    /* Index before log: a crash between them leaves a log whose transactions the index has. */
    if (!rc)
        rc = io_replace(b->dirfd, "veredus.index", buf_slice(&image), err);
    if (!rc)
        rc = new_log(b, &fd, err);
    buf_clear(&image);
    if (rc)
        return rc;
    fs_close(&b->log_fd);
    b->log_fd = fd;
    b->log_off = sizeof(struct disk_log);
    fs_sync(b->dirfd);
    return OK;
}
