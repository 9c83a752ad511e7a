/* lookupd as a daemon: routes for smtpd and bounce (libmail/proto/route.h). */
#pragma once

#include "libutil/daemon.h"

int server_configure(struct daemon *, struct error *);
/* Whether the tables can still be read with the rights that are left. */
int server_start(struct daemon *, struct error *);
void server_message(struct peer *, struct ipc_in *);
void server_peer_down(struct peer *);
/* An smtpd; authd's messages; authd has gone or come. */
void server_peer_up(struct peer *);
void server_authd(struct peer *, struct ipc_in *);
void server_authd_change(struct peer *);
