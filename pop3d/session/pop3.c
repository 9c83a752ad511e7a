#include "pop3d/session/pop3.h"

#include <time.h>

#include "libmail/proto/notify.h"
#include "libstore/store.h"
#include "pop3d/session/events.h"
#include "pop3d/session/line_io.h"

enum { COMMAND_MAX = 512, ERRORS_MAX = 100, LOCK_TRIES = 20, LOCK_MOMENT_MS = 50 };

struct message {
    uint32_t uid;
    bool deleted, retrieved;
    uint64_t size;
    unsigned char guid[STORE_GUID];
};

struct pop3 {
    struct session_env *env;
    struct line_io io;
    struct store *store;
    struct store_mailbox *box;
    struct message *messages;
    uint32_t n;
    uint32_t left; /* not deleted */
    uint64_t left_size;
    unsigned errors;
    unsigned retrieved;
    bool done;
    int broken; /* why the connection cannot be used any more; 0: it can */
    time_t began;
    struct ipc_sync notify;
    bool notifying;
};

/* --- replies --------------------------------------------------------------------------------- */

static void put(struct pop3 *p, struct slice s)
{
    if (!p->broken)
        p->broken = line_io_put(&p->io, s);
}

static void say(struct pop3 *p, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct pop3 *p, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line) - 2, fmt, ap);
    va_end(ap);
    size_t len = MIN((size_t)MAX(n, 0), sizeof(line) - 3);
    put(p, slice_from(line, len));
    put(p, SLICE_LIT("\r\n"));
}

static void fail(struct pop3 *p, const char *text)
{
    p->errors++;
    say(p, "-ERR %s", text);
}

/* The store let us down: the client may try again, the log says why. */
static void trouble(struct pop3 *p, const char *what, const struct error *err)
{
    log_event(&p->env->log, pop3_refuse, .user = slice_of(p->env->user), .rule = slice_of(what),
        .why = slice_of(err->text));
    say(p, "-ERR [SYS/TEMP] %s failed, try again later", what);
}

/* --- arguments ------------------------------------------------------------------------------- */

/* The message of this number, or NULL after an error reply. */
static struct message *pick(struct pop3 *p, struct slice arg)
{
    uint64_t i;
    if (slice_u64(arg, 1, p->n, &i) != OK || p->messages[i - 1].deleted) {
        fail(p, "No such message");
        return NULL;
    }
    return &p->messages[i - 1];
}

static unsigned number_of(const struct pop3 *p, const struct message *m)
{
    return (unsigned)(m - p->messages) + 1;
}

/* --- commands -------------------------------------------------------------------------------- */

static void do_stat(struct pop3 *p, struct slice *args)
{
    (void)args;
    say(p, "+OK %u %llu", p->left, (unsigned long long)p->left_size);
}

static void list_one(struct pop3 *p, const struct message *m, const char *prefix)
{
    say(p, "%s%u %llu", prefix, number_of(p, m), (unsigned long long)m->size);
}

static void uidl_one(struct pop3 *p, const struct message *m, const char *prefix)
{
    char uidl[STORE_UIDL_MAX + 1];
    store_uidl(p->box, m->guid, uidl);
    say(p, "%s%u %s", prefix, number_of(p, m), uidl);
}

/* LIST and UIDL: one message, or all that are left. */
static void listing(struct pop3 *p, struct slice arg,
    void (*one)(struct pop3 *, const struct message *, const char *))
{
    if (arg.n) {
        const struct message *m = pick(p, arg);
        if (m)
            one(p, m, "+OK ");
        return;
    }
    say(p, "+OK %u messages", p->left);
    for (uint32_t i = 0; i < p->n && !p->broken; i++)
        if (!p->messages[i].deleted)
            one(p, &p->messages[i], "");
    say(p, ".");
}

static void do_list(struct pop3 *p, struct slice *args)
{
    listing(p, args[0], list_one);
}

