#include "qmgr/logrec.h"

#include <string.h>

#include "libutil/crc32c.h"

enum { AT_VERSION = 4, AT_SEQUENCE = 8, AT_COMMITTED = 16, AT_LENGTH = 32, AT_CRC = 36 };

int logrec_begin(struct buf *b, enum logrec_type type, uint64_t qid)
{
    buf_u32(b, LOGREC_MAGIC);
    buf_u16(b, LOGREC_VERSION);
    buf_u16(b, (uint16_t)type);
    buf_u64(b, 0);
    buf_u64(b, 0);
    buf_u64(b, qid);
    buf_u32(b, 0);
    return buf_u32(b, 0);
}

static void put_le(char *to, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (char)(v >> (8 * i) & 0xff);
}

int logrec_finish(struct buf *b)
{
    size_t length = buf_len(b) - LOGREC_HEADER;
    while (buf_len(b) % LOGREC_ALIGN != 0 && !b->failed)
        buf_u8(b, 0);
    if (b->failed || length > UINT32_MAX)
        return ERR_LIMIT;
    put_le(b->data + b->off + AT_LENGTH, length, 4);
    return OK;
}

/* The checksum of a header whose crc field counts as zero, and its payload. */
static uint32_t checksum(struct slice header, struct slice payload)
{
    uint32_t crc = crc32c(0, slice_first(header, AT_CRC));
    return crc32c(crc32c(crc, SLICE_LIT("\0\0\0\0")), payload);
}

void logrec_seal(struct buf *b, unsigned format, uint64_t sequence, uint64_t committed)
{
    char *p = b->data + b->off;
    put_le(p + AT_VERSION, format, 2);
    put_le(p + AT_SEQUENCE, sequence, 8);
    put_le(p + AT_COMMITTED, committed, 8);
    struct reader r = reader_of(slice_from(p + AT_LENGTH, 4));
    put_le(p + AT_CRC,
        checksum(slice_from(p, LOGREC_HEADER), slice_from(p + LOGREC_HEADER, get_u32(&r))), 4);
}

int logrec_put_accept(struct buf *b, unsigned format, uint64_t qid, const struct logrec_accept *a)
{
    enum { LENGTHS = 64 };
    size_t all = a->envelope.n + a->recipients.n + a->big.n + a->body.n;
    if (!buf_reserve(b, LOGREC_HEADER + LENGTHS + all))
        return ERR_LIMIT;
    logrec_begin(b, LOGREC_ACCEPT, qid);
    put_le(b->data + b->off + AT_VERSION, format, 2);
    if (format > 1)
        buf_u32(b, a->crc);
    buf_lv(b, a->envelope);
    buf_lv(b, a->recipients);
    buf_u64(b, a->size);
    buf_lv(b, a->big);
    buf_lv(b, a->body);
    return logrec_finish(b);
}

void logrec_put_mark(struct buf *b, unsigned format, uint64_t generation, uint64_t committed)
{
    logrec_begin(b, LOGREC_MARK, generation);
    int rc = logrec_finish(b);
    assert(rc == OK);
    (void)rc;
    logrec_seal(b, format, committed, committed);
}

void logrec_set_crc(struct buf *b, uint32_t crc)
{
    put_le(b->data + b->off + LOGREC_HEADER, crc, 4);
}

int logrec_put_expand(struct buf *b, uint64_t qid, const struct logrec_expand *e)
{
    logrec_begin(b, LOGREC_EXPAND, qid);
    buf_u32(b, e->first);
    buf_lv(b, e->done);
    buf_lv(b, e->recipients);
    return logrec_finish(b);
}

int logrec_decode(struct slice s, struct logrec *out)
{
    struct reader r = reader_of(s);
    uint32_t magic = get_u32(&r);
    *out = (struct logrec){.version = get_u16(&r)};
    if (r.bad || magic != LOGREC_MAGIC)
        return ERR_CORRUPT;
    uint16_t type = get_u16(&r);
    out->sequence = get_u64(&r);
    out->committed = get_u64(&r);
    out->qid = get_u64(&r);
    uint32_t length = get_u32(&r);
    uint32_t crc = get_u32(&r);
    out->payload = get_bytes(&r, length);
    size_t pad = (LOGREC_ALIGN - length % LOGREC_ALIGN) % LOGREC_ALIGN;
    get_bytes(&r, pad);
    if (r.bad || checksum(slice_first(s, LOGREC_HEADER), out->payload) != crc)
        return ERR_CORRUPT;
    /* Only now: a bit flipped in the version must not keep a spool from starting. */
    if (out->version > LOGREC_VERSION)
        return ERR_VERSION;
    if (type < LOGREC_SEGMENT || type > LOGREC_MARK || out->version == 0)
        return ERR_CORRUPT;
    out->type = (enum logrec_type)type;
    out->total = LOGREC_HEADER + length + pad;
    return OK;
}

int logrec_get_accept(struct slice payload, unsigned format, struct logrec_accept *out)
{
    struct reader r = reader_of(payload);
    out->crc = format > 1 ? get_u32(&r) : 0;
    out->envelope = get_lv(&r, payload.n);
    out->recipients = get_lv(&r, payload.n);
    out->size = get_u64(&r);
    out->big = get_lv(&r, LOGREC_BIG_NAME);
    out->body = get_lv(&r, payload.n);
    if (!reader_done(&r))
        return ERR_CORRUPT;
    if (out->big.n == 0 && out->body.n != out->size)
        return ERR_CORRUPT;
    return OK;
}

int logrec_get_expand(struct slice payload, struct logrec_expand *out)
{
    struct reader r = reader_of(payload);
    out->first = get_u32(&r);
    out->done = get_lv(&r, payload.n);
    out->recipients = get_lv(&r, payload.n);
    return reader_done(&r) && out->done.n % 4 == 0 ? OK : ERR_CORRUPT;
}
