/*
 * One logged-in IMAP connection (RFC 3501 and the extensions in session_capabilities), in a
 * process of its own, blocking.
 *
 * States: authenticated -> selected (SELECT, EXAMINE) -> authenticated (CLOSE, UNSELECT, a failed
 * SELECT) ...; any -> logout (LOGOUT, time-out, too many errors, dead connection). The only
 * functions that change it are session_select and session_unselect, and `over`.
 */
#pragma once

#include "imapd/session/args.h"
#include "imapd/session/io.h"
#include "libmail/spawner.h"
#include "libstore/store.h"

enum {
    SESSION_LINE_MAX = 65536,        /* a command without its literals */
    SESSION_COMMAND_MAX = 128 << 10, /* with them */
    SESSION_LITERAL_MAX = 65536,     /* one literal of a command other than APPEND's message */
    SESSION_ARENA = 64 << 20,        /* memory of one command */
    SESSION_ERRORS_MAX = 20          /* bad commands in a row */
};

struct share;
struct place;

struct session {
    const struct session_env *env;
    struct io io;
    struct store *store;
    struct arena arena; /* of the command */
    uint64_t message_max;
    int timeout; /* ms a client may be silent (RFC 3501 §5.4) */

    struct share *shares; /* folders of others */
    size_t nshares;

    struct share *selected;   /* NULL: mb is a folder of ours */
    struct store_mailbox *mb; /* NULL: authenticated; else selected */
    struct slice folder;      /* its name; owned */
    uint32_t exists, recent;  /* as announced */
    size_t keywords;          /* announced */

    struct ipc_sync notify; /* notify.fd < 0: no channel */
    struct ipc_sync room;   /* to the spawner; room.fd < 0: not opened yet, or gone */
    bool room_used;
    unsigned errors;
    unsigned commands;
    bool utf8;       /* UTF8=ACCEPT is enabled */
    bool over;       /* no more commands */
    const char *why; /* for the log */
};

/* The whole session; for struct spawner_kind. */
int session_run(struct session_env *);

/* Appends what is advertised. */
void session_put_capabilities(struct buf *);

/* Opens a folder, leaving the one before. */
int session_select(
    struct session *, struct slice name, const struct place *, bool read_only, struct error *);
void session_unselect(struct session *);
/* The server asked us to end: input has ended too. */
bool session_stopping(const struct session *);

/* A command being carried out. */
struct command {
    struct session *s;
    struct slice tag;
    struct slice name; /* as typed */
    struct args args;
    bool uid;                /* prefixed with UID */
    struct literal *message; /* APPEND: the announced literal, not yet read */
    /* The tagged response; `code` is a response code without brackets, or empty. */
    const char *status;
    struct slice code;
    char text[256];
};

/* The announced literal of an APPEND. */
struct literal {
    uint64_t size; /* what is left of it */
    bool sync;     /* the client waits for "+" */
};

/* Set the tagged response. They return nothing so that a handler can end with them. */
void command_ok(struct command *, const char *fmt, ...) PRINTF_LIKE(2, 3);
void command_no(struct command *, const char *code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* BAD with the parser's reason. */
void command_bad(struct command *);
/* NO for an error of the store, with the response code of RFC 5530 that fits. */
void command_error(struct command *, int rc, const struct error *);

/* Reads a command into *text (without its last line end), with literals in place, up to an
 * APPEND's message, which is announced in *message. OK, or: ERR_SYNTAX, ERR_LIMIT: answered and
 * passed over; else the connection is over. */
int command_read(struct session *, struct buf *text, struct literal *message, bool *has_message);
/* Reads what is left of a command behind a literal. *is_last (may be NULL): it was this text and the
 * line end. Literals that stand there, and that the client sends without waiting, are passed over,
 * so that none is taken for a command. */
int command_rest(struct session *, const char *last, bool *is_last);
/* Carries out and answers one command. */
void command_run(struct session *, struct slice text, struct literal *message);

/* Untagged responses for what changed in the selected mailbox (RFC 3501 §7.3, §7.4.1). */
void updates_send(struct session *, bool may_expunge, bool with_uid);
/* "FLAGS (...)" of a message, without leading space. */
void updates_put_flags(struct session *, const struct store_msg *);
/* "* FLAGS (...)" and "* OK [PERMANENTFLAGS (...)]". */
void updates_announce_keywords(struct session *);
/* Counts \Recent anew. */
uint32_t updates_count_recent(struct session *);

/* The sequence numbers a set means in the selected mailbox. False, with args.wrong set, when a
 * number is out of range. Freed with the command's arena. */
bool command_sequence(struct command *, const struct seq_set *, struct uidset **seqs);
/* The UIDs of these messages. */
struct uidset *command_uids(struct command *, const struct uidset *seqs);
/* An empty set that is freed with the command's arena; NULL when that is full. */
struct uidset *command_set(struct command *);

/* The channel to notifyd. notify_open tells it which folders of others are open to us, before
 * anything of the client's is read. */
void notify_open(struct session *);
void notify_close(struct session *);
void notify_changed_folder(void *session, struct slice folder, uint64_t sequence);
/* The same for a folder of others. */
void notify_changed_share(void *share, struct slice folder, uint64_t sequence);
/* Watches the selected folder, until notify_unwatch. */
void notify_watch_selected(struct session *);
void notify_unwatch(struct session *);
/* Forgets the events that came. */
void notify_drain(struct session *);

/* Handlers, by command family. */
void cmd_capability(struct command *);
void cmd_noop(struct command *);
void cmd_logout(struct command *);
void cmd_id(struct command *);
void cmd_enable(struct command *);
void cmd_namespace(struct command *);
void cmd_idle(struct command *);

void cmd_select(struct command *);
void cmd_examine(struct command *);
void cmd_close(struct command *);
void cmd_unselect(struct command *);
void cmd_status(struct command *);

void cmd_create(struct command *);
void cmd_delete(struct command *);
void cmd_rename(struct command *);
void cmd_subscribe(struct command *);
void cmd_unsubscribe(struct command *);
void cmd_getquota(struct command *);
void cmd_getquotaroot(struct command *);
void cmd_setquota(struct command *);
void cmd_getmetadata(struct command *);
void cmd_setmetadata(struct command *);
void cmd_getacl(struct command *);
void cmd_setacl(struct command *);
void cmd_deleteacl(struct command *);
void cmd_listrights(struct command *);
void cmd_myrights(struct command *);

void cmd_list(struct command *);
void cmd_lsub(struct command *);

void cmd_append(struct command *);
void cmd_store(struct command *);
void cmd_copy(struct command *);
void cmd_move(struct command *);
void cmd_expunge(struct command *);
void cmd_fetch(struct command *);
void cmd_search(struct command *);
