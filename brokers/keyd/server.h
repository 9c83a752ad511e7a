/* keyd as a daemon: configuration in, signatures out (libutil/proto/sign.h). */
#pragma once

#include "libutil/daemon.h"

/* Loads the keys named in the configuration; a key that cannot be used stops the start. */
int server_configure(struct daemon *, struct error *);
void server_request(struct peer *, struct ipc_in *);
