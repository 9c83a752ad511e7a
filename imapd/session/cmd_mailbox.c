/* SELECT EXAMINE CLOSE UNSELECT STATUS (RFC 3501 §6.3.1, 6.3.2, 6.3.10, 6.4.2; RFC 3691). */
#include "imapd/session/mutf7.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

static uint32_t first_unseen(struct session *s)
{
    struct store_msg m;
    for (uint32_t seq = 1; store_get(s->mb, seq, &m); seq++)
        if (!(m.flags & STORE_SEEN))
            return seq;
    return 0;
}

static void tell_selected(struct session *s)
{
    struct buf *out = &s->io.out;
    char id[STORE_OBJECTID];
    updates_announce_keywords(s);
    buf_printf(out, "* %u EXISTS\r\n* %u RECENT\r\n", s->exists, s->recent);
    uint32_t unseen = first_unseen(s);
    if (unseen)
        buf_printf(out, "* OK [UNSEEN %u] First unseen message\r\n", unseen);
    buf_printf(out,
        "* OK [UIDVALIDITY %u] UIDs are valid\r\n"
        "* OK [UIDNEXT %u] Predicted next UID\r\n",
        store_uidvalidity(s->mb), store_uidnext(s->mb));
    store_mailbox_id(store_mailbox_number(s->mb), id);
    buf_printf(out, "* OK [MAILBOXID (%s)] Stays when the mailbox is renamed\r\n", id);
}

static void open_mailbox(struct command *c, bool read_only)
{
    struct slice name;
    struct place p;
    struct error err = {0, ""};
    if (!take_space(&c->args) || !take_mailbox(&c->args, &name) || !take_end(&c->args)) {
        command_bad(c);
        return;
    }
    /* A failed SELECT leaves no mailbox selected (RFC 3501 §6.3.1). */
    session_unselect(c->s);
    if (!command_place(c, name, ACL_READ, &p))
        return;
    const unsigned any = ACL_SEEN | ACL_WRITE | ACL_INSERT | ACL_DELETE_MSG | ACL_EXPUNGE;
    int rc = session_select(c->s, name, &p, read_only || !(p.rights & any), &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    tell_selected(c->s);
    command_ok(c, "%.*s completed", SLICE_FMT(c->name));
    c->code = slice_of(store_read_only(c->s->mb) ? "READ-ONLY" : "READ-WRITE");
}

void cmd_select(struct command *c)
{
    open_mailbox(c, false);
}

void cmd_examine(struct command *c)
{
    open_mailbox(c, true);
}

void cmd_close(struct command *c)
{
    struct error err = {0, ""};
    int rc = OK;
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    if (!store_read_only(c->s->mb) && (session_rights(c->s) & ACL_EXPUNGE))
        rc = store_expunge(c->s->mb, NULL, true, NULL, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    session_unselect(c->s);
    command_ok(c, "CLOSE completed");
}

void cmd_unselect(struct command *c)
{
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    session_unselect(c->s);
    command_ok(c, "UNSELECT completed");
}
