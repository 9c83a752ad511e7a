/* CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE LIST LSUB (RFC 3501 §6.3.3 - 6.3.9). */
#include "imapd/session/list.h"
#include "imapd/session/mutf7.h"
#include "imapd/session/session.h"
#include "libmail/imapstruct.h"
#include "libutil/error.h"

enum { WIRE_MAX = 8 * STORE_NAME_MAX };

static bool take_name(struct command *c, struct slice *name)
{
    if (take_space(&c->args) && take_mailbox(&c->args, name) && take_end(&c->args))
        return true;
    command_bad(c);
    return false;
}

static void answer(struct command *c, int rc, const struct error *err)
{
    if (rc)
        command_error(c, rc, err);
    else
        command_ok(c, "%.*s completed", SLICE_FMT(c->name));
}

void cmd_create(struct command *c)
{
    struct slice name;
    struct error err = {0, ""};
    if (!take_name(c, &name))
        return;
    /* A separator at the end says that folders will come below it (§6.3.3). */
    if (name.n > 1 && name.p[name.n - 1] == STORE_SEPARATOR)
        name.n--;
    answer(c, store_create(c->s->store, name, &err), &err);
}

void cmd_delete(struct command *c)
{
    struct slice name;
    struct error err = {0, ""};
    if (!take_name(c, &name))
        return;
    bool selected = c->s->mb && slice_eq(name, c->s->folder);
    int rc = store_delete(c->s->store, name, &err);
    if (rc == OK && selected)
        session_unselect(c->s);
    answer(c, rc, &err);
}

void cmd_rename(struct command *c)
{
    struct slice from, to;
    struct error err = {0, ""};
    struct args *a = &c->args;
    if (!take_space(a) || !take_mailbox(a, &from) || !take_space(a) || !take_mailbox(a, &to) ||
        !take_end(a)) {
        command_bad(c);
        return;
    }
    answer(c, store_rename(c->s->store, from, to, &err), &err);
}

static void change_subscription(struct command *c, bool subscribed)
{
    struct slice name;
    struct error err = {0, ""};
    if (take_name(c, &name))
        answer(c, store_subscribe(c->s->store, name, subscribed, &err), &err);
}

void cmd_subscribe(struct command *c)
{
    change_subscription(c, true);
}

void cmd_unsubscribe(struct command *c)
{
    change_subscription(c, false);
}

/* RFC 6154: the folders that clients make by these names serve these ends. */
static const char *special_use(struct slice name)
{
    static const struct {
        const char *name, *attr;
    } uses[] = {{"Sent", "\\Sent"}, {"Drafts", "\\Drafts"}, {"Trash", "\\Trash"},
        {"Junk", "\\Junk"}, {"Archive", "\\Archive"}};
    for (size_t i = 0; i < ARRAY_LEN(uses); i++)
        if (slice_is(name, uses[i].name))
            return uses[i].attr;
    return NULL;
}

static void put_listed(
    struct buf *out, const char *verb, unsigned attrs, const char *special, struct slice wire)
{
    buf_printf(out, "* %s (", verb);
    if (strcmp(verb, "LIST") == 0) {
        buf_puts(out, attrs & STORE_NOSELECT ? "\\Noselect " : "");
        buf_puts(out, attrs & STORE_CHILDREN ? "\\HasChildren" : "\\HasNoChildren");
        if (special)
            buf_printf(out, " %s", special);
    } else if (attrs & STORE_NOSELECT) {
        buf_puts(out, "\\Noselect");
    }
    buf_printf(out, ") \"%c\" ", STORE_SEPARATOR);
    imap_put_string(out, wire);
    buf_puts(out, "\r\n");
}

/* Reference and pattern, joined. */
static bool take_list(struct command *c, struct slice *pattern)
{
    struct slice ref, mailbox;
    struct args *a = &c->args;
    if (!take_space(a) || !take_astring(a, &ref) || !take_space(a) || !take_pattern(a, &mailbox) ||
        !take_end(a))
        return false;
    if (mailbox.n == 0) {
        *pattern = mailbox;
        return true;
    }
    *pattern = arena_printf(a->arena, "%.*s%.*s", SLICE_FMT(ref), SLICE_FMT(mailbox));
    return pattern->p && pattern->n <= WIRE_MAX ? true : args_fail(a, "Pattern too long");
}

void cmd_list(struct command *c)
{
    struct slice pattern;
    struct store_folder *folders;
    size_t n;
    struct error err = {0, ""};
    struct buf *out = &c->s->io.out;
    if (!take_list(c, &pattern)) {
        command_bad(c);
        return;
    }
    if (pattern.n == 0) {
        /* The separator is asked for (§6.3.8). */
        buf_printf(out, "* LIST (\\Noselect) \"%c\" \"\"\r\n", STORE_SEPARATOR);
        command_ok(c, "LIST completed");
        return;
    }
    int rc = store_list(c->s->store, &folders, &n, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    struct buf wire;
    buf_init(&wire, WIRE_MAX);
    for (size_t i = 0; i < n && io_pace(&c->s->io) == OK; i++) {
        buf_reset(&wire);
        mutf7_encode(folders[i].name, &wire);
        if (list_match(pattern, buf_slice(&wire), STORE_SEPARATOR))
            put_listed(
                out, "LIST", folders[i].attrs, special_use(folders[i].name), buf_slice(&wire));
    }
    buf_clear(&wire);
    store_list_free(folders, n);
    command_ok(c, "LIST completed");
}

/* With '%' at its end, a pattern that matches a level above a subscribed name lists that level
 * (§6.3.9). `told` is the level listed last: names come sorted. */
static void put_level_above(
    struct buf *out, struct slice pattern, struct slice wire, struct buf *told)
{
    for (size_t i = 1; i < wire.n; i++) {
        struct slice level = slice_first(wire, i);
        if (wire.p[i] != STORE_SEPARATOR || !list_match(pattern, level, STORE_SEPARATOR) ||
            slice_eq(level, buf_slice(told)))
            continue;
        put_listed(out, "LSUB", STORE_NOSELECT, NULL, level);
        buf_reset(told);
        buf_put(told, level);
    }
}

void cmd_lsub(struct command *c)
{
    struct slice pattern;
    struct store_folder *folders;
    size_t n;
    struct error err = {0, ""};
    if (!take_list(c, &pattern)) {
        command_bad(c);
        return;
    }
    int rc = store_list_subscribed(c->s->store, &folders, &n, &err);
    if (rc) {
        command_error(c, rc, &err);
        return;
    }
    struct buf wire, told;
    buf_init(&wire, WIRE_MAX);
    buf_init(&told, WIRE_MAX);
    for (size_t i = 0; i < n && io_pace(&c->s->io) == OK; i++) {
        buf_reset(&wire);
        mutf7_encode(folders[i].name, &wire);
        struct slice name = buf_slice(&wire);
        if (list_match(pattern, name, STORE_SEPARATOR)) {
            put_listed(&c->s->io.out, "LSUB", folders[i].attrs & STORE_NOSELECT, NULL, name);
            buf_reset(&told);
            buf_put(&told, name);
        } else if (slice_ends(pattern, "%")) {
            put_level_above(&c->s->io.out, pattern, name, &told);
        }
    }
    buf_clear(&wire);
    buf_clear(&told);
    store_list_free(folders, n);
    command_ok(c, "LSUB completed");
}
