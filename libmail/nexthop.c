#include "libmail/nexthop.h"

void nexthop_join(struct buf *out, struct slice place, struct slice folder)
{
    bool plain = folder.n == 0 || slice_find(place, SLICE_LIT("//")) >= 0 || slice_ends(place, "/");
    buf_put(out, place);
    if (plain)
        return;
    buf_puts(out, "//");
    buf_put(out, folder);
}

void nexthop_split(struct slice nexthop, struct slice *place, struct slice *folder)
{
    ptrdiff_t at = slice_find(nexthop, SLICE_LIT("//"));
    *place = at < 0 ? nexthop : slice_first(nexthop, (size_t)at);
    *folder = at < 0 ? SLICE_LIT("") : slice_from_index(nexthop, (size_t)at + 2);
}