static void do_uidl(struct pop3 *p, struct slice *args)
{
    listing(p, args[0], uidl_one);
}

/* Where the first n lines of the body end (RFC 1939 §7 TOP). */
static size_t top_length(struct slice content, uint64_t lines)
{
    ptrdiff_t blank = slice_find(content, SLICE_LIT("\r\n\r\n"));
    if (slice_starts(content, "\r\n"))
        blank = -2; /* no header at all */
    else if (blank < 0)
        return content.n;
    size_t at = (size_t)(blank + 4);
    for (; lines > 0 && at < content.n; lines--) {
        ptrdiff_t nl = slice_chr(slice_from_index(content, at), '\n');
        at = nl < 0 ? content.n : at + (size_t)nl + 1;
    }
    return at;
}

/* Lines that begin with a dot get one more (RFC 1939 §3). */
static void put_stuffed(struct pop3 *p, struct slice s)
{
    bool line_end = true;
    while (s.n && !p->broken) {
        ptrdiff_t at = slice_starts(s, ".") ? 0 : slice_find(s, SLICE_LIT("\n."));
        if (at == 0 && s.p[0] == '.') {
            put(p, SLICE_LIT("."));
            at = slice_find(s, SLICE_LIT("\n."));
        }
        size_t n = at < 0 ? s.n : (size_t)at + 1;
        put(p, slice_first(s, n));
        line_end = s.p[n - 1] == '\n';
        s = slice_from_index(s, n);
    }
    if (!line_end)
        put(p, SLICE_LIT("\r\n"));
    put(p, SLICE_LIT(".\r\n"));
}

static void send_message(struct pop3 *p, struct message *m, bool all, uint64_t lines)
{
    struct store_body body;
    struct error err = {0};
    int rc = store_body(p->box, m->uid, &body, &err);
    if (rc == ERR_NOT_FOUND) {
        fail(p, "The message was removed by another session");
        return;
    }
    if (rc != OK) {
        trouble(p, "reading the message", &err);
        return;
    }
    if (all) {
        say(p, "+OK %zu octets", body.content.n);
        put_stuffed(p, body.content);
        m->retrieved = true;
        p->retrieved++;
    } else {
        say(p, "+OK");
        put_stuffed(p, slice_first(body.content, top_length(body.content, lines)));
    }
    store_body_release(&body);
}

static void do_retr(struct pop3 *p, struct slice *args)
{
    struct message *m = pick(p, args[0]);
    if (m)
        send_message(p, m, true, 0);
}

static void do_top(struct pop3 *p, struct slice *args)
{
    uint64_t lines;
    if (slice_u64(args[1], 0, UINT32_MAX, &lines) != OK) {
        fail(p, "TOP takes a message number and a number of lines");
        return;
    }
    struct message *m = pick(p, args[0]);
    if (m)
        send_message(p, m, false, lines);
}

static void do_dele(struct pop3 *p, struct slice *args)
{
    struct message *m = pick(p, args[0]);
    if (!m)
        return;
    m->deleted = true;
    p->left--;
    p->left_size -= m->size;
    say(p, "+OK Marked for deletion");
}

static void do_rset(struct pop3 *p, struct slice *args)
{
    (void)args;
    p->left = p->n;
    p->left_size = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        p->messages[i].deleted = false;
        p->left_size += p->messages[i].size;
    }
    say(p, "+OK");
}

static void do_noop(struct pop3 *p, struct slice *args)
{
    (void)args;
    say(p, "+OK");
}

static void do_capa(struct pop3 *p, struct slice *args)
{
    (void)args;
    say(p, "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\n"
           "EXPIRE NEVER\r\nIMPLEMENTATION Veredus\r\n.");
}

