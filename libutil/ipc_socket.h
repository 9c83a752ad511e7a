/* One record over a SEQPACKET socket, with at most one descriptor. Shared by the event-driven
 * and the blocking end. */
#pragma once

#include "libutil/slice.h"

/* Returns 0, ERR_AGAIN, ERR_LIMIT (too large for the socket), ERR_CLOSED. */
int ipc_socket_send(int sock, struct slice record, int fd);
/* Receives one record into data; *n its length, *fd the descriptor or -1. Surplus descriptors
 * are closed and give ERR_SYNTAX, as does a cut record. ERR_AGAIN, ERR_CLOSED. */
int ipc_socket_receive(int sock, char *data, size_t size, size_t *n, int *fd);
