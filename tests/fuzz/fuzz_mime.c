/* The part tree and the texts made of it. Parts must lie within the part around them, and in
 * order; sizes must agree with the bytes. */
#include "libmail/imapstruct.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct slice message, const struct mime_part *p, unsigned depth)
{
    size_t at = p->body;
    if (depth > MIME_MAX_DEPTH || p->header > p->body || p->body > p->end || p->end > message.n)
        abort();
    if (mime_crlf_size(mime_body(message, p)) != p->body_size ||
        mime_crlf_size(mime_header(message, p)) != p->header_size)
        abort();
    for (const struct mime_part *c = p->first; c; c = c->next) {
        if (c->parent != p || c->header < at || c->end > p->end)
            abort();
        at = c->end;
        check(message, c, depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice message = slice_from(data, size);
    struct arena arena;
    struct buf envelope, body, structure;
    arena_init(&arena, 64 << 20);
    buf_init(&envelope, 16 << 20);
    buf_init(&body, 16 << 20);
    buf_init(&structure, 16 << 20);
    struct mime_part *root = mime_parse(message, &arena);
    if (root) {
        check(message, root, 0);
        (void)mime_param(root->params, "charset", &arena);
        (void)mime_param(root->disposition_params, "filename", &arena);
    }
    (void)imap_structure(message, &arena, &envelope, &body, &structure);
    buf_clear(&envelope);
    buf_clear(&body);
    buf_clear(&structure);
    arena_reset(&arena);
    return 0;
}
