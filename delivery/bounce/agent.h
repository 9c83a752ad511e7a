/* The bounce agent: one job a report: route the sender's address, build, queue, answer. */
#pragma once

#include "libutil/daemon.h"

int bounce_configure(struct daemon *, struct error *);
void bounce_message(struct peer *, struct ipc_in *);
void bounce_peer_down(struct peer *);
void bounce_drain(struct daemon *);
unsigned bounce_sessions(struct daemon *);
