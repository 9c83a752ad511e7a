#include "libstore/format.h"

#include "libutil/crc32c.h"

const char index_magic[8] = "VRDINDX", log_magic[8] = "VRDSLOG";
enum { TXN_MAGIC = 0x31585456, OP_HEAD = 8, NAME_MAX_LEN = 255 };

static uint32_t crc_after(const void *p, size_t from, size_t size)
{
    return crc32c(0, slice_from((const char *)p + from, size - from));
}

#define CRC_OF(p) crc_after((p), offsetof(__typeof__(*(p)), crc) + 4, sizeof(*(p)))

void index_seal(struct disk_index *h)
{
    memcpy(h->magic, index_magic, sizeof(h->magic));
    h->version = FORMAT_VERSION;
    h->crc = CRC_OF(h);
}

void log_seal(struct disk_log *h)
{
    memcpy(h->magic, log_magic, sizeof(h->magic));
    h->version = FORMAT_VERSION;
    h->crc = CRC_OF(h);
}

void rec_seal(struct disk_rec *r)
{
    r->bits &= REC_DISK;
    r->crc = CRC_OF(r);
}

bool rec_valid(const struct disk_rec *r)
{
    return r->uid && r->crc == CRC_OF(r) && !(r->bits & ~REC_DISK);
}

bool rec_misnamed(const struct disk_rec *r)
{
    return r->flags != r->file_flags || (r->bits & REC_NEW);
}

static int check(bool magic, bool crc, uint32_t version)
{
    if (!magic || !crc || version == 0)
        return ERR_CORRUPT;
    return version > FORMAT_VERSION ? ERR_VERSION : OK;
}

int index_check(const struct disk_index *h)
{
    return check(memcmp(h->magic, index_magic, 8) == 0, h->crc == CRC_OF(h), h->version);
}

int log_check(const struct disk_log *h)
{
    return check(memcmp(h->magic, log_magic, 8) == 0, h->crc == CRC_OF(h), h->version);
}

void txn_start(struct buf *b)
{
    static const struct disk_txn empty;
    buf_reset(b);
    buf_put(b, slice_from(&empty, sizeof(empty)));
}

static void put_payload(struct buf *b, const struct op *op)
{
    switch (op->type) {
    case OP_APPEND: {
        struct disk_rec rec = op->rec;
        rec_seal(&rec);
        buf_put(b, slice_from(&rec, sizeof(rec)));
        buf_u64(b, op->delivery);
        buf_u32(b, op->cache_end);
        buf_u32(b, op->time);
        buf_put(b, op->name);
        break;
    }
    case OP_FLAGS:
        buf_u32(b, op->number);
        buf_u32(b, op->flags);
        buf_u64(b, op->keywords);
        buf_put(b, op->ranges);
        break;
    case OP_KEYWORD:
        buf_u32(b, op->number);
        buf_put(b, op->name);
        break;
    case OP_EXPUNGE:
    case OP_LOST:
        buf_u32(b, op->time);
        buf_put(b, op->ranges);
        break;
    case OP_RECENT:
        buf_u32(b, op->number);
        break;
    case OP_BOOT:
        buf_u64(b, op->a);
        buf_u64(b, op->b);
        break;
    case OP_META:
        buf_u32(b, op->rec.uid);
        buf_u32(b, op->rec.cache);
        buf_u32(b, op->cache_end);
        buf_u32(b, op->rec.bits & REC_DISK);
        buf_u32(b, op->rec.size);
        break;
    case OP_FILE:
        buf_u32(b, op->rec.uid);
        buf_u32(b, op->rec.bits & REC_DISK);
        buf_u32(b, op->rec.file_flags);
        break;
    case OP_SCAN:
        buf_u64(b, op->a);
        buf_u64(b, op->b);
        break;
    }
}

void txn_op(struct buf *b, const struct op *op)
{
    size_t at = b->len;
    buf_u32(b, op->type);
    buf_u32(b, 0);
    put_payload(b, op);
    if (b->failed)
        return;
    uint32_t n = (uint32_t)(b->len - at - OP_HEAD);
    memcpy(b->data + at + 4, &n, sizeof(n));
}

int txn_seal(struct buf *b, const struct disk_txn *values)
{
    if (b->failed)
        return ERR_LIMIT;
    struct disk_txn head = *values;
    head.magic = TXN_MAGIC;
    head.length = (uint32_t)buf_len(b);
    memcpy(b->data + b->off, &head, sizeof(head));
    head.crc = crc_after(b->data + b->off, offsetof(struct disk_txn, crc) + 4, head.length);
    memcpy(b->data + b->off, &head, sizeof(head));
    return OK;
}

static bool all_zero(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i])
            return false;
    return true;
}

