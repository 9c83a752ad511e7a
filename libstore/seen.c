#include "libstore/seen.h"

#include "libstore/view.h"

enum { FILE_MAX = 16 << 20 };

struct seen {
    struct store *home;
    struct uidset uids;
    char file[64];
};

void seen_free(struct seen *seen)
{
    if (!seen)
        return;
    uidset_clear(&seen->uids);
    free(seen);
}

/* "VALIDITY\nMIN MAX\n..." */
static void parse(struct slice text, uint32_t uidvalidity, struct uidset *uids)
{
    uint64_t validity, min, max;
    if (slice_u64(slice_cut(&text, '\n'), 1, UINT32_MAX, &validity) || validity != uidvalidity)
        return;
    while (text.n) {
        struct slice last = slice_cut(&text, '\n'), first = slice_cut(&last, ' ');
        if (slice_u64(first, 1, UINT32_MAX, &min) || slice_u64(last, min, UINT32_MAX, &max))
            return;
        uidset_add_range(uids, (uint32_t)min, (uint32_t)max);
    }
}

static int read_seen(struct store_mailbox *mb, struct error *err)
{
    struct seen *seen = mb->seen;
    struct buf text;
    buf_init(&text, FILE_MAX);
    int rc = io_slurp(seen->home->fd, seen->file, &text, err);
    uidset_clear(&seen->uids);
    if (rc == OK)
        parse(buf_slice(&text), mb->box->head.uidvalidity, &seen->uids);
    buf_clear(&text);
    return rc == ERR_NOT_FOUND ? OK : rc;
}

int store_private_seen(struct store_mailbox *mb, struct store *home, struct error *err)
{
    char id[STORE_OBJECTID];
    store_mailbox_id(store_mailbox_number(mb), id);
    mb->seen = NEW(struct seen);
    mb->seen->home = home;
    snprintf(mb->seen->file, sizeof(mb->seen->file), "veredus.seen.%s", id);
    return read_seen(mb, err);
}

uint32_t seen_flags(const struct seen *seen, uint32_t uid, uint32_t flags)
{
    if (!seen)
        return flags;
    return (flags & ~(uint32_t)STORE_SEEN) | (uidset_has(&seen->uids, uid) ? STORE_SEEN : 0);
}

static int write_seen(struct store_mailbox *mb, const struct uidset *uids, struct error *err)
{
    struct buf text;
    buf_init(&text, FILE_MAX);
    buf_printf(&text, "%u\n", mb->box->head.uidvalidity);
    for (size_t i = 0; i < uids->n; i++)
        buf_printf(&text, "%u %u\n", uids->ranges[i].min, uids->ranges[i].max);
    int rc = text.failed ? error_set(err, ERR_LIMIT, "too many messages")
                         : io_replace(mb->seen->home->fd, mb->seen->file, buf_slice(&text), err);
    buf_clear(&text);
    return rc;
}

int seen_change(struct store_mailbox *mb, const struct uidset *uids, bool add,
    struct uidset *changed, struct error *err)
{
    struct uidset now = {0};
    struct error ignored;
    /* What another session of the same user did meanwhile. */
    int rc = read_seen(mb, err);
    if (rc)
        return rc;
    size_t before = 0;
    struct store_msg m;
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++) {
        bool was = uidset_has(&mb->seen->uids, m.uid), is = uidset_has(uids, m.uid) ? add : was;
        if (is)
            uidset_add(&now, m.uid);
        if (is != was && changed)
            uidset_add(changed, m.uid);
        before += is != was;
    }
    if (before)
        rc = write_seen(mb, &now, err);
    uidset_clear(&now);
    if (rc == OK && before && read_seen(mb, &ignored))
        uidset_clear(&mb->seen->uids);
    return rc;
}

int store_private_mark(struct store_mailbox *mb, const struct uidset *uids, struct error *err)
{
    assert(mb->seen);
    return seen_change(mb, uids, true, NULL, err);
}
