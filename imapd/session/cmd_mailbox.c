/* SELECT EXAMINE CLOSE UNSELECT STATUS (RFC 3501 §6.3.1, 6.3.2, 6.3.10, 6.4.2; RFC 3691). */
#include "imapd/session/mutf7.h"
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
    updates_announce_keywords(s);
    buf_printf(out, "* %u EXISTS\r\n* %u RECENT\r\n", s->exists, s->recent);
    uint32_t unseen = first_unseen(s);
    if (unseen)
        buf_printf(out, "* OK [UNSEEN %u] First unseen message\r\n", unseen);
    buf_printf(out,
        "* OK [UIDVALIDITY %u] UIDs are valid\r\n"
        "* OK [UIDNEXT %u] Predicted next UID\r\n",
        store_uidvalidity(s->mb), store_uidnext(s->mb));
}

static void open_mailbox(struct command *c, bool read_only)
{
    struct slice name;
    struct error err = {0, ""};
    if (!take_space(&c->args) || !take_mailbox(&c->args, &name) || !take_end(&c->args)) {
        command_bad(c);
        return;
    }
    /* A failed SELECT leaves no mailbox selected (RFC 3501 §6.3.1). */
    int rc = session_select(c->s, name, read_only, &err);
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
    if (!store_read_only(c->s->mb))
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

static const struct {
    const char *name;
    size_t offset;
} status_items[] = {
    {"MESSAGES", offsetof(struct store_status, messages)},
    {"RECENT", offsetof(struct store_status, recent)},
    {"UIDNEXT", offsetof(struct store_status, uidnext)},
    {"UIDVALIDITY", offsetof(struct store_status, uidvalidity)},
    {"UNSEEN", offsetof(struct store_status, unseen)},
};

/* The list of items as a set of indexes. */
static bool take_items(struct args *a, unsigned *items)
{
    *items = 0;
    if (!take_space(a) || !take_char(a, '('))
        return false;
    do {
        struct slice word;
        size_t i = 0;
        if ((*items && !take_space(a)) || !take_atom(a, &word))
            return false;
        while (i < ARRAY_LEN(status_items) && !slice_iis(word, status_items[i].name))
            i++;
        if (i == ARRAY_LEN(status_items))
            return args_fail(a, "Unknown status item");
        *items |= 1U << i;
    } while (!args_next_is(a, ')'));
    return take_char(a, ')');
}

void cmd_status(struct command *c)
{
    struct slice name;
    unsigned items;
    struct store_status st;
    struct error err = {0, ""};
    struct buf *out = &c->s->io.out;
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, &name) || !take_items(a, &items) || !take_end(a)) {
        command_bad(c);
        return;
    }
    int rc = store_status(c->s->store, name, &st, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    struct buf wire;
    buf_init(&wire, 8 * STORE_NAME_MAX);
    mutf7_encode(name, &wire);
    buf_puts(out, "* STATUS ");
    imap_put_string(out, buf_slice(&wire));
    buf_clear(&wire);
    for (size_t i = 0, n = 0; i < ARRAY_LEN(status_items); i++) {
        uint32_t value;
        if (!(items >> i & 1))
            continue;
        memcpy(&value, (const char *)&st + status_items[i].offset, sizeof(value));
        buf_printf(out, "%s%s %u", n++ ? " " : " (", status_items[i].name, value);
    }
    buf_puts(out, ")\r\n");
    command_ok(c, "STATUS completed");
}
