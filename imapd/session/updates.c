#include "imapd/session/place.h"
#include "libutil/error.h"

static const struct {
    uint32_t flag;
    const char *name;
} system_flags[] = {{STORE_ANSWERED, "\\Answered"}, {STORE_FLAGGED, "\\Flagged"},
    {STORE_DELETED, "\\Deleted"}, {STORE_SEEN, "\\Seen"}, {STORE_DRAFT, "\\Draft"},
    {STORE_RECENT, "\\Recent"}};

static void put_word(struct buf *out, bool *first, struct slice word)
{
    if (!*first)
        buf_putc(out, ' ');
    buf_put(out, word);
    *first = false;
}

void updates_put_flags(struct session *s, const struct store_msg *m)
{
    struct buf *out = &s->io.out;
    bool first = true;
    buf_puts(out, "FLAGS (");
    for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
        if (m->flags & system_flags[i].flag)
            put_word(out, &first, slice_of(system_flags[i].name));
    for (size_t i = 0; i < store_keywords(s->mb); i++) {
        struct slice name = store_keyword(s->mb, i);
        /* Files of other programs may hold names that IMAP cannot say. */
        if ((m->keywords >> i & 1) && is_keyword(name))
            put_word(out, &first, name);
    }
    buf_putc(out, ')');
}

/* Those that rights allow to be changed; all of them with ACL_ALL. */
static void put_known_flags(struct session *s, unsigned rights)
{
    struct buf *out = &s->io.out;
    bool first = true;
    for (size_t i = 0; system_flags[i].flag != STORE_RECENT; i++)
        if (rights & (system_flags[i].flag == STORE_SEEN         ? ACL_SEEN
                         : system_flags[i].flag == STORE_DELETED ? ACL_DELETE_MSG
                                                                 : ACL_WRITE))
            put_word(out, &first, slice_of(system_flags[i].name));
    for (size_t i = 0; i < store_keywords(s->mb) && (rights & ACL_WRITE); i++)
        if (is_keyword(store_keyword(s->mb, i)))
            put_word(out, &first, store_keyword(s->mb, i));
}

void updates_announce_keywords(struct session *s)
{
    struct buf *out = &s->io.out;
    s->keywords = store_keywords(s->mb);
    buf_puts(out, "* FLAGS (");
    put_known_flags(s, ACL_ALL);
    buf_puts(out, ")\r\n* OK [PERMANENTFLAGS (");
    if (!store_read_only(s->mb)) {
        unsigned rights = session_rights(s);
        put_known_flags(s, rights);
        if (s->keywords < STORE_KEYWORDS_MAX && (rights & ACL_WRITE))
            buf_puts(out, " \\*");
    }
    buf_puts(out, ")] Flags that last\r\n");
}

uint32_t updates_count_recent(struct session *s)
{
    uint32_t recent = 0;
    struct store_msg m;
    for (uint32_t seq = 1; store_get(s->mb, seq, &m); seq++)
        recent += (m.flags & STORE_RECENT) != 0;
    return recent;
}

static void put_vanished(struct session *s, const struct store_changes *ch)
{
    for (size_t i = 0; i < ch->nvanished; i++)
        buf_printf(&s->io.out, "* %u EXPUNGE\r\n", ch->vanished[i]);
}

static void put_counts(struct session *s, const struct store_changes *ch)
{
    uint32_t exists = store_count(s->mb);
    if (ch->arrived)
        buf_printf(&s->io.out, "* %u EXISTS\r\n", exists);
    s->exists = exists;
    if (!ch->arrived && !ch->nvanished)
        return;
    uint32_t recent = updates_count_recent(s);
    if (recent != s->recent || ch->arrived)
        buf_printf(&s->io.out, "* %u RECENT\r\n", recent);
    s->recent = recent;
}

static void put_changed(struct session *s, const struct store_changes *ch, bool with_uid)
{
    struct store_msg m;
    for (size_t i = 0; i < ch->nchanged; i++) {
        if (!store_get(s->mb, ch->changed[i], &m))
            continue;
        buf_printf(&s->io.out, "* %u FETCH (", ch->changed[i]);
        if (with_uid)
            buf_printf(&s->io.out, "UID %u ", m.uid);
        updates_put_flags(s, &m);
        buf_puts(&s->io.out, ")\r\n");
        io_pace(&s->io);
    }
}

void updates_send(struct session *s, bool may_expunge, bool with_uid)
{
    struct store_changes ch;
    struct error err;
    if (!(session_rights(s) & ACL_READ))
        return; /* taken away since */
    int rc = store_refresh(s->mb, may_expunge, &ch, &err);
    if (rc == ERR_NOT_FOUND) {
        /* The folder was deleted under us; the view cannot be told as empty honestly. */
        buf_puts(&s->io.out, "* BYE Mailbox was deleted\r\n");
        s->over = true;
        s->why = "mailbox deleted";
        return;
    }
    if (rc) {
        log_event(&s->env->log, log_trouble, .what = SLICE_LIT("refresh mailbox"),
            .reason = slice_of(err.text));
        return;
    }
    put_vanished(s, &ch);
    put_counts(s, &ch);
    if (store_keywords(s->mb) > s->keywords)
        updates_announce_keywords(s);
    put_changed(s, &ch, with_uid);
}
