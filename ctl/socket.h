/* The two sockets of an instance in the file system: DIR/run/control and DIR/run/submit. */
#pragma once

#include "libutil/error.h"

/* Connects to DIR/run/NAME with this socket type. Returns the descriptor, ERR_CLOSED when
 * nothing is running there, or another error. */
int socket_connect(const char *directory, const char *name, int type, struct error *);
