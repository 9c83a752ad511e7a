/*
 * remote, the SMTP and LMTP client: what its parts share. A *job* is one message for recipients
 * behind one next hop; a *route* finds the hosts of that next hop; a *session* is a connection
 * to one of them, which carries jobs one after another.
 */
#pragma once

#include "libutil/daemon.h"
#include "libutil/net.h"

struct tls_context;

enum tls_policy { TLS_NEVER, TLS_OPTIONAL, TLS_REQUIRED };

struct remote_settings {
    char hostname[256]; /* our own name, to notice mail that would come back to us */
    char helo[256];
    uint16_t port;
    int64_t connect_ms, reply_ms;
    enum tls_policy tls;
    bool has_source;
    struct net_addr source;
};

struct remote {
    struct daemon *daemon;
    struct remote_settings settings;
    struct tls_context *tls;
    struct list jobs;
    struct list idle; /* sessions kept for the next message */
    size_t active;    /* jobs */
};

/* Reads settings and warms TLS up; sets d->data to a new struct remote. */
int remote_configure(struct daemon *, struct error *);
/* Takes the place of remote_configure in tests. */
struct remote *remote_new(struct daemon *, const struct remote_settings *, struct error *);
void remote_free(struct remote *);
void remote_drain(struct daemon *);
unsigned remote_sessions(struct daemon *);
/* A message from qmgr. */
void remote_message(struct peer *, struct ipc_in *);
/* qmgr has gone: what it gave us is dropped, its successor will give it again. */
void remote_peer_down(struct peer *);
