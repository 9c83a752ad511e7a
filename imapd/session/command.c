#include "imapd/session/session.h"
#include "libutil/error.h"

enum {
    ANY = 0,
    SELECTED = 1,     /* needs a selected mailbox */
    SEQUENCE = 2,     /* numbers messages: no EXPUNGE may be told meanwhile (RFC 3501 §7.4.1) */
    UID_FORM = 4,     /* may be prefixed with UID */
    UID_ONLY_ARG = 8, /* with UID it takes a set (UID EXPUNGE, RFC 4315) */
    QUIET = 16        /* tells no changes before its answer */
};

static const struct verb {
    const char *name;
    unsigned rules;
    void (*run)(struct command *);
} verbs[] = {
    {"CAPABILITY", ANY, cmd_capability},
    {"NOOP", ANY, cmd_noop},
    {"LOGOUT", QUIET, cmd_logout},
    {"ID", ANY, cmd_id},
    {"ENABLE", ANY, cmd_enable},
    {"NAMESPACE", ANY, cmd_namespace},
    {"IDLE", ANY, cmd_idle},
    {"SELECT", QUIET, cmd_select},
    {"EXAMINE", QUIET, cmd_examine},
    {"CREATE", ANY, cmd_create},
    {"DELETE", ANY, cmd_delete},
    {"RENAME", ANY, cmd_rename},
    {"SUBSCRIBE", ANY, cmd_subscribe},
    {"UNSUBSCRIBE", ANY, cmd_unsubscribe},
    {"LIST", ANY, cmd_list},
    {"LSUB", ANY, cmd_lsub},
    {"STATUS", ANY, cmd_status},
    {"GETQUOTA", ANY, cmd_getquota},
    {"GETQUOTAROOT", ANY, cmd_getquotaroot},
    {"SETQUOTA", ANY, cmd_setquota},
    {"GETMETADATA", ANY, cmd_getmetadata},
    {"SETMETADATA", ANY, cmd_setmetadata},
    {"GETACL", ANY, cmd_getacl},
    {"SETACL", ANY, cmd_setacl},
    {"DELETEACL", ANY, cmd_deleteacl},
    {"LISTRIGHTS", ANY, cmd_listrights},
    {"MYRIGHTS", ANY, cmd_myrights},
    {"APPEND", ANY, cmd_append},
    {"CHECK", SELECTED, cmd_noop},
    {"CLOSE", SELECTED | QUIET, cmd_close},
    {"UNSELECT", SELECTED | QUIET, cmd_unselect},
    {"EXPUNGE", SELECTED | UID_FORM, cmd_expunge},
    {"SEARCH", SELECTED | SEQUENCE | UID_FORM, cmd_search},
    {"FETCH", SELECTED | SEQUENCE | UID_FORM, cmd_fetch},
    {"STORE", SELECTED | SEQUENCE | UID_FORM, cmd_store},
    {"COPY", SELECTED | UID_FORM, cmd_copy},
    {"MOVE", SELECTED | UID_FORM, cmd_move},
};

static void set_text(
    struct command *c, const char *status, const char *code, const char *fmt, va_list ap)
{
    c->status = status;
    c->code = slice_of(code);
    vsnprintf(c->text, sizeof(c->text), fmt, ap);
}

void command_ok(struct command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(c, "OK", "", fmt, ap);
    va_end(ap);
}

void command_no(struct command *c, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(c, "NO", code, fmt, ap);
    va_end(ap);
}

static void bad(struct command *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void bad(struct command *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set_text(c, "BAD", "", fmt, ap);
    va_end(ap);
}

void command_bad(struct command *c)
{
    bad(c, "%s", c->args.wrong ? c->args.wrong : "Syntax error");
}

void command_error(struct command *c, int rc, const struct error *err)
{
    static const struct {
        int rc;
        const char *code, *text;
    } known[] = {
        {ERR_NOT_FOUND, "NONEXISTENT", "No such mailbox"},
        {ERR_EXISTS, "ALREADYEXISTS", "Mailbox exists already"},
        {ERR_SYNTAX, "CANNOT", "Invalid mailbox name"},
        {ERR_NO_SPACE, "OVERQUOTA", "No space left for mail"},
        {ERR_DENIED, "NOPERM", "Not permitted"},
        {ERR_LIMIT, "LIMIT", "A limit was reached"},
        {ERR_QUOTA, "OVERQUOTA", "Mailbox is over quota"},
        {ERR_BUSY, "INUSE", "Mailbox is in use, try again"},
        {ERR_CORRUPT, "CORRUPTION", "Mailbox is damaged"},
        {ERR_UNSUPPORTED, "CANNOT", "Not supported"},
        {ERR_TEMP, "UNAVAILABLE", "Not possible now, try again"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].rc == rc) {
            command_no(c, known[i].code, "%s", known[i].text);
            return;
        }
    /* The store's words may name paths: they are for the log. */
    log_event(&c->s->env->log, log_trouble, .what = SLICE_LIT("imap command"),
        .reason = slice_of(err->text));
    if (rc == ERR_IO) /* no descriptors, a disk that fails: not our fault, and not the client's */
        command_no(c, "UNAVAILABLE", "Temporary failure, see the server's log");
    else
        command_no(c, "SERVERBUG", "Internal error, see the server's log");
}

static bool is_tag(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_atom_char(s.p[i]) || s.p[i] == '+')
            return false;
    return s.n > 0 && s.n <= 128;
}

