/*
 * authd as a daemon: logins, tickets and questions after users (libmail/proto/auth.h).
 *
 * A login passes: limits -> users table -> cache of verified credentials -> a thread that hashes
 * -> verdict, held back when it is a refusal. A user who does not exist is hashed all the same,
 * so that the answer takes as long.
 */
#pragma once

#include "libutil/daemon.h"

int server_configure(struct daemon *, struct error *);
int server_start(struct daemon *, struct error *);
void server_message(struct peer *, struct ipc_in *);
/* Forgets whom to answer. */
void server_peer_down(struct peer *);
void server_free(struct daemon *);
