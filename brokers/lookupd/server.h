/* lookupd as a daemon: routes for smtpd and bounce (libmail/proto/route.h). */
#pragma once

#include "libutil/daemon.h"

int server_configure(struct daemon *, struct error *);
/* Whether the tables can still be read with the rights that are left. */
int server_start(struct daemon *, struct error *);
void server_message(struct peer *, struct ipc_in *);
void server_peer_down(struct peer *);
