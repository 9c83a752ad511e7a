/*
 * The session spawner: the frame that imap-session and pop3-session share. It serves SPAWN to
 * the login fronts, redeems each ticket with authd (it never believes the front: I2), and forks
 * a child per session from its own warm image, without exec. The child becomes the mailbox
 * owner for good, is confined to that one mail directory, and runs blocking code.
 *
 * Used by a main.c of a dozen lines:
 *
 *     static const struct spawner_kind kind = {"imap", imap_session};
 *     static int configure(struct daemon *d, struct error *err)
 *     {
 *         return spawner_configure(d, &kind, err);
 *     }
 *     static const struct daemon_spec spec = {
 *         .role = ROLE_IMAP_SESSION, .profile = SPAWNER_PROFILE("imap-session"),
 *         .convs = spawner_convs, .events = imap_events, .configure = configure,
 *         .start = spawner_start, .drain = spawner_drain, .sessions = spawner_sessions,
 *         .children = spawner_children};
 */
#pragma once

#include <signal.h>

#include "libutil/daemon.h"

/* A folder of another user that this one may look at. */
struct session_share {
    const char *owner; /* canonical name */
    const char *mail;  /* his mail directory, as authd grants it */
    const char
        *directory; /* what the folder's is called in the owner's mail directory; INBOX: "." */
    int fd;         /* that directory; INBOX: the one that it has for itself */
    int maildir;    /* INBOX: the mail directory, to walk through to the messages; else 0 */
    bool is_public; /* the owner holds the domain's public folders */
};

/* What a session is given. Everything lives as long as the process. */
struct session_env {
    int fd;     /* the client's bytes, without TLS; blocking */
    int mail;   /* the owner's mail directory, open for *at() calls */
    int notify; /* one end of a channel to notifyd, for ipc_sync_open(..., &notify_proto,
                   IPC_CLIENT): admitted for this owner only; -1: notifyd is away */
    const struct session_share *shares; /* nothing else of others can be reached */
    size_t nshares;
    int wake;           /* the trace id written here makes the spawner look what this user shares;
                           -1: sharing is off */
    int room;           /* for questions about folders of others (proto/room.h); -1: none */
    bool tls;           /* the client is protected by TLS (or an equivalent) */
    bool coexist;       /* other programs change this mailbox too */
    const char *user;   /* canonical name: owner in notify messages */
    const char *quota;  /* the user's limits, as libstore/quota.h reads them */
    const char *client; /* address, for the log */
    const char *tag;    /* imap: of the login command, still to be answered by the session */
    struct slice input; /* what the client sent after its login: to be read before fd */
    const struct conf *conf;
    struct log log; /* carries sid= */
    uint64_t trace; /* the session's id, for IPC */
    /* Set by SIGTERM, which also ends the input on fd: say good-bye. */
    const volatile sig_atomic_t *stopping;
};

struct spawner_kind {
    const char *service; /* as in the ticket: "imap", "pop3" */
    /* Runs the session in the child; the result is the exit status. */
    int (*session)(struct session_env *);
    /* Called once in the parent before the sandbox, to touch what sessions share; may be NULL. */
    int (*warm_up)(struct daemon *, struct error *);
};

#define SPAWNER_PROFILE(program)                                                           \
    {                                                                                      \
        .name = (program), .account = "veredus-mail", .root = SANDBOX_ROOT_HOST,           \
        .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE | SANDBOX_FORK | SANDBOX_SETID | \
                 SANDBOX_SOCKETPAIR | SANDBOX_INSTALL,                                     \
        .keep_caps = SANDBOX_CAP_SETUID | SANDBOX_CAP_SETGID | SANDBOX_CAP_CHROOT,         \
        .uid_floor = 1000                                                                  \
    }

extern const struct daemon_conv spawner_convs[];

int spawner_configure(struct daemon *, const struct spawner_kind *, struct error *) MUST_USE;
int spawner_start(struct daemon *, struct error *) MUST_USE;
/* Takes no new sessions; exits when the last has ended. */
void spawner_drain(struct daemon *);
unsigned spawner_sessions(struct daemon *);
void spawner_children(struct daemon *, struct buf *out);
