/* Commands that need no mailbox: CAPABILITY NOOP LOGOUT ID ENABLE NAMESPACE IDLE. */

#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

static const char capabilities[] =
    "IMAP4rev1 LITERAL+ ID IDLE NAMESPACE UIDPLUS UNSELECT CHILDREN LIST-EXTENDED LIST-STATUS "
    "SPECIAL-USE CREATE-SPECIAL-USE MOVE OBJECTID SAVEDATE PREVIEW STATUS=SIZE QUOTA "
    "QUOTA=RES-STORAGE QUOTA=RES-MESSAGE METADATA ENABLE UTF8=ACCEPT ACL RIGHTS=kxte";

void session_put_capabilities(struct buf *out)
{
    buf_puts(out, capabilities);
}

enum {
    IDLE_POLL = 30000,       /* looks without having been woken */
    IDLE_STILL_HERE = 120000 /* keeps address translators from forgetting the connection */
};

void cmd_capability(struct command *c)
{
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    buf_puts(&c->s->io.out, "* CAPABILITY ");
    session_put_capabilities(&c->s->io.out);
    buf_puts(&c->s->io.out, "\r\n");
    command_ok(c, "CAPABILITY completed");
}

/* Also CHECK: every change is on disk when it was answered. */
void cmd_noop(struct command *c)
{
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    command_ok(c, "%.*s completed", SLICE_FMT(c->name));
}

void cmd_logout(struct command *c)
{
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    buf_puts(&c->s->io.out, "* BYE Logging out\r\n");
    c->s->over = true;
    command_ok(c, "LOGOUT completed");
}

/* RFC 2971: a list of pairs, or NIL. What the client says of itself is passed over. */
static bool take_id(struct args *a)
{
    struct slice s;
    if (!take_space(a))
        return false;
    if (!args_next_is(a, '('))
        return take_nstring(a, &s) && (!s.p || args_fail(a, "Parameter list expected"));
    if (!take_char(a, '('))
        return false;
    for (unsigned n = 0; !args_next_is(a, ')'); n++)
        if (n == 60 || (n > 0 && !take_space(a)) || !take_string(a, &s) || !take_space(a) ||
            !take_nstring(a, &s))
            return args_fail(a, "Malformed parameter list");
    return take_char(a, ')');
}

void cmd_id(struct command *c)
{
    if (!take_id(&c->args) || !take_end(&c->args)) {
        command_bad(c);
        return;
    }
    buf_puts(&c->s->io.out, "* ID (\"name\" \"Veredus\")\r\n");
    command_ok(c, "ID completed");
}

/* RFC 5161. What we do not know, and what is always on, is passed over. */
void cmd_enable(struct command *c)
{
    struct slice word;
    struct args *a = &c->args;
    bool utf8 = false;
    do {
        if (!take_space(a) || !take_atom(a, &word)) {
            command_bad(c);
            return;
        }
        utf8 |= slice_iis(word, "UTF8=ACCEPT");
    } while (!args_at_end(a));
    c->s->utf8 |= utf8;
    buf_printf(&c->s->io.out, "* ENABLED%s\r\n", utf8 ? " UTF8=ACCEPT" : "");
    command_ok(c, "ENABLE completed");
}

/* RFC 2342: our own folders, those of other users, public ones. */
void cmd_namespace(struct command *c)
{
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    buf_printf(&c->s->io.out, "* NAMESPACE ((\"\" \"%c\"))", STORE_SEPARATOR);
    if (c->s->env->wake >= 0)
        buf_printf(&c->s->io.out, " ((\"%s\" \"%c\")) ((\"%s\" \"%c\"))\r\n", PLACE_OTHERS,
            STORE_SEPARATOR, PLACE_PUBLIC, STORE_SEPARATOR);
    else
        buf_puts(&c->s->io.out, " NIL NIL\r\n");
    command_ok(c, "NAMESPACE completed");
}

/* Tells changes until the client says a line. OK: it did. */
static int idle_until_line(struct session *s)
{
    int64_t begin = monotonic_ms(), told = begin;
    while (!io_has_line(&s->io) && !s->over) {
        if (s->mb)
            updates_send(s, true, false);
        if (buf_len(&s->io.out))
            told = monotonic_ms();
        if (monotonic_ms() - told >= IDLE_STILL_HERE) {
            buf_puts(&s->io.out, "* OK Still here\r\n");
            told = monotonic_ms();
        }
        if (monotonic_ms() - begin >= s->timeout)
            return ERR_TIMEOUT;
        s->io.also = s->notify.fd;
        int64_t left = begin + s->timeout - monotonic_ms();
        int rc = io_wait_more(&s->io, (int)MIN(MAX(left, 0), IDLE_POLL));
        notify_drain(s);
        if (rc && rc != ERR_TIMEOUT)
            return rc;
    }
    return OK;
}

/* RFC 2177 */
void cmd_idle(struct command *c)
{
    struct session *s = c->s;
    if (!take_end(&c->args)) {
        command_bad(c);
        return;
    }
    buf_puts(&s->io.out, "+ idling\r\n");
    if (s->mb)
        notify_watch_selected(s);
    int rc = idle_until_line(s);
    if (s->mb)
        notify_unwatch(s);
    notify_drain(s);
    struct slice line = {NULL, 0};
    if (rc == OK && !s->over)
        rc = io_line(&s->io, 64, s->timeout, &line);
    if (rc == ERR_TIMEOUT) {
        buf_puts(&s->io.out, "* BYE Autologout: idle for too long\r\n");
        s->over = true;
        s->why = "idle for too long";
    }
    if (rc == ERR_LIMIT)
        io_skip_line(&s->io, s->timeout);
    if (slice_iis(line, "DONE")) {
        command_ok(c, "IDLE completed");
    } else if (s->over || (rc && rc != ERR_LIMIT)) {
        command_no(c, "", "IDLE ended");
    } else {
        args_fail(&c->args, "DONE expected");
        command_bad(c);
    }
}
