/* APPEND (RFC 3501 §6.3.11, RFC 4315): the message streams from the client into the store. */
#include "imapd/session/events.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libutil/error.h"

struct append {
    struct slice folder;
    struct flag_list flags;
    int64_t date; /* 0: not given */
    bool wrapped; /* the literal stands in "UTF8 (~{n}" and ")" (RFC 6855 §4) */
};

/* Everything before the announced literal. */
static bool take_append(struct command *c, struct append *ap)
{
    struct args *a = &c->args;
    *ap = (struct append){.date = 0};
    if (!take_space(a) || !take_mailbox(a, &ap->folder) || !take_space(a))
        return false;
    if (args_next_is(a, '(') && (!take_flags(a, false, &ap->flags) || !take_space(a)))
        return false;
    if (args_next_is(a, '"')) {
        if (!take_date_time(a, &ap->date) || !take_space(a))
            return false;
        ap->date = MIN(MAX(ap->date, 1), UINT32_MAX); /* what the store can keep */
    }
    if (a->utf8 && slice_istarts(a->rest, "UTF8 (~")) {
        a->rest = slice_from_index(a->rest, strlen("UTF8 (~"));
        ap->wrapped = true;
    }
    if (!c->message || !args_next_is(a, '{'))
        return args_fail(a, "Message literal expected");
    return true;
}

/* Flags that the user may not set are left out (RFC 4314 §4). */
static void limit_flags(struct flag_list *flags, unsigned rights)
{
    flags->flags = rights_flags(rights, flags->flags);
    if (!(rights & ACL_WRITE))
        flags->nkeywords = 0;
}

static void refuse(struct command *c, int rc, const struct error *err)
{
    if (rc == ERR_NOT_FOUND)
        command_no(c, "TRYCREATE", "No such mailbox");
    else
        command_error(c, rc, err);
}

/* Moves the literal into the store. OK; a store error (the literal was passed over nonetheless);
 * a connection error is left in io.error. */
static int receive(
    struct session *s, struct literal *message, struct store_append *ap, struct error *err)
{
    int rc = OK;
    struct slice part;
    while (message->size > 0) {
        int io = io_some(&s->io, (size_t)MIN(message->size, 65536), s->timeout, &part);
        if (io) {
            if (!s->io.error)
                s->io.error = io;
            return error_set(err, io, "the client went away within a message");
        }
        message->size -= part.n;
        if (rc == OK)
            rc = store_append_write(ap, part, err);
    }
    return rc;
}

/* What follows the literal is this and the line end. */
static bool end_of_command(struct session *s, const char *last)
{
    bool is_last;
    int rc = command_rest(s, last, &is_last);
    if (rc && !s->io.error)
        s->io.error = rc;
    return is_last;
}

/* In a folder of others \Seen is ours, not the owner's. That it is not kept is no failure. */
static void mark_seen(struct session *s, const struct place *p, uint32_t uid)
{
    struct uidset uids = {0};
    struct error err;
    uidset_add(&uids, uid);
    if (place_mark_seen(s, p, &uids, &err))
        log_event(&s->env->log, log_trouble, .what = SLICE_LIT("private \\Seen"),
            .reason = slice_of(err.text));
    uidset_clear(&uids);
}

static void commit(struct command *c, const struct append *ap, const struct place *p,
    struct store_append *handle, uint64_t size)
{
    struct error err = {0, ""};
    struct store_appended done;
    bool seen = p->share && (ap->flags.flags & STORE_SEEN);
    const struct store_append_options opts = {
        .flags = ap->flags.flags & (seen ? ~(uint32_t)STORE_SEEN : UINT32_MAX),
        .keywords = ap->flags.keywords,
        .nkeywords = ap->flags.nkeywords,
        .date = ap->date,
        .durable = true};
    int rc = store_append_commit(handle, &opts, &done, &err);
    if (rc) {
        refuse(c, rc, &err);
        return;
    }
    if (seen)
        mark_seen(c->s, p, done.uid);
    log_event(&c->s->env->log, imap_append, .mailbox = ap->folder, .uid = done.uid, .size = size);
    command_ok(c, "APPEND completed");
    c->code = arena_printf(&c->s->arena, "APPENDUID %u %u", done.uidvalidity, done.uid);
}

void cmd_append(struct command *c)
{
    struct append ap;
    struct place p;
    struct store_append *handle = NULL;
    struct error err = {0, ""};
    struct session *s = c->s;
    if (!take_append(c, &ap)) {
        command_bad(c);
        return;
    }
    uint64_t size = c->message->size;
    if (size > s->message_max || size == 0) {
        /* Nothing can be told to a client that sends more than this without waiting. */
        if (!c->message->sync && size > 16 * s->message_max) {
            c->message = NULL;
            s->over = true;
            s->why = "message far too large";
            buf_puts(&s->io.out, "* BYE Message far too large\r\n");
        }
        command_no(c, size ? "TOOBIG" : "", size ? "Message too large" : "Message is empty");
        return;
    }
    if (!command_place(c, ap.folder, ACL_INSERT, &p) || !command_fits(c, &p, size, 1))
        return;
    limit_flags(&ap.flags, p.rights);
    int rc = store_append_begin(p.store, p.folder, size, &handle, &err);
    if (rc) {
        refuse(c, rc, &err);
        return;
    }
    if (c->message->sync)
        buf_puts(&s->io.out, "+ Ready for the message\r\n");
    rc = receive(s, c->message, handle, &err);
    c->message = NULL;
    bool ended = !s->io.error && end_of_command(s, ap.wrapped ? ")" : "");
    if (rc || !ended) {
        store_append_abort(handle);
        args_fail(&c->args, "Line end expected after the message");
        if (rc && !s->io.error)
            refuse(c, rc, &err);
        else
            command_bad(c);
        return;
    }
    commit(c, &ap, &p, handle, size);
}
