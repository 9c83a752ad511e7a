/* veredus.cache: texts made from messages once, when they arrive. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "libstore/private.h"

#include "libmail/imapstruct.h"
#include "libmail/mime.h"
#include "libmail/msgid.h"
#include "libutil/crc32c.h"

enum {
    UNIT = 8,
    TEXT_MAX = 1 << 20,
    ARENA_MAX = 64 << 20,
    RECORD_MAX = 8 * TEXT_MAX,
    COMPACT_SLACK = 1 << 20,
    GATHERED = 64 * 1024,
    CACHE_RECORD_VERSION = 1
};

struct cache_head {
    char magic[8];
    uint32_t crc; /* of what follows */
    uint32_t version;
    uint64_t id;
    uint64_t spare;
};

struct cache_rec {
    uint32_t length; /* with this header, without padding */
    uint32_t crc;    /* of the GUID and what follows: a UID alone may be that of an append that
                        failed, and whose place was used again */
    uint32_t uid;
    uint32_t version;
    uint32_t header_size;
    uint32_t n[5]; /* envelope, body, bodystructure, header, preview */
    uint32_t thread[2];
};

static const char cache_magic[8] = "VRDCACH";

/* The fields that clients ask for, and what tells the thread, in one pass. Messages belong together
 * that name the same first message: the oldest of References, else of In-Reply-To, else the message
 * itself (RFC 5322 §3.6.4). *thread is 0 when none of them is there. */
static void put_header_fields(struct slice header, uint64_t *thread, struct buf *out)
{
    enum { IDS = 3 };
    static const char *const wanted[] = {"References", "In-Reply-To", "Message-ID", "Date", "From",
        "Sender", "Reply-To", "To", "Cc", "Bcc", "Subject"};
    struct slice id[IDS] = {0};
    bool found[IDS] = {0};
    struct header_iter it;
    struct header_field field;
    header_iter_init(&it, header);
    while (mime_field_next(&it, &field)) {
        size_t i = 0;
        while (i < ARRAY_LEN(wanted) && !slice_iis(field.name, wanted[i]))
            i++;
        if (i == ARRAY_LEN(wanted))
            continue;
        mime_put_crlf(out, field.raw);
        if (i < IDS && !found[i]) {
            found[i] = true;
            id[i] = msgid_find(field.body);
        }
    }
    buf_puts(out, "\r\n");
    *thread = 0;
    for (size_t i = IDS; i-- > 0;)
        if (id[i].n)
            *thread = slice_hash(id[i]);
}

/* Ends the text that begins at `from`; what did not fit is nothing. */
static bool end_text(struct buf *out, size_t from, uint32_t *n)
{
    bool good = !out->failed;
    if (!good)
        buf_truncate(out, from);
    out->failed = false;
    *n = (uint32_t)(buf_len(out) - from);
    return good;
}

/* Envelope, body, body structure; false when they are too large to be told. */
static bool put_structure(struct slice content, const struct mime_part *root, struct arena *arena,
    struct cache_rec *rec, struct buf *out)
{
    for (size_t i = 0; i < 3; i++) {
        size_t from = buf_len(out);
        out->max = from + TEXT_MAX;
        int rc = i == 0 ? imap_put_envelope(mime_header(content, root), arena, out)
                        : imap_put_body(content, root, arena, i == 2, out);
        if (!end_text(out, from, &rec->n[i]) || rc)
            return false;
    }
    return true;
}

