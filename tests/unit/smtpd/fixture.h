/* Sessions on a fake loop: the test is the client, lookupd, qmgr and authd. */
#pragma once

#include "libmail/proto/auth.h"
#include "libmail/proto/inject.h"
#include "libmail/proto/route.h"
#include "smtpd/session.h"

struct fixture {
    struct daemon daemon;
    struct server server;
    struct service service;
    struct peer peers[3];
    struct ipc *others[3];
    int client; /* our end of the connection */
    struct buf replies;
    /* what qmgr got */
    struct buf envelope, recipients, body;
    unsigned accepts, drops, opens, mores;
    char etrn[260]; /* what ETRN asked for */
    int body_file;
    /* how the others behave */
    unsigned qmgr_code;
    bool qmgr_silent, lookup_silent, no_file;
    uint32_t held; /* request of a silent one */
    struct buf password;
};

extern struct fixture f;

int setup(void **state);
int teardown(void **state);

/* Lets everybody work until nothing happens any more. */
void spin(void);
void send_bytes(struct slice s);
void say(const char *text);
/* The codes of all replies since the last call: "250 354"; continuation lines do not count. */
void expect(const char *codes);
bool reply_has(const char *text);
bool body_has(const char *text);
/* Whether the server has closed the connection. */
bool ended(void);
/* A new session on a listener of this name and protocol. */
void connect_client(const char *protocol, const char *address);
/* One from loopback that has said EHLO. */
void hello(void);
/* MAIL and one RCPT. */
void envelope(void);
