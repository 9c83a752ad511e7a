/* STATUS (RFC 3501 §6.3.10) with the items of RFC 8438, RFC 8474 and RFC 9208. */
#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "imapd/session/status.h"
#include "libstore/seen.h"
#include "libutil/error.h"

enum item {
    MESSAGES,
    RECENT,
    UIDNEXT,
    UIDVALIDITY,
    UNSEEN,
    DELETED,
    SIZE,
    MAILBOXID,
    DELETED_STORAGE
};

static const char *const names[] = {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN",
    "DELETED", "SIZE", "MAILBOXID", "DELETED-STORAGE"};

bool take_status_items(struct args *a, unsigned *items)
{
    *items = 0;
    if (!take_space(a) || !take_char(a, '('))
        return false;
    do {
        struct slice word;
        size_t i = 0;
        if ((*items && !take_space(a)) || !take_atom(a, &word))
            return false;
        while (i < ARRAY_LEN(names) && !slice_iis(word, names[i]))
            i++;
        if (i == ARRAY_LEN(names))
            return args_fail(a, "Unknown status item");
        *items |= 1U << i;
    } while (!args_next_is(a, ')'));
    return take_char(a, ')');
}

/* What no total tells: bytes of deleted messages, and what this user has not seen in a folder of
 * another. */
static int walk(struct session *s, const struct place *p, struct store_status *st,
    uint64_t *deleted, struct error *err)
{
    struct store_mailbox *mb;
    struct store_msg m;
    int rc = store_select(p->store, p->folder, true, &mb, err);
    if (!rc && p->share)
        rc = store_private_seen(mb, s->store, err);
    if (rc)
        return rc;
    st->unseen = 0;
    *deleted = 0;
    for (uint32_t seq = 1; store_get(mb, seq, &m); seq++) {
        st->unseen += !(m.flags & STORE_SEEN);
        *deleted += m.flags & STORE_DELETED ? m.size : 0;
    }
    store_unselect(mb);
    return OK;
}

int status_put(
    struct session *s, struct slice name, const struct place *p, unsigned items, struct error *err)
{
    struct store_status st;
    struct buf *out = &s->io.out;
    uint64_t deleted = 0;
    char id[STORE_OBJECTID];
    int rc = store_status(p->store, p->folder, &st, err);
    if (!rc && ((items >> DELETED_STORAGE & 1) || (p->share && (items >> UNSEEN & 1))))
        rc = walk(s, p, &st, &deleted, err);
    if (rc)
        return rc;
    const uint64_t values[] = {[MESSAGES] = st.messages,
        [RECENT] = st.recent,
        [UIDNEXT] = st.uidnext,
        [UIDVALIDITY] = st.uidvalidity,
        [UNSEEN] = st.unseen,
        [DELETED] = st.deleted,
        [SIZE] = st.size,
        [MAILBOXID] = 0,
        [DELETED_STORAGE] = deleted};
    store_mailbox_id(st.mailbox, id);
    buf_puts(out, "* STATUS ");
    wire_put_mailbox(out, name, s->utf8);
    for (size_t i = 0, n = 0; i < ARRAY_LEN(names); i++) {
        if (!(items >> i & 1))
            continue;
        buf_printf(out, "%s%s ", n++ ? " " : " (", names[i]);
        if (i == MAILBOXID)
            buf_printf(out, "(%s)", id);
        else
            buf_printf(out, "%llu", (unsigned long long)values[i]);
    }
    buf_puts(out, ")\r\n");
    return OK;
}

void cmd_status(struct command *c)
{
    struct slice name;
    struct place p;
    unsigned items;
    struct error err = {0, ""};
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, &name) || !take_status_items(a, &items) ||
        !take_end(a)) {
        command_bad(c);
        return;
    }
    if (!command_place(c, name, ACL_READ, &p))
        return;
    int rc = status_put(c->s, name, &p, items, &err);
    if (rc)
        command_error(c, rc, &err);
    else
        command_ok(c, "STATUS completed");
}