static const struct verb *find_verb(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (slice_iis(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

/* Takes tag and verb. NULL: c holds the BAD. */
static const struct verb *parse_verb(struct command *c)
{
    struct args *a = &c->args;
    c->tag = SLICE_LIT("*");
    struct slice rest = a->rest;
    struct slice tag = slice_cut(&rest, ' ');
    if (!is_tag(tag)) {
        bad(c, "Invalid tag");
        return NULL;
    }
    c->tag = tag;
    a->rest = rest;
    if (!rest.p || !take_atom(a, &c->name)) {
        bad(c, "Command missing");
        return NULL;
    }
    if (slice_iis(c->name, "UID")) {
        c->uid = true;
        if (!take_space(a) || !take_atom(a, &c->name)) {
            bad(c, "Command missing after UID");
            return NULL;
        }
    }
    const struct verb *v = find_verb(c->name);
    if (!v || (c->uid && !(v->rules & UID_FORM))) {
        bad(c, "Unknown command");
        return NULL;
    }
    if ((v->rules & SELECTED) && !c->s->mb) {
        bad(c, "No mailbox selected");
        return NULL;
    }
    return v;
}

/* Passes over a message that the client sends without having been asked to. */
static void discard_message(struct session *s, struct literal *message)
{
    if (!message || message->sync)
        return;
    struct slice part;
    while (message->size > 0) {
        if (io_some(&s->io, (size_t)MIN(message->size, 65536), s->timeout, &part))
            return;
        message->size -= part.n;
    }
    (void)!command_rest(s, "", NULL); /* what fails shows at the next command */
}

static void put_tagged(struct command *c)
{
    struct buf *out = &c->s->io.out;
    buf_put(out, c->tag);
    buf_printf(out, " %s ", c->status);
    if (c->code.n) {
        buf_putc(out, '[');
        buf_put(out, c->code);
        buf_puts(out, "] ");
    }
    buf_puts(out, c->text);
    buf_puts(out, "\r\n");
}

void command_run(struct session *s, struct slice text, struct literal *message)
{
    struct command c = {.s = s, .args = {text, &s->arena, NULL, s->utf8}, .message = message};
    const struct verb *v = parse_verb(&c);
    s->commands++;
    if (v)
        v->run(&c);
    if (c.message)
        discard_message(s, c.message);
    if (s->mb && v && !(v->rules & QUIET))
        updates_send(s, !(v->rules & SEQUENCE) || c.uid, c.uid);
    put_tagged(&c);
    s->errors = strcmp(c.status, "BAD") == 0 ? s->errors + 1 : 0;
}

static void clear_set(void *set)
{
    uidset_clear(set);
}

struct uidset *command_set(struct command *c)
{
    struct uidset *set = ARENA_NEW(&c->s->arena, struct uidset);
    if (!set || arena_on_reset(&c->s->arena, clear_set, set)) {
        args_fail(&c->args, "Command too large");
        return NULL;
    }
    return set;
}

/* A range of sequence numbers; false when it is outside the mailbox. */
static bool add_numbers(struct session *s, uint32_t from, uint32_t to, struct uidset *seqs)
{
    uint32_t count = store_count(s->mb);
    bool star = from == 0 || to == 0;
    if (count == 0)
        return star;
    from = from ? from : count;
    to = to ? to : count;
    if (MAX(from, to) > count)
        return false;
    uidset_add_range(seqs, MIN(from, to), MAX(from, to));
    return true;
}

/* A range of UIDs: those that do not exist are passed over (RFC 3501 §6.4.8). */
static void add_uids(struct session *s, uint32_t from, uint32_t to, struct uidset *seqs)
{
    uint32_t count = store_count(s->mb);
    struct store_msg last;
    if (count == 0 || !store_get(s->mb, count, &last))
        return;
    from = from ? from : last.uid;
    to = to ? to : last.uid;
    uint32_t min = MIN(from, to), max = MAX(from, to);
    uint32_t first = store_seq_from(s->mb, min);
    uint32_t end = max == UINT32_MAX ? count + 1 : store_seq_from(s->mb, max + 1);
    if (first < end)
        uidset_add_range(seqs, first, end - 1);
}

bool command_sequence(struct command *c, const struct seq_set *set, struct uidset **seqs)
{
    *seqs = command_set(c);
    if (!*seqs)
        return false;
    for (size_t i = 0; i < set->n; i++) {
        const struct seq_range *r = &set->ranges[i];
        if (c->uid)
            add_uids(c->s, r->from, r->to, *seqs);
        else if (!add_numbers(c->s, r->from, r->to, *seqs))
            return args_fail(&c->args, "Message number out of range");
    }
    return true;
}

struct uidset *command_uids(struct command *c, const struct uidset *seqs)
{
    struct uidset *uids = command_set(c);
    struct store_msg m;
    for (uint32_t seq = 0; uids && uidset_next(seqs, &seq);)
        if (store_get(c->s->mb, seq, &m))
            uidset_add(uids, m.uid);
    return uids;
}
