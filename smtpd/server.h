/*
 * One smtpd process: settings, listening sockets, the sessions on them, and the limits on how
 * many there may be.
 */
#pragma once

#include "libutil/daemon.h"
#include "libutil/keysign.h"
#include "libutil/map.h"
#include "libutil/net.h"
#include "libutil/tls.h"
#include "smtpd/verdicts.h"

enum smtp_protocol { PROTOCOL_SMTP, PROTOCOL_SUBMISSION, PROTOCOL_LMTP, PROTOCOL_SUBMIT };
enum smtp_demand { DEMAND_NONE, DEMAND_OPTIONAL, DEMAND_REQUIRED };
enum etrn_policy { ETRN_NONE, ETRN_TRUSTED, ETRN_ALL };
enum smtp_plaintext { PLAINTEXT_NEVER, PLAINTEXT_LOOPBACK, PLAINTEXT_ALWAYS };

/* One listening socket with its settings. */
struct service {
    struct server *server;
    struct list link;
    char name[64];
    char address[256];
    enum smtp_protocol protocol;
    enum smtp_demand tls, auth;
    enum smtp_plaintext plaintext_auth;
    bool implicit_tls; /* TLS from the first byte */
    enum etrn_policy etrn;
    int64_t timeout;        /* ms */
    int64_t future_release; /* ms; 0: not offered */
    unsigned max_errors, max_recipients, max_sessions, max_client_sessions;
    int fd;
    struct io *io;
    struct timer again; /* accepting resumes when this fires */
    unsigned sessions;
};

struct server {
    struct daemon *daemon;
    struct slice hostname;
    uint64_t message_size;
    size_t recipients_size; /* packed, of one message */
    struct net_block *networks;
    size_t nnetworks;
    struct tls_context *tls; /* NULL: no certificate */
    struct keysign keys;
    struct list services;
    struct list sessions;
    unsigned nsessions;
    struct map clients;  /* address -> number of sessions */
    uint64_t qmgr_epoch; /* changes with every new channel to qmgr */
    struct verdicts verdicts;
};

/* The callbacks of the daemon_spec. */
int server_configure(struct daemon *, struct error *);
void server_on_listener(struct daemon *, struct listener *);
void server_qmgr_up(struct peer *);
void server_lookupd(struct peer *, struct ipc_in *);
void server_lookupd_change(struct peer *);
void server_drain(struct daemon *);
unsigned server_sessions(struct daemon *);

/* Reads settings other than the certificate; tests use it without a daemon around it. */
int server_settings(struct server *, struct daemon *, struct error *);
/* Sets a service's values from the listen block of its name, or from the defaults. */
void service_settings(struct service *, const struct conf *, const char *protocol);
/* Whether clients at this address may relay without logging in. */
bool server_trusts(const struct server *, const struct net_addr *);
/* Whether the domain is one that mail is passed on for; with a leading dot: it or one below. */
bool server_relays(const struct server *, struct slice domain);
/* A session has gone. */
void server_forget(struct server *, struct service *, struct slice client, bool loopback);