enum txn_state txn_peek(struct slice log, struct disk_txn *head, struct slice *ops)
{
    if (log.n == 0)
        return TXN_END;
    if (log.n < sizeof(*head))
        return TXN_TORN;
    memcpy(head, log.p, sizeof(*head));
    if (head->magic != TXN_MAGIC)
        return all_zero(log) ? TXN_TORN : TXN_BAD;
    if (head->length < sizeof(*head) || head->length > FORMAT_TXN_MAX)
        return TXN_BAD;
    if (head->length > log.n)
        return TXN_TORN;
    if (head->crc != crc_after(log.p, offsetof(struct disk_txn, crc) + 4, head->length))
        return TXN_BAD;
    *ops = slice_from_index(slice_first(log, head->length), sizeof(*head));
    return TXN_GOOD;
}

static void get_append(struct reader *r, struct op *op)
{
    struct slice raw = get_bytes(r, sizeof(op->rec));
    if (raw.n == sizeof(op->rec))
        memcpy(&op->rec, raw.p, sizeof(op->rec));
    if (!rec_valid(&op->rec))
        r->bad = true;
    op->delivery = get_u64(r);
    op->cache_end = get_u32(r);
    op->time = get_u32(r);
    op->name = r->rest;
    if (op->name.n > NAME_MAX_LEN || slice_chr(op->name, '\0') >= 0 ||
        slice_chr(op->name, '/') >= 0)
        r->bad = true;
    r->rest.n = 0;
}

static void get_ranges(struct reader *r, struct op *op)
{
    op->ranges = r->rest;
    r->rest.n = 0;
    uint32_t min, max, last = 0;
    if (op->ranges.n % 8)
        r->bad = true;
    for (size_t i = 0; !r->bad && op_range(op, i, &min, &max); i++) {
        if (min == 0 || min > max || (i && min <= last))
            r->bad = true;
        last = max;
    }
}

static void get_file(struct reader *r, struct op *op)
{
    op->rec.uid = get_u32(r);
    uint32_t bits = get_u32(r), flags = get_u32(r);
    if (bits > REC_DISK || flags > UINT8_MAX)
        r->bad = true;
    op->rec.bits = (uint16_t)bits;
    op->rec.file_flags = (uint8_t)flags;
}

static void get_meta(struct reader *r, struct op *op)
{
    op->rec.uid = get_u32(r);
    op->rec.cache = get_u32(r);
    op->cache_end = get_u32(r);
    uint32_t bits = get_u32(r);
    if (bits > REC_DISK)
        r->bad = true;
    op->rec.bits = (uint16_t)bits;
    op->rec.size = get_u32(r);
}

static void get_name(struct reader *r, struct op *op)
{
    op->number = get_u32(r);
    op->name = r->rest;
    if (op->number >= 64 || op->name.n == 0 || op->name.n > NAME_MAX_LEN)
        r->bad = true;
    r->rest.n = 0;
}

static bool get_payload(struct reader *r, struct op *op)
{
    switch (op->type) {
    case OP_APPEND:
        get_append(r, op);
        break;
    case OP_FLAGS:
        op->number = get_u32(r);
        op->flags = get_u32(r);
        op->keywords = get_u64(r);
        if (op->number > 2 || op->flags > UINT8_MAX)
            r->bad = true;
        get_ranges(r, op);
        break;
    case OP_KEYWORD:
        get_name(r, op);
        break;
    case OP_EXPUNGE:
    case OP_LOST:
        op->time = get_u32(r);
        get_ranges(r, op);
        break;
    case OP_RECENT:
        op->number = get_u32(r);
        break;
    case OP_BOOT:
        op->a = get_u64(r);
        op->b = get_u64(r);
        break;
    case OP_META:
        get_meta(r, op);
        break;
    case OP_FILE:
        get_file(r, op);
        break;
    case OP_SCAN:
        op->a = get_u64(r);
        op->b = get_u64(r);
        break;
    default:
        return false;
    }
    return reader_done(r);
}

bool op_next(struct reader *r, struct op *op)
{
    if (r->bad || r->rest.n == 0)
        return false;
    *op = (struct op){.type = (enum op_type)get_u32(r)};
    uint32_t n = get_u32(r);
    struct reader payload = reader_of(get_bytes(r, n));
    if (r->bad || !get_payload(&payload, op)) {
        r->bad = true;
        return false;
    }
    return true;
}

bool op_range(const struct op *op, size_t i, uint32_t *min, uint32_t *max)
{
    if (i >= op->ranges.n / 8)
        return false;
    memcpy(min, op->ranges.p + i * 8, 4);
    memcpy(max, op->ranges.p + i * 8 + 4, 4);
    return true;
}

size_t txn_resync(struct slice log)
{
    const uint32_t magic = TXN_MAGIC;
    for (size_t at = 1; at < log.n;) {
        struct slice rest = slice_from_index(log, at);
        ptrdiff_t hit = slice_find(rest, slice_from(&magic, sizeof(magic)));
        if (hit < 0)
            return log.n;
        at += (size_t)hit;
        struct disk_txn head;
        struct slice ops;
        if (txn_peek(slice_from_index(log, at), &head, &ops) == TXN_GOOD)
            return at;
        at++;
    }
    return log.n;
}