/* What a message gets instead: one opaque text. */
static void put_fallback(struct slice content, struct cache_rec *rec, struct buf *out)
{
    static const char *const ends[] = {"", " NIL NIL NIL NIL"};
    unsigned long long size = mime_crlf_size(content);
    size_t from = sizeof(*rec);
    buf_truncate(out, from);
    out->max = from + TEXT_MAX;
    buf_puts(out, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    end_text(out, from, &rec->n[0]);
    for (size_t i = 0; i < 2; i++) {
        from = buf_len(out);
        buf_printf(
            out, "(\"APPLICATION\" \"OCTET-STREAM\" NIL NIL NIL \"8BIT\" %llu%s)", size, ends[i]);
        end_text(out, from, &rec->n[1 + i]);
    }
}

void cache_build(struct slice content, struct buf *out)
{
    enum { USUAL = 2048 };
    struct cache_rec rec = {.version = CACHE_RECORD_VERSION};
    struct arena arena;
    size_t max = out->max;
    arena_init(&arena, ARENA_MAX);
    buf_reset(out);
    buf_reserve(out, USUAL);
    buf_put(out, slice_from(&rec, sizeof(rec)));
    struct mime_part *root = mime_parse(content, &arena);
    if (!root || !put_structure(content, root, &arena, &rec, out))
        put_fallback(content, &rec, out);
    if (root) {
        uint64_t thread;
        size_t from = buf_len(out);
        rec.header_size = (uint32_t)root->header_size;
        out->max = from + TEXT_MAX;
        put_header_fields(mime_header(content, root), &thread, out);
        memcpy(rec.thread, &thread, sizeof(thread));
        end_text(out, from, &rec.n[3]);
        from = buf_len(out);
        out->max = from + TEXT_MAX;
        preview_put(content, root, &arena, out);
        end_text(out, from, &rec.n[4]);
    }
    out->max = max;
    rec.length = (uint32_t)buf_len(out);
    memcpy(out->data + out->off, &rec, sizeof(rec));
    arena_reset(&arena);
}

static uint32_t guid_crc(const struct disk_rec *r)
{
    return crc32c(0, slice_from(r->guid, sizeof(r->guid)));
}

static uint32_t head_crc(const struct cache_head *h)
{
    size_t from = offsetof(struct cache_head, crc) + 4;
    return crc32c(0, slice_from((const char *)h + from, sizeof(*h) - from));
}

/* Opens the file if it is the one the index speaks of; ERR_NOT_FOUND when it is not. */
static int cache_open(struct box *b, struct error *err)
{
    struct cache_head h;
    if (b->cache_fd >= 0)
        return OK;
    int fd = fs_open(b->ixfd, "veredus.cache", O_RDWR | O_NOFOLLOW, 0);
    if (fd < 0)
        return error_sys(err, "opening veredus.cache");
    int rc = io_read(fd, &h, sizeof(h), 0, err);
    if (!rc && (memcmp(h.magic, cache_magic, sizeof(h.magic)) != 0 || h.crc != head_crc(&h)))
        rc = ERR_CORRUPT;
    if (!rc && h.version > FORMAT_VERSION)
        rc = error_set(err, ERR_VERSION, "veredus.cache was written by a newer release");
    else if (rc || h.id != b->head.cache_id)
        rc = error_set(err, ERR_NOT_FOUND, "veredus.cache is not the one of this index");
    if (rc)
        fs_close(&fd);
    b->cache_fd = fd;
    return rc;
}

/* An empty cache file with this id, not yet in place. */
static int cache_create(struct box *b, uint64_t id, int *out, struct error *err)
{
    struct cache_head h = {.version = FORMAT_VERSION, .id = id};
    memcpy(h.magic, cache_magic, sizeof(h.magic));
    h.crc = head_crc(&h);
    int fd = fs_open(b->ixfd, "veredus.cache.new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_sys(err, "creating veredus.cache");
    int rc = io_write(fd, slice_from(&h, sizeof(h)), 0, err, "veredus.cache");
    if (rc)
        fs_close(&fd);
    *out = fd;
    return rc;
}

void cache_flush(struct box *b)
{
    struct error ignored; /* a record that is not there is made again */
    struct slice texts = buf_slice(&b->texts);
    if (texts.n && b->cache_fd >= 0)
        (void)!io_write(
            b->cache_fd, texts, (int64_t)(b->texts_at * UNIT), &ignored, "veredus.cache");
    buf_clear(&b->texts);
}

/* Written with others, if they lie in a row. */
static void gather(struct box *b, struct slice built, uint64_t units)
{
    enum { SOME = 4096 };
    static const char padding[UNIT];
    if (b->texts_at + buf_len(&b->texts) / UNIT != units)
        cache_flush(b);
    if (buf_len(&b->texts) == 0) {
        b->texts_at = units;
        buf_reserve(&b->texts, SOME);
    }
    buf_put(&b->texts, built);
    buf_put(&b->texts, slice_from(padding, (UNIT - built.n % UNIT) % UNIT));
    if (buf_len(&b->texts) >= GATHERED)
        cache_flush(b);
}

int cache_put(struct box *b, const struct disk_rec *of, struct buf *built, uint32_t *place,
    uint32_t *end, struct error *err)
{
    int rc = cache_open(b, err);
    if (rc == ERR_NOT_FOUND) {
        rc = cache_create(b, b->head.cache_id, &b->cache_fd, err);
        if (!rc && fs_rename(b->ixfd, "veredus.cache.new", b->ixfd, "veredus.cache"))
            rc = error_sys(err, "renaming veredus.cache");
        if (rc)
            fs_close(&b->cache_fd);
    }
    if (rc)
        return rc;
    uint64_t units = MAX(b->head.cache_end, sizeof(struct cache_head) / UNIT);
    uint64_t after = units + (buf_len(built) + UNIT - 1) / UNIT;
    if (after > UINT32_MAX)
        return error_set(err, ERR_LIMIT, "veredus.cache is full");
    struct cache_rec rec;
    assert(buf_len(built) >= sizeof(rec));
    memcpy(&rec, built->data + built->off, sizeof(rec));
    rec.uid = of->uid;
    memcpy(built->data + built->off, &rec, sizeof(rec));
    size_t from = offsetof(struct cache_rec, crc) + 4;
    rec.crc = crc32c(guid_crc(of), slice_from_index(buf_slice(built), from));
    memcpy(built->data + built->off, &rec, sizeof(rec));
    if (b->store && b->store->opt.gather)
        gather(b, buf_slice(built), units);
    else
        rc = io_write(b->cache_fd, buf_slice(built), (int64_t)(units * UNIT), err, "veredus.cache");
    *place = (uint32_t)units;
    *end = (uint32_t)after;
    return rc;
}

int cache_parse(struct slice built, struct store_cache *c)
{
    struct cache_rec rec;
    struct slice part[5];
    uint64_t thread;
    if (built.n < sizeof(rec))
        return ERR_CORRUPT;
    memcpy(&rec, built.p, sizeof(rec));
    struct reader r = reader_of(slice_from_index(built, sizeof(rec)));
    for (size_t i = 0; i < ARRAY_LEN(part); i++)
        part[i] = get_bytes(&r, rec.n[i]);
    if (!reader_done(&r) || rec.version != CACHE_RECORD_VERSION)
        return ERR_CORRUPT;
    memcpy(&thread, rec.thread, sizeof(thread));
    *c = (struct store_cache){part[0], part[1], part[2], part[3], rec.header_size, part[4], thread};
    return OK;
}

/* The whole record, checked, into b->cached. */
static int read_record(struct box *b, const struct disk_rec *r)
{
    struct cache_rec rec;
    struct error ignored;
    uint64_t at = (uint64_t)r->cache * UNIT;
    if (r->cache == 0 || (b->stale_places && box_is_base(b, r)) || cache_open(b, &ignored))
        return ERR_NOT_FOUND;
    enum { FIRST = 4096 };
    cache_flush(b);
    buf_reset(&b->cached);
    char *room = buf_reserve(&b->cached, FIRST);
    ssize_t n = room ? fs_pread(b->cache_fd, room, FIRST, (off_t)at) : -1;
    if (n < (ssize_t)sizeof(rec))
        return ERR_NOT_FOUND;
    memcpy(&rec, room, sizeof(rec));
    if (rec.uid != r->uid || rec.length < sizeof(rec) || rec.length > RECORD_MAX)
        return ERR_NOT_FOUND;
    buf_claim(&b->cached, MIN((size_t)n, rec.length));
    size_t missing = rec.length - buf_len(&b->cached);
    if (missing) {
        room = buf_reserve(&b->cached, missing);
        if (!room || io_read(b->cache_fd, room, missing, at + buf_len(&b->cached), &ignored))
            return ERR_NOT_FOUND;
        buf_claim(&b->cached, missing);
    }
    size_t from = offsetof(struct cache_rec, crc) + 4;
    if (crc32c(guid_crc(r), slice_from_index(buf_slice(&b->cached), from)) != rec.crc)
        return ERR_NOT_FOUND;
    return OK;
}

int cache_get(struct box *b, const struct disk_rec *r, struct store_cache *c)
{
    if (read_record(b, r) || cache_parse(buf_slice(&b->cached), c))
        return ERR_NOT_FOUND;
    return OK;
}

int cache_compact_begin(struct box *b, struct box *to, struct error *err)
{
    uint64_t used = (uint64_t)b->head.cache_end * UNIT;
    struct error ignored;
    cache_flush(b);
    *to = (struct box){.ixfd = b->ixfd, .cache_fd = -1, .head.cache_id = b->head.cache_id + 1};
    if (used < COMPACT_SLACK || b->head.cache_records / 2 < b->live)
        return OK;
    if (cache_open(b, &ignored))
        b->cache_fd = -1; /* nothing to copy from */
    return cache_create(b, to->head.cache_id, &to->cache_fd, err);
}

int cache_compact_one(struct box *b, struct box *to, struct disk_rec *rec, struct error *err)
{
    uint32_t end = 0;
    if (read_record(b, rec)) {
        rec->cache = 0; /* made again when it is asked for */
        return OK;
    }
    const struct disk_rec was = *rec;
    int rc = cache_put(to, &was, &b->cached, &rec->cache, &end, err);
    to->head.cache_end = end;
    to->head.cache_records++;
    return rc;
}

void cache_compact_end(struct box *b, struct box *to, bool good)
{
    if (to->cache_fd < 0)
        return;
    if (!good || fs_rename(b->ixfd, "veredus.cache.new", b->ixfd, "veredus.cache")) {
        fs_unlink(b->ixfd, "veredus.cache.new", 0);
        fs_close(&to->cache_fd);
    }
    if (!good)
        return;
    /* The index speaks of the new file, there or not. */
    cache_forget_places(b);
    b->cache_fd = to->cache_fd;
    b->head.cache_id = to->head.cache_id;
    b->head.cache_end = to->head.cache_end;
    b->head.cache_records = to->head.cache_records;
}

void cache_forget_places(struct box *b)
{
    uint32_t *list;
    size_t n = box_marked(b, 0, &list);
    for (size_t i = 0; i < n; i++)
        box_edit(b, list[i])->cache = 0;
    free(list);
    b->stale_places = true;
    cache_flush(b);
    fs_close(&b->cache_fd);
}