/* The UPDATE state (RFC 1939 §6): what was read is seen, what was deleted goes. */
static int update(struct pop3 *p, struct error *err)
{
    struct uidset seen = {0}, gone = {0};
    for (uint32_t i = 0; i < p->n; i++) {
        const struct message *m = &p->messages[i];
        if (m->deleted)
            uidset_add(&gone, m->uid);
        else if (m->retrieved)
            uidset_add(&seen, m->uid);
    }
    struct store_flags flags = {.how = STORE_ADD, .flags = STORE_SEEN};
    int rc = OK;
    if (seen.n)
        rc = store_change(p->box, &seen, &flags, NULL, NULL, err);
    if (rc == OK && gone.n)
        rc = store_expunge(p->box, &gone, false, NULL, err);
    uidset_clear(&seen);
    uidset_clear(&gone);
    return rc;
}

static void do_quit(struct pop3 *p, struct slice *args)
{
    (void)args;
    struct error err = {0};
    if (update(p, &err) == OK)
        say(p, "+OK Good bye");
    else
        trouble(p, "removing messages", &err);
    p->done = true;
}

enum { ARGS_MAX = 2 };
static const struct {
    const char *name;
    unsigned min, max;
    void (*run)(struct pop3 *, struct slice *args);
} commands[] = {
    {"STAT", 0, 0, do_stat},
    {"LIST", 0, 1, do_list},
    {"UIDL", 0, 1, do_uidl},
    {"RETR", 1, 1, do_retr},
    {"TOP", 2, 2, do_top},
    {"DELE", 1, 1, do_dele},
    {"RSET", 0, 0, do_rset},
    {"NOOP", 0, 0, do_noop},
    {"CAPA", 0, 0, do_capa},
    {"QUIT", 0, 0, do_quit},
};

static void command(struct pop3 *p, struct slice line)
{
    struct slice args[ARGS_MAX + 1] = {0};
    unsigned n = 0;
    struct slice name = slice_cut(&line, ' ');
    while (line.p && n <= ARGS_MAX) {
        args[n] = slice_cut(&line, ' ');
        n += args[n].n > 0; /* clients send spaces at the end */
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!slice_iis(name, commands[i].name))
            continue;
        if (n < commands[i].min || n > commands[i].max)
            fail(p, "Wrong number of arguments");
        else
            commands[i].run(p, args);
        return;
    }
    fail(p, "Unknown command");
}

/* --- the session ----------------------------------------------------------------------------- */

/* Tells notifyd what the update changed, so that IMAP sessions of the user hear it. */
static void on_changed(void *arg, struct slice folder, uint64_t sequence)
{
    struct pop3 *p = arg;
    struct error err;
    struct notify_changed m = {
        .owner = slice_of(p->env->user), .mailbox = folder, .sequence = sequence};
    if (!p->notifying && p->env->notify >= 0) {
        p->notifying =
            ipc_sync_open(&p->notify, p->env->notify, &notify_proto, IPC_CLIENT, &err) == OK;
        p->env->notify = -1;
    }
    if (p->notifying &&
        ipc_sync_send(&p->notify, notify_changed_type, p->env->trace, 0, &m, -1, &err) != OK)
        log_event(
            &p->env->log, log_warning, .what = SLICE_LIT("notify"), .reason = slice_of(err.text));
}

/* Closing over unread records would take ours with it. */
static void notify_end(struct pop3 *p)
{
    struct ipc_in in;
    struct error err;
    while (ipc_sync_receive(&p->notify, 0, &in, &err) == OK)
        continue;
    ipc_sync_close(&p->notify);
}

static void load_messages(struct pop3 *p)
{
    uint32_t count = store_count(p->box);
    p->messages = xcalloc(count, sizeof(*p->messages));
    for (uint32_t seq = 1; seq <= count; seq++) {
        struct store_msg m;
        if (!store_get(p->box, seq, &m) || m.gone)
            continue;
        struct message *to = &p->messages[p->n++];
        to->uid = m.uid;
        to->size = m.size;
        memcpy(to->guid, m.guid, sizeof(to->guid));
        p->left_size += m.size;
    }
    p->left = p->n;
}

