#include "imapd/session/session.h"

#include "imapd/session/events.h"
#include "imapd/session/place.h"
#include "libstore/quota.h"
#include "libstore/seen.h"
#include "libutil/conf.h"
#include "libutil/error.h"

void session_unselect(struct session *s)
{
    store_unselect(s->mb);
    s->mb = NULL;
    s->selected = NULL;
    free((void *)(uintptr_t)s->folder.p);
    s->folder = (struct slice){NULL, 0};
}

int session_select(
    struct session *s, struct slice name, const struct place *p, bool read_only, struct error *err)
{
    session_unselect(s);
    struct quota_usage used;
    struct quota limits;
    int rc = store_select(p->store, p->folder, read_only, &s->mb, err);
    /* It has lost its numbers: an agent that counts the owner's mail gives it new ones, the second
     * time when it had the files open that are lost. */
    for (int turn = 0; turn < 2 && rc == ERR_TEMP && p->share; turn++)
        if (share_totals(s, p->share, &used, &limits, err) == OK)
            rc = store_select(p->store, p->folder, read_only, &s->mb, err);
    if (rc) {
        s->mb = NULL;
        return rc;
    }
    s->selected = p->share;
    if (p->share)
        rc = store_private_seen(s->mb, s->store, err);
    if (rc) {
        session_unselect(s);
        return rc;
    }
    s->folder = (struct slice){xmemdup0(name.p, name.n), name.n};
    s->exists = store_count(s->mb);
    s->recent = updates_count_recent(s);
    s->keywords = store_keywords(s->mb);
    return OK;
}

bool session_stopping(const struct session *s)
{
    return s->env->stopping && *s->env->stopping;
}

/* What ends a session when reading failed. */
static void end_reading(struct session *s, int rc)
{
    s->over = true;
    if (rc == ERR_TIMEOUT && !s->io.error) {
        s->why = "idle for too long";
        buf_puts(&s->io.out, "* BYE Autologout: idle for too long\r\n");
    } else if (session_stopping(s)) {
        s->why = "server is stopping";
        buf_puts(&s->io.out, "* BYE Server is stopping, come back soon\r\n");
        s->io.error = OK;
    } else {
        s->why = rc == ERR_CLOSED ? "client disconnected" : "connection failed";
    }
}

static void one_command(struct session *s, struct buf *text)
{
    struct literal message;
    bool has_message;
    int rc = command_read(s, text, &message, &has_message);
    if (rc == OK)
        command_run(s, buf_slice(text), has_message ? &message : NULL);
    else if (rc != ERR_SYNTAX && rc != ERR_LIMIT)
        end_reading(s, rc);
    arena_reset(&s->arena);
    if (s->errors >= SESSION_ERRORS_MAX && !s->over) {
        buf_puts(&s->io.out, "* BYE Too many errors\r\n");
        s->over = true;
        s->why = "too many errors";
    }
    if (s->io.error && !s->over)
        end_reading(s, s->io.error);
}

static bool rest(void *arg)
{
    struct session *s = arg;
    return s->mb && store_tidy(s->mb);
}

static void loop(struct session *s)
{
    struct buf text;
    buf_init(&text, SESSION_COMMAND_MAX + 64);
    s->io.rest = rest;
    s->io.rest_arg = s;
    while (!s->over) {
        one_command(s, &text);
        if (text.cap > 8192)
            buf_clear(&text);
        else
            buf_reset(&text);
    }
    buf_clear(&text);
}

/* Opens the store and answers the login command. */
static int begin(struct session *s)
{
    struct error err;
    const struct store_options opts = {.coexist = s->env->coexist,
        .create = true,
        .changed = notify_changed_folder,
        .arg = s,
        .keep_deleted = conf_int(conf_one(s->env->conf, "mailbox"), "keep-deleted") > 0};
    int rc = store_open(s->env->mail, ".", &opts, &s->store, &err);
    if (rc) {
        log_event(&s->env->log, log_trouble, .what = SLICE_LIT("open mail directory"),
            .reason = slice_of(err.text));
        buf_printf(&s->io.out,
            "%s NO [UNAVAILABLE] Mail cannot be opened\r\n"
            "* BYE Mail cannot be opened\r\n",
            s->env->tag);
        s->why = "mail cannot be opened";
        s->store = NULL;
        return rc;
    }
    if (store_quota_set(s->store, slice_of(s->env->quota ? s->env->quota : ""), &err))
        log_event(&s->env->log, log_trouble, .what = SLICE_LIT("quota limits"),
            .reason = slice_of(err.text));
    buf_printf(&s->io.out, "%s OK [CAPABILITY ", s->env->tag);
    session_put_capabilities(&s->io.out);
    buf_puts(&s->io.out, "] Logged in\r\n");
    return OK;
}

int session_run(struct session_env *env)
{
    struct session s = {.env = env, .why = "logout", .notify = {.fd = -1}, .room = {.fd = -1}};
    s.message_max = (uint64_t)conf_int(conf_root(env->conf), "message-size");
    s.timeout = (int)MIN(conf_int(conf_one(env->conf, "imap"), "timeout"), INT32_MAX);
    io_init(&s.io, env->fd, env->input);
    arena_init(&s.arena, SESSION_ARENA);
    log_event(&env->log, imap_start, .user = slice_of(env->user), .client = slice_of(env->client),
        .tls = env->tls);
    places_open(&s);
    notify_open(&s);
    if (begin(&s) == OK)
        loop(&s);
    session_unselect(&s);
    places_close(&s);
    if (s.store)
        store_close(s.store);
    if (!s.io.error)
        io_flush(&s.io);
    log_event(&env->log, imap_end, .user = slice_of(env->user), .why = slice_of(s.why),
        .commands = s.commands, .received = s.io.received, .sent = s.io.sent);
    notify_close(&s);
    arena_reset(&s.arena);
    io_clear(&s.io);
    return 0;
}
