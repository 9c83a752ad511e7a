/*
 * The processes of the system: one row each. The name is the program's file name and what logs
 * and `veredus status` show. One binary = one uid = one sandbox profile = one folder.
 */
#pragma once

#include "libutil/base.h"

/*  R(enum, program, account when started as root, number of processes; 0: what the `workers` block says) */
#define ROLES(R)                                                                                   \
    R(LOGD, "logd", "veredus-log", 1)                                                              \
    R(KEYD, "keyd", "veredus-key", 1)                                                              \
    R(DNSD, "dnsd", "veredus-dns", 1)                                                              \
    R(AUTHD, "authd", "veredus-auth", 1)                                                           \
    R(LOOKUPD, "lookupd", "veredus-map", 1)                                                        \
    R(NOTIFYD, "notifyd", "veredus-login", 1)                                                      \
    R(QMGR, "qmgr", "veredus-q", 1)                                                                \
    R(BOUNCE, "bounce", "veredus", 1)                                                              \
    R(VIRTUAL, "virtual", "veredus-mail", 0)                                                       \
    R(LOCAL, "local", "veredus-mail", 1)                                                           \
    R(PIPE, "pipe", "veredus-mail", 1)                                                             \
    R(HOUSE, "house", "veredus-mail", 1)                                                           \
    R(REMOTE, "remote", "veredus-out", 0)                                                          \
    R(SMTPD, "smtpd", "veredus", 0)                                                                \
    R(IMAP_SESSION, "imap-session", "veredus-mail", 1)                                             \
    R(POP3_SESSION, "pop3-session", "veredus-mail", 1)                                             \
    R(IMAP_LOGIN, "imap-login", "veredus-login", 0)                                                \
    R(POP3_LOGIN, "pop3-login", "veredus-login", 0)

#define ROLE_ENUM_(id, program, account, count) ROLE_##id,
enum role { ROLES(ROLE_ENUM_) ROLE_COUNT, ROLE_MASTER = ROLE_COUNT, ROLE_CTL, ROLE_ANY_COUNT };
#define ROLE_BIT(role) ((uint64_t)1 << (role))

struct role_info {
    const char *program;
    const char *account;
    unsigned workers;
};

const struct role_info *role_info(enum role);
/* The role with this program name, or -1. */
int role_find(const char *program);

/* The conversations that are wired between them. libmail/proto and libutil/proto declare them. */
enum conversation {
    CONV_LOG,     /* records to logd, not IPC messages */
    CONV_SIGN,    /* signatures from keyd */
    CONV_DNS,     /* names from dnsd */
    CONV_AUTH,    /* credentials and users from authd */
    CONV_ROUTE,   /* where an address goes, from lookupd */
    CONV_NOTIFY,  /* mailbox changes through notifyd */
    CONV_INJECT,  /* new messages into qmgr */
    CONV_DELIVER, /* work from qmgr to an agent */
    CONV_QUOTA,   /* is there room in a mailbox, from virtual */
    CONV_SHARE,   /* folders administered for somebody else, by virtual */
    CONV_SPAWN,   /* logged-in connections from a login front to its session spawner */
    CONV_QUEUE,   /* administration of the queue, from ctl */
    CONV_COUNT
};
