/*
 * Delivery to commands: serves DELIVER. A recipient's nexthop says which:
 *
 *     ACCOUNT//|COMMAND   of that account's ~/.forward, or of aliases(5) as pipe { command-user }
 *     command:NAME        the block `command NAME` of the configuration (transport pipe:NAME)
 *     ACCOUNT///FILE      a file of aliases(5), as the same account; FILE/ is a Maildir
 *     discard:            none: the message is thrown away (/dev/null in aliases)
 *
 * The process has the capabilities to change user and nothing else, and reads no mail. The child of
 * each delivery (libmail/delivery.h) becomes the account for good, starts the command, feeds it and
 * waits for it (run.h). A command is run again when the system fails after it ended and before that
 * was noted.
 */
#pragma once

#include "libmail/delivery.h"

int pipe_configure(struct daemon *, struct error *);
