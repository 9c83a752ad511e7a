#include "libmail/envelope.h"

#include "libutil/crc32c.h"

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

struct slice recipient_sender(const struct envelope *e, const struct recipient *to)
{
    return e->sender.n && to->owner.n ? to->owner : e->sender;
}

struct envelope recipient_envelope(const struct envelope *e, const struct recipient *to)
{
    struct envelope its = *e;
    if (e->sender.n == 0 || to->owner.n == 0)
        return its;
    its.sender = to->owner;
    its.envid = (struct slice){"", 0};
    its.ret = RET_UNSET;
    return its;
}

uint32_t recipient_group(bool null_sender, const struct recipient *to)
{
    if (null_sender || to->owner.n == 0)
        return 0;
    uint32_t group = crc32c(0, to->owner);
    return group ? group : 1;
}
