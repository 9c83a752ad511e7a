/* Records over a SEQPACKET socket, each with at most one descriptor. Shared by the event-driven
 * and the blocking end. */
#pragma once

#include "libutil/slice.h"

enum { IPC_BATCH = 16 };

struct ipc_record {
    char *data;
    size_t n; /* length; before receiving, the room */
    int fd;   /* -1: none */
    int code; /* received: OK, or ERR_SYNTAX for a cut record or surplus descriptors (closed) */
};

/* Sends up to IPC_BATCH records with one system call. Returns how many were taken (0: would
 * block), ERR_LIMIT (the first is too large for the socket) or ERR_CLOSED. */
int ipc_socket_send(int sock, const struct ipc_record *records, unsigned n);
/* Receives up to IPC_BATCH records with one system call. Returns how many there were (0: none
 * now) or ERR_CLOSED; an end after some records is told by the next call. */
int ipc_socket_receive(int sock, struct ipc_record *records, unsigned n);