/* A session that was hung up may need a moment to notice. */
static int lock_maildrop(struct pop3 *p, struct error *err)
{
    static const struct timespec moment = {.tv_nsec = LOCK_MOMENT_MS * 1000000L};
    int rc = store_lock_maildrop(p->store, err);
    for (int i = 0; rc == ERR_BUSY && i < LOCK_TRIES; i++) {
        nanosleep(&moment, NULL);
        rc = store_lock_maildrop(p->store, err);
    }
    return rc;
}

static int open_maildrop(struct pop3 *p, struct error *err)
{
    struct store_options options = {.coexist = p->env->coexist,
        .create = true,
        .changed = on_changed,
        .arg = p,
        .keep_deleted = conf_int(conf_one(p->env->conf, "mailbox"), "keep-deleted") > 0};
    int rc = store_open(p->env->mail, ".", &options, &p->store, err);
    if (rc == OK)
        rc = lock_maildrop(p, err);
    if (rc == OK)
        rc = store_select(p->store, SLICE_LIT("INBOX"), false, &p->box, err);
    if (rc == OK)
        load_messages(p);
    return rc;
}

static const char *serve(struct pop3 *p)
{
    struct slice line;
    while (!p->done && !p->broken) {
        int rc = line_io_read(&p->io, &line);
        if (rc == ERR_LIMIT)
            say(p, "-ERR The command is too long");
        else if (rc == ERR_CLOSED && *p->env->stopping)
            say(p, "-ERR [SYS/TEMP] The server is going down");
        if (rc)
            return rc == ERR_TIMEOUT ? "timeout" : rc == ERR_LIMIT ? "too long" : "closed";
        command(p, line);
        if (p->errors >= ERRORS_MAX)
            return "too many errors";
    }
    return p->done ? "quit" : "closed";
}

static void session_end(struct pop3 *p, const char *why)
{
    /* Before the last reply, so that a client that comes again at once finds no lock. */
    store_unselect(p->box);
    store_close(p->store);
    if (!p->broken)
        p->broken = line_io_flush(&p->io);
    log_event(&p->env->log, pop3_close, .user = slice_of(p->env->user), .why = slice_of(why),
        .retrieved = p->retrieved, .deleted = p->done ? p->n - p->left : 0, .sent = p->io.sent,
        .seconds = time(NULL) - p->began);
    if (p->notifying)
        notify_end(p);
    line_io_clear(&p->io);
    free(p->messages);
}

int pop3_session(struct session_env *env)
{
    struct pop3 p = {.env = env, .began = time(NULL)};
    struct error err = {0};
    const struct conf_block *conf = conf_next(conf_root(env->conf), "pop3", NULL);
    if (!conf)
        conf = conf_default_block(env->conf, "pop3");
    line_io_init(
        &p.io, env->fd, env->input, (int)MIN(conf_int(conf, "timeout"), INT32_MAX), COMMAND_MAX);
    int rc = open_maildrop(&p, &err);
    if (rc == OK) {
        log_event(&env->log, pop3_open, .user = slice_of(env->user),
            .client = slice_of(env->client), .messages = p.n, .size = p.left_size);
        say(&p, "+OK Logged in, %u messages", p.n);
        session_end(&p, serve(&p));
        return 0;
    }
    log_event(&env->log, pop3_refuse, .user = slice_of(env->user),
        .rule = rc == ERR_BUSY ? SLICE_LIT("in-use") : SLICE_LIT("store"),
        .why = slice_of(err.text));
    say(&p, rc == ERR_BUSY ? "-ERR [IN-USE] Another session has this maildrop"
                           : "-ERR [SYS/TEMP] The maildrop cannot be opened, try again later");
    session_end(&p, "no maildrop");
    return rc == ERR_BUSY ? 0 : 1;
}
