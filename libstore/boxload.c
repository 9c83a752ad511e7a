/* Reading the index, and applying transactions to what was read. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "libstore/private.h"
#include "libutil/crc32c.h"

int box_open_log(struct box *b, int *fd, struct disk_log *log, struct error *err)
{
    *fd = fs_open(b->ixfd, "veredus.log", O_RDWR | O_NOFOLLOW, 0);
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

/* What follows the records: checked as a whole, but for the names, which are checked one by one
 * when they are needed. */
static int take_tail(struct box *b, struct slice tail)
{
    struct reader r = reader_of(tail);
    struct slice tombs = get_bytes(&r, (size_t)b->head.ntombs * sizeof(struct disk_tomb));
    struct slice ids = get_bytes(&r, (size_t)b->head.ndeliveries * sizeof(struct disk_delivery));
    struct reader words = reader_of(get_bytes(&r, b->head.keywords_len));
    size_t checked = tail.n - r.rest.n;
    struct slice names = get_bytes(&r, b->head.names_len);
    if (!reader_done(&r) || crc32c(0, slice_first(tail, checked)) != b->head.tail_crc)
        return ERR_CORRUPT;
    b->old_tombs = (const struct disk_tomb *)(const void *)tombs.p;
    b->nold_tombs = b->head.ntombs;
    b->ndeliveries = b->cap_deliveries = b->head.ndeliveries;
    b->deliveries = xcalloc(b->ndeliveries, sizeof(*b->deliveries));
    if (ids.n)
        memcpy(b->deliveries, ids.p, ids.n);
    while (words.rest.n && b->nkeywords < STORE_KEYWORDS_MAX) {
        struct slice word = get_bytes(&words, get_u8(&words));
        b->keywords[b->nkeywords++] = xmemdup0(word.p, word.n);
    }
    b->old_names = names.p;
    b->nold_names = names.n;
    return words.bad ? ERR_CORRUPT : OK;
}

/* For rebuilding: what is good, as records of our own. */
static void take_good(struct box *b)
{
    uint32_t last = 0;
    size_t n = b->nbase;
    b->nbase = 0;
    for (size_t i = 0; i < n; i++) {
        if (!rec_valid(&b->base[i]) || b->base[i].uid <= last ||
            b->base[i].uid >= b->head.uidnext ||
            (b->base[i].name && box_name_at(b, b->base[i].name).n == 0))
            continue;
        last = b->base[i].uid;
        box_push(b, &b->base[i]);
    }
}

int box_take_index(struct box *b, bool lenient, struct error *err)
{
    struct slice image = slice_from(b->map, b->map_len);
    if (!image.p || image.n < sizeof(b->head))
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
    b->base = (const struct disk_rec *)(const void *)((const char *)b->map + sizeof(b->head));
    b->nbase = b->live = records / sizeof(struct disk_rec);
    if (take_tail(b, slice_from_index(image, sizeof(b->head) + records)) && !lenient)
        return error_set(err, ERR_CORRUPT, "veredus.index is damaged behind the records");
    if (lenient) {
        take_good(b);
        return OK;
    }
    box_recs_init(b);
    /* A large one is checked where it is read, so that opening it does not read it. */
    if (b->nbase <= CHECK_AT_ONCE && box_check_all(b))
        return error_set(err, ERR_CORRUPT, "a record of veredus.index is damaged");
    return OK;
}

