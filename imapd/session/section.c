#include "imapd/session/fetch.h"
#include "libmail/header.h"
#include "libutil/error.h"

/* The part that is the n-th of a message whose top part is `top` (RFC 3501 §6.4.5): a message
 * that is no multipart has a single part 1. */
static const struct mime_part *part_of_message(const struct mime_part *top, uint32_t n)
{
    if (top->kind == MIME_MULTIPART)
        return mime_child(top, n);
    return n == 1 ? top : NULL;
}

static const struct mime_part *walk(const struct mime_part *root, const struct section *s)
{
    const struct mime_part *at = root;
    for (size_t i = 0; i < s->npath && at; i++) {
        if (i == 0)
            at = part_of_message(at, s->path[i]);
        else if (at->kind == MIME_MULTIPART)
            at = mime_child(at, s->path[i]);
        else if (at->kind == MIME_MESSAGE)
            at = part_of_message(at->first, s->path[i]);
        else
            at = NULL;
    }
    return at;
}

static bool is_chosen(const struct section *s, struct slice name)
{
    bool listed = false;
    for (size_t i = 0; i < s->nfields && !listed; i++)
        listed = slice_ieq(s->fields[i], name);
    return listed == (s->text == SECTION_FIELDS);
}

struct slice message_header(struct slice message)
{
    if (slice_starts(message, "\r\n"))
        return slice_first(message, 2);
    ptrdiff_t end = slice_find(message, SLICE_LIT("\r\n\r\n"));
    return slice_first(message, end < 0 ? message.n : (size_t)end + 4);
}

int section_fields(
    struct slice header, const struct section *s, struct arena *arena, struct slice *found)
{
    struct header_iter it;
    struct header_field f;
    struct buf b;
    buf_init(&b, header.n + 2);
    header_iter_init(&it, header);
    while (mime_field_next(&it, &f))
        if (is_chosen(s, f.name))
            buf_put(&b, f.raw);
    buf_puts(&b, "\r\n");
    *found = arena_dup(arena, buf_slice(&b));
    buf_clear(&b);
    return found->p ? OK : ERR_LIMIT;
}

int section_find(struct slice message, const struct mime_part *root, const struct section *s,
    struct arena *arena, struct slice *found)
{
    *found = (struct slice){NULL, 0};
    const struct mime_part *part = walk(root, s);
    if (!part)
        return OK;
    if (s->text == SECTION_MIME) {
        *found = mime_header(message, part);
        return OK;
    }
    if (s->text == SECTION_ALL) {
        *found = s->npath ? mime_body(message, part) : message;
        return OK;
    }
    /* HEADER and TEXT are of a message: the whole one, or one that is a part. */
    if (s->npath > 0 && part->kind != MIME_MESSAGE)
        return OK;
    const struct mime_part *top = s->npath ? part->first : part;
    if (s->text == SECTION_TEXT)
        *found = mime_body(message, top);
    else if (s->text == SECTION_HEADER)
        *found = mime_header(message, top);
    else
        return section_fields(mime_header(message, top), s, arena, found);
    return OK;
}
