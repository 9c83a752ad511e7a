/* Commands that change messages: STORE COPY MOVE EXPUNGE (RFC 3501 §6.4, RFC 4315, RFC 6851). */
#include "imapd/session/events.h"
#include "imapd/session/place.h"
#include "imapd/session/session.h"
#include "libutil/error.h"

static bool take_messages(struct command *c, struct uidset **seqs)
{
    struct seq_set set;
    return take_space(&c->args) && take_seq_set(&c->args, &set) && command_sequence(c, &set, seqs);
}

struct store_request {
    struct uidset *seqs;
    struct store_flags change;
    struct flag_list flags;
    bool silent;
};

static bool take_store(struct command *c, struct store_request *rq)
{
    struct args *a = &c->args;
    struct slice item;
    *rq = (struct store_request){.seqs = NULL};
    if (!take_messages(c, &rq->seqs) || !take_space(a) || !take_atom(a, &item))
        return false;
    rq->change.how = STORE_REPLACE;
    if (slice_starts(item, "+") || slice_starts(item, "-")) {
        rq->change.how = item.p[0] == '+' ? STORE_ADD : STORE_REMOVE;
        item = slice_from_index(item, 1);
    }
    rq->silent = slice_iis(item, "FLAGS.SILENT");
    if (!rq->silent && !slice_iis(item, "FLAGS"))
        return args_fail(a, "Unknown STORE item");
    if (!take_space(a) || !take_flags(a, true, &rq->flags))
        return false;
    rq->change.flags = rq->flags.flags;
    rq->change.keywords = rq->flags.keywords;
    rq->change.nkeywords = rq->flags.nkeywords;
    return take_end(a);
}

/* Every message of the set is told, changed or not (§6.4.6). */
static void tell_flags(struct command *c, const struct uidset *seqs)
{
    struct session *s = c->s;
    struct store_msg m;
    if (store_keywords(s->mb) > s->keywords)
        updates_announce_keywords(s);
    for (uint32_t seq = 0; uidset_next(seqs, &seq) && io_pace(&s->io) == OK;) {
        if (!store_get(s->mb, seq, &m) || m.gone)
            continue;
        buf_printf(&s->io.out, "* %u FETCH (", seq);
        if (c->uid)
            buf_printf(&s->io.out, "UID %u ", m.uid);
        updates_put_flags(s, &m);
        buf_puts(&s->io.out, ")\r\n");
    }
}

/* What of it the user may change. */
static struct store_flags permitted(const struct store_flags *f, unsigned rights)
{
    struct store_flags out = *f;
    out.flags = rights_flags(rights, f->flags);
    if (!(rights & ACL_WRITE))
        out.nkeywords = 0;
    return out;
}

/* In a folder of others, replacing is adding what is named and removing the rest, each as far as
 * it is permitted: \Seen is ours there, and the owner's stays. */
static int replace_shared(struct session *s, const struct uidset *uids,
    const struct store_flags *wanted, unsigned rights, struct error *err)
{
    struct slice names[STORE_KEYWORDS_MAX];
    struct store_flags rest = {.how = STORE_REMOVE,
        .flags = (STORE_RECENT - 1) & ~wanted->flags,
        .keywords = names,
        .unchanged_since = wanted->unchanged_since};
    for (size_t i = 0; i < store_keywords(s->mb); i++) {
        bool named = false;
        for (size_t k = 0; k < wanted->nkeywords && !named; k++)
            named = slice_ieq(wanted->keywords[k], store_keyword(s->mb, i));
        if (!named && store_keyword(s->mb, i).n)
            names[rest.nkeywords++] = store_keyword(s->mb, i);
    }
    rest = permitted(&rest, rights);
    struct store_flags add = permitted(wanted, rights);
    add.how = STORE_ADD;
    int rc = rest.flags || rest.nkeywords ? store_change(s->mb, uids, &rest, NULL, NULL, err) : OK;
    if (!rc && (add.flags || add.nkeywords))
        rc = store_change(s->mb, uids, &add, NULL, NULL, err);
    return rc;
}