int box_map_index(struct box *b, struct error *err)
{
    int fd = fs_open(b->ixfd, "veredus.index", O_RDONLY | O_NOFOLLOW, 0), rc = OK;
    uint64_t size;
    if (fd < 0)
        return error_sys(err, "opening veredus.index");
    if (fs_measure(fd, &size, &b->mount))
        rc = error_sys(err, "veredus.index");
    else if (size < sizeof(struct disk_index))
        rc = error_set(err, ERR_CORRUPT, "veredus.index is too short");
    if (!rc) {
        b->map_len = (size_t)size;
        b->map = fs_map(fd, b->map_len);
        if (!b->map)
            rc = error_sys(err, "mapping veredus.index");
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
    b->log_named = false;
    return rc;
}

void box_unload(struct box *b)
{
    cache_flush(b);
    fs_close(&b->log_fd);
    fs_close(&b->cache_fd);
    b->locked = false;
    box_recs_clear(b);
    fs_unmap(b->map, b->map_len);
    free(b->tombs);
    free(b->deliveries);
    for (size_t i = 0; i < b->nkeywords; i++)
        free(b->keywords[i]);
    buf_clear(&b->names);
    b->map = NULL;
    b->tombs = NULL;
    b->old_tombs = NULL;
    b->old_names = NULL;
    b->deliveries = NULL;
    b->map_len = b->nold_tombs = b->nold_names = 0;
    b->ntombs = b->cap_tombs = b->ndeliveries = b->cap_deliveries = b->nkeywords = 0;
    b->head = (struct disk_index){0};
    b->log_off = 0;
}

/* What was expunged before the old box was loaded: when a fold is cut off, an older index can
 * follow that still has it. */
static void skip_gone(struct box *now, uint32_t below, size_t *at)
{
    while (*at < box_count(now) && box_rec(now, *at)->uid < below &&
           (box_rec(now, *at)->bits & REC_GONE))
        ++*at;
}

/* Each old record, as it is now, and then the new ones. */
static int merge(struct box *now, struct box *old, struct disk_rec **out, size_t *n)
{
    size_t olds = box_count(old), news = box_count(now), i, j = 0;
    struct disk_rec *all = xcalloc(olds + news, sizeof(*all));
    for (i = 0; i < olds; i++) {
        const struct disk_rec *was = box_rec(old, i);
        all[i] = *was;
        skip_gone(now, was->uid, &j);
        const struct disk_rec *is = j < news ? box_rec(now, j) : NULL;
        if (is && is->uid < was->uid) {
            free(all);
            return ERR_NOT_FOUND;
        }
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
    while (j < news)
        all[i++] = *box_rec(now, j++);
    *out = all;
    *n = i;
    return OK;
}

static void take_merged(struct box *b, struct disk_rec *all, size_t n)
{
    size_t live = b->live;
    box_recs_clear(b);
    b->base = all;
    b->nbase = n;
    b->base_heap = true;
    b->live = live;
}

/* A box of the same folder with nothing loaded. */
static struct box fresh_box(const struct box *b)
{
    struct box fresh = {.store = b->store,
        .texts.max = b->texts.max,
        .ixfd = b->ixfd,
        .dirfd = b->dirfd,
        .log_fd = -1,
        .cache_fd = -1,
        .keep = b->keep,
        .mount = b->mount,
        .txn = b->txn,
        .cached = b->cached};
    memcpy(fresh.disk, b->disk, sizeof(fresh.disk));
    buf_init(&fresh.names, b->names.max);
    return fresh;
}

int box_reload(struct box *b, struct error *err)
{
    struct box old = *b;
    *b = fresh_box(&old);
    int rc = box_load(b, err);
    /* What others wrote while the index was made stands in the log only. */
    if (!rc)
        rc = box_read_on(b, err);
    if (!rc && old.keep) {
        struct disk_rec *all;
        size_t n;
        if (b->head.uidvalidity != old.head.uidvalidity)
            rc = error_set(err, ERR_NOT_FOUND, "the mailbox was replaced");
        else if (merge(b, &old, &all, &n))
            rc = error_set(err, ERR_NOT_FOUND, "a message came below numbers already seen");
        else
            take_merged(b, all, n);
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

void box_refold(struct box *b)
{
    struct error ignored;
    uint32_t *dirty = NULL;
    if (b->live != box_count(b))
        return;
    cache_flush(b);
    struct box fresh = fresh_box(b);
    int rc = box_map_index(&fresh, &ignored);
    if (!rc)
        rc = box_take_index(&fresh, false, &ignored);
    if (!rc && fresh.head.sequence == b->head.sequence && box_count(b) == fresh.nbase &&
        fresh.head.cache_id == b->head.cache_id) {
        size_t n = box_marked(b, REC_DIRTY, &dirty);
        for (size_t i = 0; i < n; i++)
            box_edit(&fresh, dirty[i])->bits |= REC_DIRTY;
        fresh.log_fd = b->log_fd;
        fresh.log_off = b->log_off;
        fresh.log_named = b->log_named;
        fresh.cache_fd = b->cache_fd;
        fresh.locked = b->locked;
        b->log_fd = b->cache_fd = -1;
        struct box old = *b;
        *b = fresh;
        fresh = old;
    }
    free(dirty);
    box_unload(&fresh);
}
