/* What libstore reads from disk: the first byte chooses index, log, operations, cache record or
 * folder name. Checksums are put right where asked, or nothing would get past them. */
#include "libstore/private.h"
#include "libutil/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void box_begin_empty(struct box *b)
{
    *b = (struct box){.ixfd = -1, .dirfd = -1, .log_fd = -1, .cache_fd = -1};
    buf_init(&b->names, 1 << 20);
    b->head.uidnext = 1;
    b->head.reserved = UINT32_MAX / 2;
}

/* Looks at everything a session would. */
static void walk(struct box *b)
{
    char path[FILE_NAME_MAX];
    for (size_t i = 0; i < box_count(b); i++) {
        const struct disk_rec *rec = box_rec(b, i);
        if (rec->bits & REC_GONE)
            continue;
        file_path(b, rec, path);
        if (box_rec(b, box_find(b, rec->uid)) != rec)
            abort(); /* records are not in order */
    }
}

static void put_right(struct slice *image)
{
    struct disk_index h;
    if (image->n < sizeof(h))
        return;
    char *p = (char *)image->p;
    memcpy(&h, p, sizeof(h));
    size_t records = MIN((size_t)h.nrecords, (image->n - sizeof(h)) / sizeof(struct disk_rec));
    h.nrecords = (uint32_t)records;
    for (size_t i = 0; i < records; i++) {
        struct disk_rec rec;
        memcpy(&rec, p + sizeof(h) + i * sizeof(rec), sizeof(rec));
        rec_seal(&rec);
        memcpy(p + sizeof(h) + i * sizeof(rec), &rec, sizeof(rec));
    }
    struct slice tail = slice_from_index(*image, sizeof(h) + records * sizeof(struct disk_rec));
    h.names_len = (uint32_t)MIN((size_t)h.names_len, tail.n);
    h.tail_crc = crc32c(0, slice_first(tail, tail.n - h.names_len));
    index_seal(&h);
    memcpy(p, &h, sizeof(h));
}

static void read_index(struct slice in, bool fix, bool lenient)
{
    struct box b;
    struct error err;
    box_begin_empty(&b);
    /* Aligned, as a mapping is. */
    char *copy = xcalloc(1, in.n + 1);
    if (in.n)
        memcpy(copy, in.p, in.n);
    struct slice image = slice_from(copy, in.n);
    if (fix)
        put_right(&image);
    b.map = copy;
    b.map_len = in.n;
    if (box_take_index(&b, lenient, &err) == OK)
        walk(&b);
    b.map = NULL;
    box_unload(&b);
    free(copy);
}

static void read_log(struct slice in)
{
    struct box b;
    struct disk_txn head;
    struct slice ops;
    box_begin_empty(&b);
    while (in.n) {
        if (txn_peek(in, &head, &ops) == TXN_GOOD) {
            (void)!box_apply(&b, &head, ops);
            in = slice_from_index(in, head.length);
        } else {
            in = slice_from_index(in, txn_resync(in));
        }
    }
    walk(&b);
    box_unload(&b);
}

static void apply_ops(struct slice in)
{
    struct box b;
    struct disk_txn head = {.sequence = 1, .uidnext = UINT32_MAX / 2, .visible = 1};
    struct reader r = reader_of(in);
    box_begin_empty(&b);
    for (; r.rest.n && !r.bad; head.sequence++) {
        struct slice ops = get_bytes(&r, get_u16(&r));
        char *copy = xmemdup0(ops.p, ops.n);
        /* The checksum of a record that is appended. */
        if (ops.n >= 8 + sizeof(struct disk_rec) && copy[0] == OP_APPEND) {
            struct disk_rec rec;
            memcpy(&rec, copy + 8, sizeof(rec));
            rec_seal(&rec);
            memcpy(copy + 8, &rec, sizeof(rec));
            head.uidnext = rec.uid < UINT32_MAX ? MAX(rec.uid + 1, b.head.uidnext) : rec.uid;
        }
        (void)!box_apply(&b, &head, slice_from(copy, ops.n));
        free(copy);
    }
    walk(&b);
    box_unload(&b);
}

/* INBOX is called so in any case (RFC 9051 §5.1), also where it has children. */
static bool is_same_folder(struct slice one, struct slice other)
{
    enum { INBOX = sizeof("INBOX") - 1 };
    bool child = one.n > INBOX && one.p[INBOX] == STORE_SEPARATOR &&
                 name_is_inbox(slice_first(one, INBOX)) && name_is_inbox(slice_first(other, INBOX));
    size_t from = child ? INBOX : 0;
    return slice_eq(slice_from_index(one, from), slice_from_index(other, from));
}

static void read_name(struct slice in)
{
    char disk[NAME_DISK_MAX];
    struct buf out;
    buf_init(&out, 4096);
    /* One directory a name: as we write it, or as others did. */
    if (name_from_disk(in, &out) == OK &&
        (name_to_disk(buf_slice(&out), disk) || !slice_is(in, disk)) &&
        (name_to_raw(buf_slice(&out), disk) || !slice_is(in, disk)))
        abort();
    buf_reset(&out);
    if (name_to_disk(in, disk) == OK) {
        if (strchr(disk, '/') || (disk[0] != '.') || strcmp(disk, "..") == 0)
            abort();
        if (strcmp(disk, ".") != 0 &&
            (name_from_disk(slice_of(disk), &out) || !is_same_folder(buf_slice(&out), in)))
            abort();
    }
    buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_cache c;
    if (size == 0)
        return 0;
    struct slice in = slice_from(data + 1, size - 1);
    switch (data[0] % 8) {
    case 0:
    case 1:
        read_index(in, false, data[0] % 2);
        break;
    case 2:
    case 3:
        read_index(in, true, data[0] % 2);
        break;
    case 4:
        read_log(in);
        break;
    case 5:
        apply_ops(in);
        break;
    case 6:
        (void)!cache_parse(in, &c);
        break;
    default:
        read_name(in);
        break;
    }
    return 0;
}
