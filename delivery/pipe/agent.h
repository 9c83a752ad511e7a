/*
 * Delivery to commands: serves DELIVER. A recipient's nexthop says which:
 *
 *     ACCOUNT//|COMMAND   of that account's ~/.forward, or of aliases(5) as pipe { command-user }
 *     command:NAME        the block `command NAME` of the configuration (transport pipe:NAME)
 *     discard:            none: the message is thrown away (/dev/null in aliases)
 *
 * The process has the capabilities to change user and nothing else, and reads no mail. For each
 * delivery it forks a child that becomes the account for good, starts the command, feeds it, waits
 * for it (run.h) and reports over a socket pair. A command is run again when the system fails after
 * it ended and before that was noted.
 */
#pragma once

#include "libutil/daemon.h"

enum { PIPE_CHILDREN_MAX = 20, PIPE_CHILDREN_EACH = 4 };

int pipe_configure(struct daemon *, struct error *);
int pipe_start(struct daemon *, struct error *);
void pipe_message(struct peer *, struct ipc_in *);
void pipe_peer_down(struct peer *);
void pipe_drain(struct daemon *);
unsigned pipe_sessions(struct daemon *);
void pipe_children(struct daemon *, struct buf *out);
/* For tests; no child may be running. */
void pipe_free(struct daemon *);
