/* dnsd as a daemon: questions of other processes (libutil/proto/dns.h) to the resolver. */
#pragma once

#include "libutil/daemon.h"

int server_configure(struct daemon *, struct error *);
void server_peer_up(struct peer *);
/* Cancels what the peer had asked. */
void server_peer_down(struct peer *);
void server_request(struct peer *, struct ipc_in *);