/* RFC 4314 §4: flags that may not be changed are passed over; when none may, it is NO. */
static int change_shared(struct session *s, const struct uidset *uids,
    const struct store_flags *wanted, struct error *err)
{
    unsigned rights = session_rights(s);
    struct store_flags may = permitted(wanted, rights);
    bool nothing = !may.flags && !may.nkeywords;
    if (!(rights & (ACL_SEEN | ACL_WRITE | ACL_DELETE_MSG)) ||
        (nothing && (wanted->flags || wanted->nkeywords)))
        return error_set(err, ERR_DENIED, "no right to change these flags");
    if (wanted->how == STORE_REPLACE)
        return replace_shared(s, uids, wanted, rights, err);
    return nothing ? OK : store_change(s->mb, uids, &may, NULL, NULL, err);
}

void cmd_store(struct command *c)
{
    struct store_request rq;
    struct error err = {0, ""};
    struct uidset *uids = NULL;
    if (!take_store(c, &rq) || !(uids = command_uids(c, rq.seqs))) {
        command_bad(c);
        return;
    }
    if (store_read_only(c->s->mb)) {
        command_no(c, "", "Mailbox is read-only");
        return;
    }
    int rc = OK;
    if (uids->n && c->s->selected)
        rc = change_shared(c->s, uids, &rq.change, &err);
    else if (uids->n)
        rc = store_change(c->s->mb, uids, &rq.change, NULL, NULL, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    if (!rq.silent)
        tell_flags(c, rq.seqs);
    command_ok(c, "%s completed", c->uid ? "UID STORE" : "STORE");
}

static void free_copied(void *copied)
{
    store_copied_clear(copied);
}

/* "COPYUID validity from to" (RFC 4315 §3). */
static struct slice copyuid(const struct store_copied *copied, struct arena *arena)
{
    struct buf b;
    buf_init(&b, SESSION_ARENA / 4);
    buf_printf(&b, "COPYUID %u ", copied->uidvalidity);
    for (int side = 0; side < 2; side++) {
        const uint32_t *u = side ? copied->to : copied->from;
        for (size_t i = 0, j; i < copied->n; i = j) {
            for (j = i + 1; j < copied->n && u[j] == u[j - 1] + 1;)
                j++;
            buf_printf(&b, i ? ",%u" : "%u", u[i]);
            if (j - i > 1)
                buf_printf(&b, ":%u", u[j - 1]);
        }
        if (side == 0)
            buf_putc(&b, ' ');
    }
    struct slice code = {NULL, 0};
    if (!b.failed)
        code = arena_dup(arena, buf_slice(&b));
    buf_clear(&b);
    return code;
}

/* Copying is refused when it is too much; moving from folder to folder of one owner adds nothing.
 */
static bool copy_fits(
    struct command *c, const struct uidset *uids, const struct place *to, bool move)
{
    uint64_t bytes = 0, n = 0;
    struct store_msg m;
    const struct share *from = c->s->selected, *into = to->share;
    if (move && (from && into ? strcmp(from->from->owner, into->from->owner) == 0 : from == into))
        return true;
    for (uint32_t uid = 0; uidset_next(uids, &uid);)
        if (store_get(c->s->mb, store_seq(c->s->mb, uid), &m)) {
            bytes += m.size;
            n++;
        }
    return command_fits(c, to, bytes, n);
}

/* RFC 4314 §4: flags that may not be set in the target are left out. In a folder of others \Seen is
 * each user's own, so it does not come along in the message but is marked for us. */
static int copy_permitted(struct session *s, const struct uidset *uids, const struct place *to,
    struct store_copied *done, struct error *err)
{
    struct store_permitted may = {
        .flags = rights_flags(to->rights, UINT32_MAX), .keywords = to->rights & ACL_WRITE};
    struct uidset seen = {0};
    struct store_msg m;
    if (to->share)
        may.flags &= ~(uint32_t)STORE_SEEN;
    int rc = store_copy_to(s->mb, uids, to->store, to->folder, &may, done, err);
    for (size_t i = 0; !rc && to->share && (to->rights & ACL_SEEN) && i < done->n; i++)
        if (store_get(s->mb, store_seq(s->mb, done->from[i]), &m) && (m.flags & STORE_SEEN))
            uidset_add(&seen, done->to[i]);
    struct error ignored; /* the copies are there: that they are not marked is no failure */
    if (seen.n && place_mark_seen(s, to, &seen, &ignored))
        log_event(&s->env->log, log_trouble, .what = SLICE_LIT("private \\Seen"),
            .reason = slice_of(ignored.text));
    uidset_clear(&seen);
    return rc;
}

/* What COPY and MOVE share. NULL: answered. */
static struct store_copied *copy(struct command *c, struct uidset **uids, bool move)
{
    struct place to;
    struct args *a = &c->args;
    struct uidset *seqs;
    struct slice folder;
    struct error err = {0, ""};
    struct store_copied *done = ARENA_NEW(a->arena, struct store_copied);
    if (!done || !take_messages(c, &seqs) || !take_space(a) || !take_mailbox(a, &folder) ||
        !take_end(a) || !(*uids = command_uids(c, seqs)) ||
        arena_on_reset(a->arena, free_copied, done)) {
        command_bad(c);
        return NULL;
    }
    if (!command_may(c, ACL_READ) || !command_place(c, folder, ACL_INSERT, &to))
        return NULL;
    if ((*uids)->n == 0) {
        if (store_exists(to.store, to.folder))
            command_ok(c, "No matching messages");
        else
            command_no(c, "TRYCREATE", "No such mailbox");
        return NULL;
    }
    if (!copy_fits(c, *uids, &to, move))
        return NULL;
    int rc = copy_permitted(c->s, *uids, &to, done, &err);
    if (rc == ERR_NOT_FOUND && store_exists(to.store, to.folder))
        command_no(c, "EXPUNGEISSUED", "Some of the messages no longer exist");
    else if (rc == ERR_NOT_FOUND)
        command_no(c, "TRYCREATE", "No such mailbox");
    else if (rc)
        command_error(c, rc, &err);
    return rc ? NULL : done;
}

void cmd_copy(struct command *c)
{
    struct uidset *uids;
    struct store_copied *done = copy(c, &uids, false);
    if (!done)
        return;
    command_ok(c, "%s completed", c->uid ? "UID COPY" : "COPY");
    c->code = copyuid(done, c->args.arena);
}

static void log_expunged(struct session *s, const struct uidset *expunged)
{
    struct buf text;
    if (expunged->n == 0)
        return;
    buf_init(&text, 200);
    uidset_print(expunged, &text);
    log_event(&s->env->log, imap_expunge, .mailbox = s->folder, .uids = buf_slice(&text));
    buf_clear(&text);
}

/* RFC 6851 §4.3: COPYUID comes untagged before the EXPUNGEs, which updates_send tells. */
void cmd_move(struct command *c)
{
    struct uidset *uids;
    struct error err = {0, ""};
    if (store_read_only(c->s->mb)) {
        command_no(c, "", "Mailbox is read-only");
        return;
    }
    if (!command_may(c, ACL_DELETE_MSG | ACL_EXPUNGE))
        return;
    struct store_copied *done = copy(c, &uids, true);
    if (!done)
        return;
    buf_puts(&c->s->io.out, "* OK [");
    buf_put(&c->s->io.out, copyuid(done, c->args.arena));
    buf_puts(&c->s->io.out, "] Moved\r\n");
    int rc = store_expunge(c->s->mb, uids, false, NULL, &err);
    if (rc)
        command_error(c, rc, &err);
    else
        command_ok(c, "%s completed", c->uid ? "UID MOVE" : "MOVE");
}

void cmd_expunge(struct command *c)
{
    struct uidset *seqs = NULL, *uids = NULL, *expunged = command_set(c);
    struct error err = {0, ""};
    if (!expunged || (c->uid && (!take_messages(c, &seqs) || !(uids = command_uids(c, seqs)))) ||
        !take_end(&c->args)) {
        command_bad(c);
        return;
    }
    if (store_read_only(c->s->mb)) {
        command_no(c, "", "Mailbox is read-only");
        return;
    }
    if (!command_may(c, ACL_EXPUNGE))
        return;
    bool none = uids && uids->n == 0;
    int rc = none ? OK : store_expunge(c->s->mb, uids, true, expunged, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    log_expunged(c->s, expunged);
    command_ok(c, "%s completed", c->uid ? "UID EXPUNGE" : "EXPUNGE");
}
