#include "libmail/envelope.h"

RECORD_DEFINE(envelope, ENVELOPE_FIELDS)
RECORD_DEFINE(recipient, RECIPIENT_FIELDS)

enum { VIA_MAX = 2000 };

bool via_holds(struct slice via, struct slice address)
{
    while (via.n > 0)
        if (slice_ieq(slice_cut(&via, '\n'), address))
            return true;
    return false;
}

int via_extend(struct buf *b, const struct recipient *from)
{
    if (from->via.n + 1 + from->address.n > VIA_MAX)
        return ERR_LIMIT;
    if (from->via.n > 0) {
        buf_put(b, from->via);
        buf_putc(b, '\n');
    }
    return buf_put(b, from->address);
}
