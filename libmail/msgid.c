#include "libmail/msgid.h"

#include "libutil/error.h"
#include "libutil/log.h"

int msgid_new(struct slice host, struct buf *out)
{
    char id[ID_TEXT];
    id_print(id_new(), id);
    return buf_printf(out, "<%s@%.*s>", id, SLICE_FMT(host));
}

struct slice msgid_find(struct slice body)
{
    const struct slice none = {NULL, 0};
    ptrdiff_t open = slice_chr(body, '<');
    if (open < 0)
        return none;
    struct slice id = slice_from_index(body, (size_t)open);
    ptrdiff_t close = slice_chr(id, '>');
    if (close < 0)
        return none;
    id = slice_first(id, (size_t)close + 1);
    for (size_t i = 0; i < id.n; i++)
        if ((unsigned char)id.p[i] < 32 || id.p[i] == 127)
            return none;
    return id;
}
