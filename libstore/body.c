/* The content of messages. */
#include "libstore/private.h"

#include <errno.h>
#include <sys/stat.h>

#include "libmail/mime.h"

enum { READ_MAX = 64 * 1024, MESSAGE_MAX = 1 << 30 };

/* The file as it stands: small ones are read, large ones mapped when nobody may shorten them. */
static int read_raw(struct box *b, int fd, struct store_body *body, struct error *err)
{
    struct stat st;
    if (fs_fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > MESSAGE_MAX)
        return error_set(err, ERR_CORRUPT, "message file cannot be used");
    size_t n = (size_t)st.st_size;
    if (n > READ_MAX && !b->store->opt.coexist) {
        body->map = fs_map(fd, n);
        if (!body->map)
            return error_sys(err, "mapping a message");
        body->map_len = n;
        body->content = slice_from(body->map, n);
        return OK;
    }
    body->heap = xrealloc(NULL, n, 1);
    body->content = slice_from(body->heap, n);
    return io_read(fd, body->heap, n, 0, err);
}

static void to_crlf(struct store_body *body)
{
    uint64_t size = mime_crlf_size(body->content);
    if (size == body->content.n)
        return;
    struct buf crlf;
    buf_init(&crlf, (size_t)size);
    mime_put_crlf(&crlf, body->content);
    store_body_release(body);
    body->heap = crlf.data;
    body->content = slice_from(crlf.data, crlf.len);
}

int body_read_file(struct box *b, int fd, struct store_body *body, struct error *err)
{
    *body = (struct store_body){0};
    int rc = read_raw(b, fd, body, err);
    if (rc)
        store_body_release(body);
    else
        to_crlf(body);
    return rc;
}

int body_read(struct box *b, const struct disk_rec *rec, struct store_body *body, struct error *err)
{
    int fd, rc = file_open(b, rec, &fd, err);
    *body = (struct store_body){0};
    if (rc)
        return rc;
    rc = read_raw(b, fd, body, err);
    fs_close(&fd);
    bool crlf = (rec->bits & REC_CRLF) && body->content.n == rec->size;
    /* Somebody may have put it in place again in the other form. */
    if (!rc && !crlf && (rec->bits & REC_CRLF) && mime_crlf_size(body->content) != rec->size)
        rc = error_set(err, ERR_CORRUPT, "message %u has %zu bytes instead of %llu", rec->uid,
            body->content.n, (unsigned long long)rec->size);
    if (!rc && !crlf)
        to_crlf(body);
    if (rc)
        store_body_release(body);
    return rc;
}

void body_size(struct box *b, size_t pos)
{
    struct store_body body;
    struct error ignored;
    /* A file that cannot be read now, perhaps because it gets another name, has a size all the
     * same. */
    if (body_read(b, box_rec(b, pos), &body, &ignored))
        return;
    struct disk_rec *rec = box_edit(b, pos);
    box_tally(b, rec, -1);
    rec->size = (uint32_t)MIN(body.content.n, UINT32_MAX);
    rec->bits |= REC_SIZED | REC_META;
    box_tally(b, rec, 1);
    store_body_release(&body);
}

void store_body_release(struct store_body *body)
{
    if (body->map)
        fs_unmap(body->map, body->map_len);
    free(body->heap);
    *body = (struct store_body){0};
}
